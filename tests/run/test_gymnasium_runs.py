"""Training on Gymnasium's environments: every preset, every space, resume, and what a run says about itself."""

from functools import partial

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces

import policygrad as pg
from policygrad.run.recipes import PRESETS

TINY = {"n_envs": 2, "net": (4,), "eval_every": 0, "tensorboard": False, "out": None}

OBSERVATIONS = {
    "box": spaces.Box(-1, 1, (2, 2), np.float32),
    "discrete": spaces.Discrete(3, start=5),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "bits": spaces.MultiBinary(3),
    "image": spaces.Box(0, 255, (12, 12, 1), np.uint8),
    "dict": spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple([spaces.Box(0, 1, (2,)), spaces.MultiBinary(2)])}),
}
ACTIONS = {
    "discrete": spaces.Discrete(3, start=-1),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "bits": spaces.MultiBinary(2),
    "box": spaces.Box(-1, 1, (2, 2), np.float32),
    "dict": spaces.Dict({"move": spaces.Discrete(2), "how": spaces.Box(-1, 1, (1,), np.float32)}),
    "tuple": spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)]),
}


LOCAL = [
    name for name, preset in PRESETS.items() if preset.recipe.engine != "ray" and preset.recipe.collect != "dataset"
]


class Anything(gymnasium.Env):
    """Random observations of a space; refuses an action that is not one of its space. Ends after three steps."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is no element of {self.action_space}"
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t == 3, False, {}


def covering():
    """Every preset with every observation and with every action space, each pair of the two at least once."""
    pairs = [(o, a) for o in OBSERVATIONS for a in ACTIONS]
    presets = LOCAL
    return [(presets[i % len(presets)], o, a) for i, (o, a) in enumerate(pairs)]


def train_two_updates(algo, observation, action):
    make = partial(Anything, OBSERVATIONS[observation], ACTIONS[action])
    size = {} if PRESETS[algo].recipe.collect == "episodes" else {"n_steps": 4}
    if PRESETS[algo].recipe.n_minibatches > 1:
        size["n_minibatches"] = 2
    if PRESETS[algo].recipe.workers:
        size["engine"] = "threads"
    run = pg.train(make, algo, total_timesteps=12 if not size else 16, **size, **TINY)
    assert all(np.isfinite(values).all() for name, values in run.history.items() if name.startswith("train/"))
    done = run.history["rollout/ep_len_mean"]
    assert (done[np.isfinite(done)] == 3).all()
    assert run.evaluate(episodes=2)[0].returns.tolist() == [3.0, 3.0]
    obs = OBSERVATIONS[observation].sample()
    assert ACTIONS[action].contains(run.policy.predict(obs)[0])


@pytest.mark.parametrize(("algo", "observation", "action"), covering()[::7])
def test_a_preset_trains_on_a_pair_of_spaces(algo, observation, action):
    train_two_updates(algo, observation, action)


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("algo", LOCAL)
def test_every_preset_trains_on_every_pair_of_spaces(algo, observation, action):
    train_two_updates(algo, observation, action)


class Masked(gymnasium.Env):
    """Only one of four actions is valid, and the others are an error. The observation does not tell which."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.show()

    def show(self):
        self.valid = self.np_random.integers(4)
        return np.zeros(1, np.float32), {"action_mask": np.arange(4) == self.valid}

    def step(self, action):
        assert action == self.valid, "an invalid action got through"
        self.t += 1
        obs, info = self.show()
        return obs, 1.0, self.t == 5, False, info


@pytest.mark.parametrize(
    "algo", ["a2c", *(pytest.param(name, marks=pytest.mark.slow) for name in ("reinforce-mean", "ppo"))]
)
def test_an_invalid_action_never_gets_through(algo):
    options = {"n_minibatches": 2, "n_steps": 64} if algo == "ppo" else {}
    run = pg.train(Masked, algo, total_timesteps=200, **TINY, **options)
    assert run.evaluate(episodes=3)[0].mean == 5


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    path = tmp_path_factory.mktemp("host") / "run"
    options = dict(total_timesteps=400, n_envs=4, n_steps=8, net=(8,), eval_every=200, eval_episodes=2, seed=3)
    return pg.train("gym:CartPole-v1", "a2c-gae", path=path, tensorboard=False, **options)


