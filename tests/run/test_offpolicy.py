"""Learning from a dataset: what the data's own policy logged is what we compute, it learns, it resumes, it refuses."""

from functools import partial

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train import assert_same_run, stop_at

import policygrad as pg
from policygrad.models import make_model
from policygrad.run import notes
from policygrad.run.api import data_of, offpolicy
from policygrad.run.offpolicy import OVERLAP, undone, with_propensities
from policygrad.run.ope import ope
from policygrad.run.policy import Policy
from policygrad.run.recipes import RecipeError, make_recipe
from policygrad.run.recording import record
from policygrad.storage import datasets

PROBE = "probe:observation-action"
TINY = {"net": (8,), "n_envs": 32, "tensorboard": False, "eval_episodes": 16, "learning_rate": 0.02}
MODELS = {
    "gru": ("probe:memory", {"policy": "gru"}),
    "frames": ("probe:memory", {"frames": 2}),
    "gaussian": ("probe:observation-action-continuous", {}),
    "time to go": ("chain", {"policy": "tabular", "horizon": 9}),
}


def fresh(name, options=None, seed=0):
    """A policy with random parameters, far from uniform."""
    env, options = pg.make(name), dict(options or {})
    seen = pg.remember(env) if options.get("policy") == "gru" else env
    model = make_model(seen.observation_space, seen.action_space, key=jax.random.key(seed), net=(8,), **options)
    rng = np.random.default_rng(seed)
    model = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape) if eqx.is_inexact_array(x) else x, model)
    return Policy(model, env.observation_space, env.action_space, remembers=options.get("policy") == "gru")


def untrained():
    """A policy that is nearly uniform."""
    env = pg.make(PROBE)
    model = make_model(env.observation_space, env.action_space, key=jax.random.key(3), net=(8,))
    return Policy(model, env.observation_space, env.action_space)


@pytest.fixture(scope="module")
def data():
    """200 episodes of one step each, by such a policy."""
    return record(untrained(), PROBE, episodes=200)


@pytest.mark.parametrize("kind", [*MODELS, pytest.param("mlp", marks=pytest.mark.slow)])
def test_what_was_logged_is_what_is_seen(kind):
    """Memory, last actions, time and clipped actions: log π of the data's own policy is log μ, row by row."""
    name, options = MODELS.get(kind, ("CartPole-v1", {}))
    policy = fresh(name, options)
    played = record(policy, name, episodes=6, max_episode_steps=9)
    assert np.ptp(played.log_mu) > 1e-3
    again = with_propensities(played._replace(log_mu=None), policy)
    np.testing.assert_allclose(again.log_mu, played.log_mu, atol=2e-5)


@pytest.mark.parametrize(
    "correction", ["self_normalized", *(pytest.param(x, marks=pytest.mark.slow) for x in ("vtrace", "decision"))]
)
def test_it_learns_what_the_data_can_teach(data, correction):
    """Chance is 0, the best is 1; 8,000 rows are 250 updates."""
    run = offpolicy(PROBE, data, out=None, total_timesteps=8000, correction=correction, seed=1, **TINY)
    assert abs(data.returns.mean()) < 0.2 and run.best_reward > 0.9
    history = run.history
    assert history[OVERLAP][0] > 0.9 and 0.4 < history[OVERLAP][-1] < 0.8  # half of the episodes have the right action
    assert np.isnan(history["rollout/ep_rew_mean"]).all() and np.isfinite(history["train/approx_kl"]).all()


def test_a_stopped_run_goes_on_as_if_nothing_had_been(tmp_path, data):
    file = tmp_path / "data.safetensors"
    datasets.save(file, data)
    how = {**TINY, "total_timesteps": 1280, "log_every": 64, "eval_every": 320}
    offpolicy(PROBE, file, path=tmp_path / "whole", **how)
    with pytest.raises(pg.Interrupted):
        offpolicy(PROBE, file, path=tmp_path / "parts", callback=stop_at(500), **how)
    pg.resume(tmp_path / "parts", tensorboard=False)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    datasets.save(file, data._replace(reward=-data.reward))
    with pytest.raises(RecipeError, match=r"is not what .* has learned from: a resumed run keeps its data"):
        pg.resume(tmp_path / "parts", total_timesteps=2560, tensorboard=False)
    file.unlink()
    assert pg.load(tmp_path / "whole").evaluate(episodes=4)[0].mean > -1, "a run that is only looked at needs no data"


