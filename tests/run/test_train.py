"""The outer loop: exact resume, the ways to stop, own models and environments, many seeds in one program."""

import os
import signal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from safetensors.numpy import load_file

import policygrad as pg
from policygrad.models.distributions import Categorical
from policygrad.run.record import read_metrics
from policygrad.types import Output

WINDOWS = {"env": "chain", "algo": "a2c", "n_envs": 4, "n_steps": 5, "net": (8,), "total_timesteps": 400}
EPISODES = {**WINDOWS, "env": "probe:memory", "algo": "reinforce-value", "max_episode_steps": 8}
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


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("kind", [WINDOWS, EPISODES], ids=["windows", "episodes"])
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
    assert pg.resume(tmp_path / "run").env_steps.tolist() == [100]


def test_a_callback_ends_the_run():
    rows = []
    run = pg.train(**WINDOWS, **WATCH, out=None, callback=lambda row: rows.append(row) or len(rows) < 2)
    assert run.env_steps.tolist() == [100] and run.path is None


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


def test_a_run_without_a_checkpoint_leaves_no_folder(tmp_path):
    def fail(row):
        raise RuntimeError("my own callback")

    with pytest.raises(RuntimeError, match="my own callback"):
        pg.train(**WINDOWS, **WATCH, path=tmp_path / "run", callback=fail)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_its_recipe(tmp_path):
    pg.train(**WINDOWS, **WATCH, path=tmp_path / "run")
    with pytest.raises(pg.RecipeError, match="gamma cannot change, only total_timesteps can"):
        pg.resume(tmp_path / "run", gamma=0.5)
    longer = pg.resume(tmp_path / "run", total_timesteps=500, tensorboard=False)
    assert longer.env_steps.tolist() == [500]
    assert pg.load(tmp_path / "run").recipe.total_timesteps == 500