def test_a_run_on_gymnasium_has_all_that_a_run_has(cartpole):
    assert (cartpole.path / "metrics.csv").exists() and (cartpole.path / "checkpoints/best.safetensors").exists()
    assert cartpole.env_steps[0] >= 400 and 8 < cartpole.best_reward[0] <= 500
    shares = [cartpole.history[f"time/share_{what}"] for what in ("env", "policy", "learning")]
    np.testing.assert_allclose(np.sum(shares, axis=0), 1)
    again = pg.load(cartpole.path)
    obs = np.array([0.1, 0, -0.1, 0.2], np.float32)
    assert again.policy.predict(obs)[0] == cartpole.policy.predict(obs)[0]
    assert pg.evaluate(again.policy, "CartPole-v1", episodes=3).mean > 5, "on the pure twin as well"


def test_a_run_on_gymnasium_goes_on(cartpole):
    before = cartpole.state.learner.gradient_steps
    more = pg.resume(cartpole.path, total_timesteps=600, tensorboard=False)
    assert more.env_steps[0] >= 600 and more.state.learner.gradient_steps > before
    assert more.finished and len(more.history["time/total_timesteps"]) > len(cartpole.history["time/total_timesteps"])


@pytest.mark.slow
def test_two_seeds_on_gymnasium():
    both = pg.train("gym:CartPole-v1", "a2c", total_timesteps=40, seeds=2, **TINY)
    one = pg.train("gym:CartPole-v1", "a2c", total_timesteps=40, seed=1, **TINY)
    assert both.env_steps.min() >= 40 and both.env_steps[1] == one.env_steps[0]
    for ours, alone in zip(jax.tree.leaves(both.models[1]), jax.tree.leaves(one.models[0]), strict=True):
        np.testing.assert_allclose(ours, alone, rtol=1e-5, err_msg="a seed is a seed, alone or not")


class Cue(gymnasium.Env):
    """A cue at the first step, to be named at the third: +1, or −1."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.cue = 0, int(self.np_random.integers(2))
        return np.array([2 * self.cue - 1], np.float32), {}

    def step(self, action):
        self.t += 1
        reward = float(2 * (action == self.cue) - 1) if self.t == 3 else 0.0
        return np.zeros(1, np.float32), reward, self.t == 3, False, {}


@pytest.mark.slow
def test_a_memory_learns_on_gymnasium():
    """Seed 0, 6,000 steps: a memoryless policy gets 0 on average."""
    options = dict(policy="gru", net=(16,), n_envs=8, n_steps=6, optimizer="adam", learning_rate=1e-2)
    run = pg.train(Cue, "a2c-gae", total_timesteps=6_000, eval_every=0, out=None, tensorboard=False, **options)
    assert run.evaluate(episodes=20)[0].mean == 1


class Bad(Masked):
    def step(self, action):
        if self.t == 2:
            raise ZeroDivisionError("the model of the world is wrong")
        return super().step(action)


def test_an_environment_that_raises_is_one_sentence(tmp_path):
    with pytest.raises(RuntimeError, match="the model of the world is wrong") as caught:
        pg.train(Bad, "a2c", total_timesteps=100, **TINY | {"out": tmp_path})
    assert "\n" not in str(caught.value)


def test_films(cartpole, tmp_path):
    pytest.importorskip("pygame")
    from policygrad.run.video import film

    out = tmp_path / "deep" / "play.gif"
    returns = film(cartpole.policy, cartpole.recipe, out, episodes=2, seed=0, deterministic=True)
    assert len(returns) == 2 and min(returns) > 5
    from PIL import Image

    with Image.open(out) as picture:
        assert picture.n_frames > 5 and picture.size[0] > 100
    assert [path.name for path in out.parent.iterdir()] == ["play.gif"]
    with pytest.raises(pg.RecipeError, match="gif"):
        film(cartpole.policy, cartpole.recipe, tmp_path / "play.avi", episodes=1, seed=0, deterministic=True)
