"""The outer loop: exact resume, the ways to stop, own models and environments, many seeds in one program."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from safetensors.numpy import load_file

import policygrad as pg
from policygrad.models.distributions import Categorical
from policygrad.run import train as loop
from policygrad.run.api import begin
from policygrad.run.record import RunError, read_metrics
from policygrad.run.train import Best
from policygrad.types import Output

WINDOWS = {"env": "chain", "algo": "a2c", "n_envs": 4, "n_steps": 5, "net": (8,), "total_timesteps": 400}
EPISODES = {**WINDOWS, "env": "probe:memory", "algo": "reinforce-value", "max_episode_steps": 8}
TINY = {"out": None, "eval_every": 0, "n_envs": 4, "n_steps": 5, "total_timesteps": 20}
WATCH = {"log_every": 50, "eval_every": 100, "eval_episodes": 4, "tensorboard": False}


def stop_at(steps):
    """A callback that behaves like Ctrl-C once ``steps`` are reached."""

    def callback(row):
        if row["time/total_timesteps"].min() >= steps:
            os.kill(os.getpid(), signal.SIGINT)

    return callback


def assert_same_run(one, other):
    """Bit for bit, but for the clock."""
    for name in ("last", "best"):
        ours, theirs = (load_file(path / "checkpoints" / f"{name}.safetensors") for path in (one, other))
        assert ours.keys() == theirs.keys()
        for leaf in ours:
            assert ours[leaf].tobytes() == theirs[leaf].tobytes(), (name, leaf)
    ours, theirs = read_metrics(one), read_metrics(other)
    assert ours.keys() == theirs.keys()
    for key in ours.keys() - {"time/fps"}:
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


@pytest.mark.parametrize(
    ("kind", "seeds"),
    [
        (WINDOWS, 1),
        (EPISODES, 1),
        pytest.param(WINDOWS, 2, marks=pytest.mark.slow),
        pytest.param(EPISODES, 2, marks=pytest.mark.slow),
    ],
    ids=["windows-1", "episodes-1", "windows-2", "episodes-2"],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(tmp_path, kind, seeds):
    whole = pg.train(**kind, **WATCH, seeds=seeds, path=tmp_path / "whole")
    with pytest.raises(pg.Interrupted, match="saved in") as stopped:
        pg.train(**kind, **WATCH, seeds=seeds, path=tmp_path / "half", callback=stop_at(170))
    assert stopped.value.signum == signal.SIGINT
    half = pg.load(tmp_path / "half", checkpoint="last")
    assert 170 <= half.env_steps.min() < 400 and not half.finished
    resumed = pg.resume(tmp_path / "half", tensorboard=False)
    assert resumed.finished
    assert_same_run(tmp_path / "whole", tmp_path / "half")
    for key, values in whole.history.items():
        if key != "time/fps":
            np.testing.assert_allclose(resumed.history[key], values, err_msg=key)


def test_the_log_means_what_it_says(tmp_path):
    run = pg.train(**WINDOWS, **WATCH, path=tmp_path / "run")
    rows = run.history
    assert (rows["train/entropy"] > 0).all() and (rows["train/entropy"] <= np.log(2) + 1e-6).all()
    assert (rows["train/grad_norm"] > 0).all() and (rows["train/value_loss"] >= 0).all()
    np.testing.assert_allclose(rows["train/learning_rate"], 7e-4, rtol=1e-6)
    lengths, returns = rows["rollout/ep_len_mean"], rows["rollout/ep_rew_mean"]
    assert np.nanmin(lengths) >= 4 and np.nanmax(lengths) <= 100
    assert np.nanmin(returns) >= 0 and np.nanmax(returns) == 1
    assert rows["time/total_timesteps"][-1] == 400
    assert np.isfinite(rows["eval/mean_reward"]).sum() == 4
    assert (tmp_path / "run" / "curve.png").exists()


class Poisoned(pg.Env):
    """Pays 1, and NaN on the 50th step of an episode that has no end."""

    observation_space, action_space, time_limit = spaces.Box(-1, 1, (1,)), spaces.Discrete(2), None

    def reset(self, noise):
        return jnp.zeros((), jnp.int32), jnp.zeros(1)

    def step(self, noise, state, action):
        state = state + 1
        return state, jnp.zeros(1), jnp.where(state == 50, jnp.nan, 1.0), jnp.zeros((), bool)


def test_a_broken_reward_stops_the_run_and_keeps_the_last_good_state(tmp_path):
    env = Poisoned()
    options = {**WINDOWS, "env": env, "log_every": 60, "eval_every": 0, "tensorboard": False}
    with pytest.raises(pg.TrainingDiverged, match="after environment step 180: check the environment's rewards"):
        pg.train(**options, path=tmp_path / "run")
    kept = pg.load(tmp_path / "run", env=env, checkpoint="last")
    assert kept.env_steps.tolist() == [180]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(kept.policy.model, eqx.is_array)))
    assert kept.recipe.env == "Poisoned"


def test_a_good_enough_evaluation_ends_the_run(tmp_path):
    options = {**WINDOWS, **WATCH, "env": "probe:constant"}
    run = pg.train(**options, stop_reward=0.5, path=tmp_path / "run")
    assert run.env_steps.tolist() == [100] and run.finished
    assert run.best_reward.tolist() == [1.0] and run.summary()["mean"] == 1.0
    again = pg.resume(tmp_path / "run")
    assert again.env_steps.tolist() == [100] and again.reached_stop
    onwards = pg.resume(tmp_path / "run", stop_reward=None, tensorboard=False)
    assert onwards.env_steps.tolist() == [400] and onwards.recipe.stop_reward is None


def test_an_update_that_passes_several_marks_is_evaluated():
    """Windows of 20 steps, which are no divisor of the intervals."""
    run = pg.train(**WINDOWS, **{**WATCH, "log_every": 7, "eval_every": 50}, out=None)
    measured = np.isfinite(run.history["eval/mean_reward"][:, 0])
    assert run.history["time/total_timesteps"][measured, 0].tolist() == [60, 100, 160, 200, 260, 300, 360, 400]


def test_a_callback_ends_the_run():
    rows = []
    run = pg.train(**WINDOWS, **WATCH, out=None, callback=lambda row: rows.append(row) or np.less(len(rows), 2))
    assert run.env_steps.tolist() == [100] and run.path is None
    assert repr(run) == "<Run a2c on chain, 1 seed, 100 steps, in memory>"


def test_a_callback_that_says_nothing_goes_on():
    run = pg.train(**WINDOWS, **WATCH, out=None, callback=lambda row: None)
    assert run.env_steps.tolist() == [400]


class Linear(eqx.Module):
    """The smallest model: logits linear in the observation, no critic."""

    weight: jax.Array

    def initial(self):
        return None

    def __call__(self, input, carry):
        return Output(Categorical(self.weight @ input.obs), None, jnp.zeros(())), carry


def test_an_own_model_learns(tmp_path):
    options = {**WATCH, "algo": "reinforce-togo", "n_envs": 8, "total_timesteps": 400, "learning_rate": 0.1}
    options["max_episode_steps"] = 2

    class Sees(pg.Env):
        """``probe:action`` with an observation that is 1."""

        observation_space, action_space, time_limit = spaces.Box(-1, 1, (1,)), spaces.Discrete(2), None

        def reset(self, noise):
            return jnp.zeros(()), jnp.ones(1)

        def step(self, noise, state, action):
            return state, jnp.ones(1), jnp.where(action == 1, 1.0, -1.0), jnp.ones((), bool)

    model = Linear(jnp.zeros((2, 1)))
    run = pg.train(**{**options, "env": Sees()}, model=model, path=tmp_path / "run")
    weight = run.models[0].weight
    assert weight.shape == (2, 1) and weight[1, 0] > weight[0, 0] + 0.5
    assert run.policy.predict(np.ones(1))[0] == 1
    again = pg.load(tmp_path / "run", env=run.env, model=model)
    np.testing.assert_array_equal(again.models[0].weight, weight)
    with pytest.raises(RunError, match=r"an environment object, of the class Sees: load it in Python, with env=\.\.\."):
        pg.load(tmp_path / "run", model=model)
    for go_on in (pg.load, pg.resume):
        with pytest.raises(pg.RecipeError, match=r"which no file can hold: pass it in Python, with model=\.\.\."):
            go_on(tmp_path / "run", env=run.env)


class Wrong(Linear):
    """A model with one thing replaced: what ``fault`` returns for ``(output, carry)``."""

    fault: Callable = eqx.field(static=True)

    def __call__(self, input, carry):
        return self.fault(*super().__call__(input, carry))


class Forgetful(eqx.Module):
    def __call__(self, input, carry):
        return None


BAD_MODELS = [
    (7, "model is a int: give an eqx.Module, or a function key -> eqx.Module"),
    (lambda key: 7, r"model\(key\) made a int: it must make an eqx.Module"),
    (Forgetful(), "Forgetful has no method initial: write"),
    (Linear(jnp.zeros((2, 3))), r"cannot be called with an observation of shape \(4,\): TypeError"),
    (Linear(jnp.zeros((3, 4))), r"the model has 3 logits, and the action space is Discrete\(2\)"),
    (lambda output, carry: output, "the model returned a Output: it must return"),
    (lambda output, carry: (output.value, carry), "it must return"),
    (lambda output, carry: (output._replace(distribution=jnp.zeros(2)), carry), "an array of shape"),
    (lambda output, carry: (output._replace(value=jnp.zeros(1)), carry), r"it must be one number, of shape \(\)"),
    (lambda output, carry: (output._replace(value=None), carry), "value is a NoneType: it must be one number"),
    (lambda output, carry: (output, jnp.zeros(3)), "the model's carry changes its structure"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_MODELS, ids=[message[:30] for _, message in BAD_MODELS])
def test_a_bad_model_is_one_sentence(tmp_path, bad, message):
    model = Wrong(jnp.zeros((2, 4)), bad) if getattr(bad, "__code__", None) and bad.__code__.co_argcount == 2 else bad
    with pytest.raises(pg.RecipeError, match=message) as error:
        pg.train("CartPole-v1", "reinforce-togo", model=model, path=tmp_path / "run")
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_bad_model_is_one_sentence_on_the_host_too():
    with pytest.raises(pg.RecipeError, match=r"the model has 3 logits, and the action space is Discrete\(2\)"):
        pg.train("gym:CartPole-v1", "a2c", model=Linear(jnp.zeros((3, 4))), out=None)


def test_an_own_model_leaves_nothing_to_the_options_of_ours():
    for option in ({"net": (8,)}, {"activation": "relu"}, {"policy": "gru"}, {"normalize_obs": True}):
        with pytest.raises(pg.RecipeError, match=f"{next(iter(option))} belongs to the built-in models"):
            pg.train("CartPole-v1", "reinforce-togo", model=Linear(jnp.zeros((2, 4))), out=None, **option)
    with pytest.raises(pg.RecipeError, match="pass it in Python, with model="):
        pg.train("CartPole-v1", "a2c", policy="own", out=None)


def test_many_seeds_are_the_runs_of_each_seed():
    few = {**WINDOWS, "total_timesteps": 60, "eval_every": 0, "out": None}
    together = pg.train(**few, seeds=2, seed=3)
    for i, model in enumerate(together.models):
        alone = pg.train(**few, seed=3 + i).models[0]
        leaves = (jax.tree.leaves(eqx.filter(one, eqx.is_array)) for one in (model, alone))
        for ours, theirs in zip(*leaves):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_evaluation_is_reproducible():
    run = pg.train(**WINDOWS, out=None, eval_every=0)
    play = lambda **how: pg.evaluate(run.policy, run.env, episodes=6, **how).lengths  # noqa: E731
    sampled = play(deterministic=False, seed=5)
    np.testing.assert_array_equal(sampled, play(deterministic=False, seed=5))
    assert (sampled != play(deterministic=False, seed=6)).any()
    with pytest.raises(pg.RecipeError, match="episodes must be at least 1"):
        pg.evaluate(run, run.env, episodes=0)
    with pytest.raises(pg.RecipeError, match="observation space is"):
        pg.evaluate(run, "grid")


def test_the_time_limit_of_training_is_that_of_evaluation():
    """An episode of ``CartPole-v1`` lasts for 8 steps at least."""
    run = pg.train("CartPole-v1", "a2c", **{**TINY, "net": (8,), "max_episode_steps": 4})
    for env in ("gym:CartPole-v1", "CartPole-v1", run.env):
        assert pg.evaluate(run, env, episodes=3).lengths.tolist() == [4, 4, 4]
        assert run.evaluate(env, episodes=2)[0].lengths.tolist() == [4, 4]
    assert pg.evaluate(run, "gym:CartPole-v1", episodes=2, max_episode_steps=6).lengths.tolist() == [6, 6]
    assert pg.evaluate(run.policy, "gym:CartPole-v1", episodes=2).lengths.min() > 6


def test_a_run_without_a_checkpoint_leaves_no_folder(tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("before the first mark")

    monkeypatch.setattr("policygrad.run.train.check_finite", fail)
    with pytest.raises(RuntimeError, match="before the first mark"):
        pg.train(**WINDOWS, **WATCH, path=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_who_is_stopped_before_the_first_update_has_nothing_to_log(tmp_path):
    """As workers are, or an environment that is slow: nothing was learned, so there is no row, and no rate to divide
    by."""
    run = begin("chain", "a2c", **{**TINY, "out": tmp_path})
    stop = loop.Stop()
    fit, real = run._fit, run.program.advance

    def advance(state, steps):
        stop.signum = signal.SIGTERM
        return state, jax.tree.map(lambda x: np.zeros(x.shape), jax.eval_shape(real, state, steps)[1])

    fit.program = dataclasses.replace(fit.program, advance=advance)
    with pytest.raises(loop.Interrupted, match=r"stopped at 0 of 20 steps; saved in ") as ended:
        loop.play_and_learn(fit, stop, lambda row: pytest.fail("a row"), False)
    assert ended.value.signum == signal.SIGTERM and not fit.history
    assert pg.resume(fit.directory.path, tensorboard=False).env_steps.tolist() == [20]


def test_a_callback_that_fails_loses_nothing(tmp_path):
    def fail(row):
        raise RuntimeError("my own callback")

    with pytest.raises(RuntimeError, match="my own callback"):
        pg.train(**WINDOWS, **WATCH, path=tmp_path / "run", callback=fail)
    assert pg.load(tmp_path / "run", checkpoint="last").env_steps.tolist() == [60]


def test_a_resumed_run_keeps_its_recipe(tmp_path):
    pg.train(**WINDOWS, **WATCH, path=tmp_path / "run")
    with pytest.raises(pg.RecipeError, match="gamma cannot change, only total_timesteps, stop_reward, workers"):
        pg.resume(tmp_path / "run", gamma=0.5)
    longer = pg.resume(tmp_path / "run", total_timesteps=500, tensorboard=False)
    assert longer.env_steps.tolist() == [500]
    assert pg.load(tmp_path / "run").recipe.total_timesteps == 500


def test_an_edited_recipe_is_not_believed(tmp_path):
    pg.train(**WINDOWS, **WATCH, path=tmp_path / "run")
    file = tmp_path / "run" / "recipe.json"
    recipe = json.loads(file.read_text())
    file.write_text(json.dumps({**recipe, "gamma": 0.5}))
    for go_on in (pg.load, pg.resume):
        with pytest.raises(RunError, match=r"says gamma=0.5, and last.safetensors was trained with gamma=0.99"):
            go_on(tmp_path / "run")
    for nonsense in ("[1, 2]", "7", "null"):
        file.write_text(nonsense)
        with pytest.raises(RunError, match="is no JSON object; restore it"):
            pg.load(tmp_path / "run")
    file.write_text(json.dumps({**recipe, "total_timesteps": 300, "stop_reward": 9.0}))
    assert pg.load(tmp_path / "run").recipe.stop_reward == 9.0


def test_of_equal_evaluations_the_last_is_kept_and_what_is_no_number_never_is():
    one, two, three = ({"w": jnp.full((2,), x)} for x in (1.0, 2.0, 3.0))
    best = Best(one, 2)
    assert best.offer(two, np.array([5.0, np.nan]), np.array([10, 10]))
    assert best.params["w"].tolist() == [2, 1] and best.reward.tolist() == [5, -np.inf]
    assert best.offer(three, np.array([5.0, -7.0]), np.array([20, 20]))
    assert best.params["w"].tolist() == [3, 3] and best.step.tolist() == [20, 20]
    assert not best.offer(one, np.array([4.9, np.nan]), np.array([30, 30])) and best.params["w"].tolist() == [3, 3]