@pytest.mark.slow
def test_learning_begins_with_the_behaviour_and_ends_where_the_data_end(tmp_path, capsys):
    """From its own episodes a policy learns from an overlap of one down to the limit, and keeps what was above it."""
    how = {"tensorboard": False, "eval_every": 0, "net": (8,)}
    run = pg.train(PROBE, "reinforce-mean", total_timesteps=64, path=tmp_path / "run", **how)
    played = record(run, episodes=100)
    how |= {"init_from": str(run.path), "n_envs": 100, "learning_rate": 0.02, "min_overlap": 0.8}
    learned = offpolicy(PROBE, played, out=None, total_timesteps=40_000, log_every=200, **how)
    overlap = learned.history[OVERLAP]
    assert learned.finished and learned.env_steps.max() < 40_000 and "leaves the data behind" in capsys.readouterr().err
    assert overlap[0].min() > 0.9 and (overlap[-1] < 0.8).all()
    assert 80 <= ope(learned, played).effective_sample_size < 95
    recipe = make_recipe("offpolicy", PROBE, data="-", behaviour=str(run.path))
    np.testing.assert_allclose(data_of(recipe, played._replace(log_mu=None)).log_mu, played.log_mu, atol=2e-5)


def test_without_weights_the_bias_is_told(data, capsys):
    notes.SAID.clear()
    offpolicy(PROBE, data, out=None, total_timesteps=32, correction="none", eval_every=0, **TINY)
    assert "the gradient is that of the policy that made the data, and biased" in capsys.readouterr().err


def test_only_the_lost_seed_goes_back():
    recipe = make_recipe("offpolicy", PROBE, seeds=2)
    state = lambda x: pg.RunState(jnp.array([x, x + 1]), (), None, jnp.array([5, 5]), jnp.array([-1, -1]))  # noqa: E731
    after = undone(recipe, np.array([True, False]), state(10.0), state(0.0))
    assert after.learner.tolist() == [0.0, 11.0] and after.env_steps.tolist() == [5, 5]


class Named(gymnasium.Env):
    """The probe as a Gymnasium environment: one step, paid for naming the observation."""

    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (1,)), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sign = 2 * int(self.np_random.integers(2)) - 1
        return np.array([self.sign], np.float32), {}

    def step(self, action):
        reward = 1.0 if (self.sign > 0) == bool(action) else -1.0
        return np.array([self.sign], np.float32), reward, True, False, {}


def test_on_gymnasium(data):
    run = offpolicy(Named, data, out=None, total_timesteps=8000, seed=1, **TINY)
    assert run.best_reward > 0.9


WRONG = [
    (lambda d: d._replace(log_mu=None), {}, "no log_mu.*--behaviour CLONE"),
    (lambda d: d._replace(log_mu=-d.log_mu), {}, "probability above one"),
    (lambda d: d._replace(log_mu=0 * d.log_mu), {}, "every action with probability one"),
    (
        lambda d: d._replace(log_mu=d.log_mu * np.linspace(0, 200, len(d.log_mu))),
        {"min_overlap": 0.05},
        "next to nothing.*--init-from RUN",
    ),
    (lambda d: d._replace(obs=np.zeros((200, 3))), {}, r"observations have shape \(3,\)"),
    (lambda d: d._replace(action=d.action + 1), {}, "the action 2"),
    (lambda d: one_sided(d), {"min_overlap": 0.05}, r"effective sample size is 3\.\d+% of"),
    (lambda d: datasets.select(d, range(5)), {}, "the dataset has 5: lower n_envs"),
    (lambda d: d, {"workers": 2}, "plays nothing: set workers=0"),
    (lambda d: d._replace(log_mu=None), {"behaviour": "nowhere"}, "nowhere"),
    (lambda d: "nowhere.safetensors", {}, "there is no dataset"),
]


@pytest.mark.parametrize(("change", "options", "words"), WRONG, ids=lambda x: x if isinstance(x, str) else "")
def test_bad_data_are_refused_and_nothing_is_written(tmp_path, data, change, options, words):
    with pytest.raises(ValueError, match=words):
        offpolicy(PROBE, change(data), out=tmp_path / "runs", total_timesteps=64, **TINY, **options)
    assert not (tmp_path / "runs").exists()


def test_options_of_old_data_belong_to_it():
    train = partial(pg.train, PROBE, out=None)
    with pytest.raises(RecipeError, match="give one with data"):
        train("offpolicy")
    with pytest.raises(RecipeError, match="data does nothing here: it needs collect=dataset"):
        train("a2c", data="x.safetensors")
    recipe = make_recipe("offpolicy", PROBE, correction="vtrace")
    assert (recipe.target, recipe.baseline, recipe.critic_target) == ("vtrace", "value", "vtrace")


def test_judging_a_policy(data):
    """The truth by hand: π names the observation with probability p, and earns 2p − 1."""
    found = ope(fresh(PROBE, seed=4), data, estimators=("is", "wis", "dr"))
    model = fresh(PROBE, seed=4).model
    obs = jnp.array([[-1.0], [1.0]])
    time, start = jnp.zeros(2, jnp.int32), jnp.ones(2, bool)
    right = jnp.array([0, 1])
    output = jax.vmap(lambda o, t, s: model(pg.Input(o, t, s), None)[0])(obs, time, start)
    truth = float(jnp.mean(2 * jnp.exp(jax.vmap(lambda d, a: d.log_prob(a))(output.distribution, right)) - 1))
    assert list(found.estimates) == ["is", "wis", "dr"] and found.guess and found.enough
    for estimate in found.estimates.values():
        assert estimate.low - 0.1 < truth < estimate.high + 0.1 and estimate.high - estimate.low < 0.8
    assert "of this policy's own" in str(found) and found.to_dict()["estimates"]["is"]["unbiased"]
    for options, words in (({"estimators": ["iss"]}, "did you mean 'is'"), ({"level": 1}, "level must be between")):
        with pytest.raises(RecipeError, match=words):
            ope(fresh(PROBE), data, **options)
    few = ope(fresh(PROBE), datasets.select(data, range(4)))
    assert not few.enough and "no interval above is to be believed" in str(few)


@pytest.mark.parametrize(
    ("log_mu", "words"),
    [
        (-800.0, ["the weights overflow, and their mean should be 1"]),
        (-400.0, ["the weights have the mean", "e+173"]),
        (-12.0, ["the weights have the mean", "log_mu is not what the actions were drawn with"]),
    ],
)
def test_weights_that_cannot_be_are_told(data, log_mu, words, recwarn):
    found = str(ope(fresh(PROBE), data._replace(log_mu=np.full_like(data.log_mu, log_mu))))
    assert all(word in found for word in words) and not recwarn.list


def one_sided(data, episodes=40):
    """Episodes of five steps whose own policy hardly did anything else: a uniform one weighs each by about 1/32."""
    ends = {name: getattr(data, name)[:episodes] for name in ("terminated", "final_obs")}
    return data._replace(log_mu=np.full_like(data.log_mu, -1e-3), length=np.full(episodes, 5), **ends)


def test_data_of_what_the_policy_hardly_does_do_not_count(data):
    """Weights that are all alike have ESS = N; their mean tells."""
    found = ope(untrained(), one_sided(data), estimators=["wis"])
    assert found.mean_weight == pytest.approx(2**-5, rel=0.3) and not found.enough
    assert found.effective_sample_size == pytest.approx(40 * found.mean_weight, rel=0.3)
    assert "the data show about 0.031 of what this policy does" in str(found)
    one = ope(untrained(), datasets.select(one_sided(data), [0]), estimators=["wis"])
    assert str(one).startswith("1 episode, worth")


def test_an_interval_without_width_is_told(data):
    found = ope(untrained(), data._replace(reward=np.ones_like(data.reward)), estimators=["is", "wis"])
    assert "note: the interval of is, wis has no width: all episodes say the same" in str(found)
