"""The doctor: runs that were broken on purpose, one for each verdict, and healthy ones."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad as pg
from policygrad.measure.doctor import (
    AS_TRAINED,
    AT_MOST,
    LIMITS,
    Randomness,
    diagnose,
    randomness_of,
    reads_measurement,
)
from policygrad.run.recipes import make_recipe

PAGE = Path(__file__).parents[2] / "docs" / "22-doctor.md"
CARTPOLE = pg.make("CartPole-v1")
SMALL = {"out": None, "eval_every": 0, "tensorboard": False, "net": (16,)}


@dataclass(frozen=True)
class Scaled(pg.Env):
    """CartPole, with every reward multiplied."""

    factor: float

    observation_space = CARTPOLE.observation_space
    action_space = CARTPOLE.action_space
    time_limit = CARTPOLE.time_limit

    def draw(self, key, shape):
        return CARTPOLE.draw(key, shape)

    def reset(self, noise):
        return CARTPOLE.reset(noise)

    def step(self, noise, state, action):
        state, obs, reward, terminated = CARTPOLE.step(noise, state, action)
        return state, obs, self.factor * reward, terminated


@dataclass(frozen=True)
class Loud(pg.Env):
    """One step. The better action pays 0.2 more, and chance a hundred times as much."""

    observation_space = spaces.Discrete(1)
    action_space = spaces.Discrete(2)
    time_limit = 1

    def reset(self, noise):
        return jnp.zeros(()), jnp.zeros((), jnp.int32)

    def step(self, noise, state, action):
        return state, jnp.zeros((), jnp.int32), 0.2 * action + 20 * jax.random.normal(noise), jnp.ones((), bool)


@cache
def found(env, algo="a2c", **options):
    run = pg.train(env, algo, **{**SMALL, "total_timesteps": 20_000, **options})
    recipe = run.recipe.to_dict()
    return diagnose(run.history, recipe, randomness=randomness_of(run.env.action_space, recipe))


HASTY = {"learning_rate": 3.0, "total_timesteps": 40_000}
BROKEN = {
    "fell-back": ("CartPole-v1", HASTY, "--learning-rate"),
    "entropy-collapsed": ("CartPole-v1", HASTY, "--learning-rate"),
    "entropy-stuck": ("CartPole-v1", {"ent_coef": 5.0}, "--ent-coef"),
    "hardly-moves": ("CartPole-v1", {"learning_rate": 1e-7}, "--learning-rate"),
    "short-sighted": ("CartPole-v1", {"gamma": 0.1}, "--gamma"),
    "few-updates": ("CartPole-v1", {"total_timesteps": 800, "log_every": 40}, "--total-timesteps"),
    "critic-blind": ("CartPole-v1", {"vf_coef": 0.0}, "--vf-coef"),
    "reward-large": (Scaled(1e4), {}, "--normalize-reward"),
    "reward-small": (Scaled(1e-5), {}, "--normalize-reward"),
    "gradient-clipped": (Scaled(1e4), {}, "--normalize-reward"),
    "no-signal": ("CartPole-v1", {"max_episode_steps": 8}, "--max-episode-steps"),
    "always-clipped": ("CartPole-v1", {"algo": "ppo", "clip_range": 1e-5}, "--clip-range"),
    "too-far": ("CartPole-v1", {"algo": "ppo", "learning_rate": 0.03, "clip_range": 100.0}, "--learning-rate"),
    "always-truncated": ("Pendulum-v1", {"total_timesteps": 40_000}, "--max-episode-steps"),
    "noisy": (Loud(), {"measure_every": 1, "n_steps": 1, "total_timesteps": 16_000}, "--n-envs"),
    "no-episode": ("Pendulum-v1", {"total_timesteps": 800, "log_every": 40}, "--max-episode-steps"),
}


SLOW = ("always-clipped", "too-far", "always-truncated", "no-signal", "reward-small")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in BROKEN]
)
def test_what_was_broken_is_named_with_its_flag(name):
    env, options, flag = BROKEN[name]
    verdicts = {verdict.name: verdict for verdict in found(env, **options)}
    assert name in verdicts, list(verdicts)
    assert verdicts[name].flag.startswith(flag) and "healthy" not in verdicts
    assert len(verdicts) <= AT_MOST and np.isfinite(verdicts[name].value)


@pytest.mark.parametrize(
    ("env", "options"),
    [
        ("CartPole-v1", {"total_timesteps": 60_000, "gamma": 0.95, "learning_rate": 2e-3}),
        pytest.param(
            *("CartPole-v1", {"total_timesteps": 60_000, "gamma": 0.95, "learning_rate": 2e-3, "seed": 1}),
            marks=pytest.mark.slow,
        ),
        ("CartPole-v1", {"algo": "ppo", "learning_rate": 2.5e-3}),
        ("probe:observation-action", {"learning_rate": 5e-3}),
    ],
)
def test_healthy_runs_are_called_so(env, options):
    assert [verdict.name for verdict in found(env, **options)] == ["healthy"]


# Rules on numbers: what no quick run shows


def log(returns=None, **columns):
    """A run of a hundred rows whose return stays where it is, and nothing is wrong with it."""
    rng, rows = np.random.default_rng(0), 100
    base = {
        "time/total_timesteps": np.arange(1, rows + 1) * 1000.0,
        "rollout/ep_rew_mean": 20 + rng.normal(size=rows) if returns is None else returns,
        "rollout/ep_len_mean": np.full(rows, 50.0),
        "rollout/truncated": np.zeros(rows),
        "train/entropy": np.linspace(0.69, 0.4, rows),
        "train/explained_variance": np.full(rows, 0.8),
        "train/grad_norm": np.ones(rows),
    }
    return {name: np.asarray(x, float)[:, None] for name, x in (base | columns).items()}


def names(history, recipe=None, **options):
    recipe = recipe or make_recipe("a2c", "CartPole-v1")
    return [verdict.name for verdict in diagnose(history, recipe.to_dict(), **options)]


def test_a_flat_run_with_nothing_wrong_is_unclear_and_a_rising_one_healthy():
    rising = np.linspace(20, 200, 100) + np.random.default_rng(1).normal(size=100)
    assert names(log()) == ["unclear"]
    assert names(log(rising)) == ["healthy"]


def test_noise_that_was_logged_or_measured():
    assert names(log(**{"measure/snr": np.full(100, 1e-4)})) == ["noisy"]
    assert names(log(**{"measure/snr": np.full(100, 0.05)})) == ["unclear"]
    untold = 0.05 * np.where(np.arange(100) % 2, 30, -28)
    assert untold.mean() == pytest.approx(0.05) and names(log(**{"measure/snr": untold})) == ["noisy"]

    def measured(scale, low):
        rung = SimpleNamespace(noise_scale=SimpleNamespace(value=scale, low=low))
        return SimpleNamespace(rungs={AS_TRAINED: rung})

    assert names(log(), measurement=measured(1e4, 5e3)) == ["noisy"]  # an update has 8·5/50 = 0.8 episodes
    assert names(log(), measurement=measured(10.0, 5.0)) == ["unclear"]
    assert names(log(), measurement=measured(np.inf, 1e4)) == ["noisy"]
    assert names(log(), measurement=measured(np.nan, 0.0)) == ["unclear"]
    assert names(log(), measurement=SimpleNamespace(rungs={})) == ["unclear"]


def test_what_learns_needs_no_cure():
    rising = np.linspace(20, 200, 100)
    bad = {"train/explained_variance": np.full(100, -3.0), "train/grad_norm": np.full(100, 1e4)}
    assert names(log(rising, **bad)) == ["healthy"]
    assert names(log(**bad)) == ["critic-blind", "gradient-clipped"]


def test_a_fall_is_told_from_a_sway():
    rng = np.random.default_rng(2)
    up = np.linspace(20, 400, 80)
    fallen = np.concatenate([up, np.full(20, 30.0)]) + rng.normal(size=100)
    swaying = np.concatenate([up, np.full(20, 250.0)]) + rng.normal(size=100)
    assert names(log(fallen))[0] == "fell-back" and names(log(swaying)) == ["healthy"]


def of_seeds(*returns):
    """One run of several seeds."""
    one = log()
    return {name: np.tile(x, len(returns)) for name, x in one.items()} | {"rollout/ep_rew_mean": np.stack(returns, 1)}


def noise(seed):
    return np.random.default_rng(seed).normal(size=100)


def test_a_mean_that_one_seed_lifts_is_not_healthy():
    """The mean of one seed that rises and seven that are flat rises all the same."""
    recipe, up = make_recipe("a2c", "CartPole-v1", seeds=8), np.linspace(20, 400, 100)
    flat = [20 + noise(k) for k in range(7)]
    mostly_flat = of_seeds(up + noise(7), *flat)
    assert names({name: x.mean(axis=1, keepdims=True) for name, x in mostly_flat.items()}) == ["healthy"]
    (one,) = diagnose(mostly_flat, recipe.to_dict())
    assert one.name == "seeds-differ" and one.words.startswith("7 of 8 seeds did not rise") and one.value == 7 / 8
    blind = {"train/explained_variance": np.concatenate([np.full((100, 1), 0.9), np.full((100, 7), -0.5)], axis=1)}
    assert names(mostly_flat | blind, recipe) == ["seeds-differ", "critic-blind"], "of those that did not rise"
    assert not reads_measurement(mostly_flat, recipe.to_dict()), "the first seed's policy is measured, and it rose"
    assert reads_measurement(of_seeds(*flat, up), recipe.to_dict())


def test_seeds_that_did_not_rise_are_counted():
    rising = [np.linspace(20, 400, 100) + noise(k) for k in range(7)]
    recipe = make_recipe("a2c", "CartPole-v1").to_dict()
    (one,) = diagnose(of_seeds(20 + noise(9), *rising), recipe)
    assert one.name == "healthy" and "1 of 8 seeds did not rise." in one.words
    (one,) = diagnose(of_seeds(*rising), recipe)
    assert one.name == "healthy" and "seeds" not in one.words
    (one,) = diagnose(of_seeds(20 + noise(1), 20 + noise(2)), recipe)
    assert one.name == "unclear" and one.words.endswith("2 of 2 seeds did not rise.")


def test_a_return_that_falls_from_the_beginning():
    recipe = make_recipe("a2c", "CartPole-v1")
    (one,) = diagnose(log(np.linspace(102, 24, 100) + noise(1)), recipe.to_dict())
    assert one.name == "fell-back" and one.value > one.limit and "never rose" in one.words
    name, rate = one.flag.split()
    assert name == "--learning-rate" and float(rate) < recipe.learning_rate
    early = 100 + noise(2)
    early[:2] = 400.0  # of the episodes that end first
    rows = {"time/total_timesteps": np.arange(1, 101) * 400.0}
    assert "fell-back" not in names(log(early, **rows))


def flags(history, **options):
    """What each verdict suggests."""
    return {one.name: one.flag for one in diagnose(history, make_recipe("a2c", "CartPole-v1", **options).to_dict())}


def test_flags_go_the_right_way():
    """Never a smaller bonus where more is needed, a switch that is on, a value that cannot be typed, or two flags."""
    calm = log(**{"train/entropy": np.geomspace(0.69, 1e-4, 100)})
    assert flags(calm)["entropy-collapsed"] == "--ent-coef 0.01"
    assert flags(calm, ent_coef=0.01)["entropy-collapsed"] == "--ent-coef 0.02"
    assert flags(calm, ent_coef=0.1)["entropy-collapsed"] == "--ent-coef 0.2"
    assert flags(log(np.zeros(100)), ent_coef=0.05)["no-signal"] == "--ent-coef 0.1"
    unseen = log(**{"train/explained_variance": np.full(100, -1.0)})
    assert flags(unseen)["critic-blind"] == "--normalize-reward"
    assert flags(unseen, normalize_reward=True)["critic-blind"] == "--normalize-obs"
    assert flags(unseen, normalize_reward=True, normalize_obs=True)["critic-blind"] == "--vf-coef 1"
    cut = {"rollout/truncated": np.ones(100)}
    assert flags(log(**cut))["always-truncated"] == "--max-episode-steps 100", "episodes have 50 steps"
    assert flags(log(np.zeros(100), **cut), max_episode_steps=60)["no-signal"] == "--max-episode-steps 120"
    none = log(np.full(100, np.nan))  # 100,000 steps in 8 environments
    assert flags(none)["no-episode"] == "--max-episode-steps 1000"
    assert flags(none, max_episode_steps=50_000)["no-episode"] == "--total-timesteps 8e+06"
    swaying = log(np.concatenate([np.linspace(20, 400, 80), np.full(20, 250.0)]) + noise(3))
    assert flags(swaying)["healthy"] == "--lr-schedule linear"
    assert flags(swaying, lr_schedule="linear")["healthy"].startswith("--learning-rate")
    long = log(**{"rollout/ep_len_mean": np.full(100, 1e5)})
    assert flags(long)["short-sighted"] == "--gamma 0.99995", "not 1"


def shrinking(end, start=20.0):
    """Lengths that go from ``start`` to ``end``."""
    return {"rollout/ep_len_mean": np.linspace(start, end, 100) + np.random.default_rng(4).normal(size=100)}


def test_alike_returns_are_judged_by_the_length_under_a_discount():
    """At the end of an episode 1 is worth γ^T, and −1 costs it: the same return, and another objective."""
    won, lost, shorter, longer = np.ones(100), -np.ones(100), shrinking(13.0), shrinking(30.0)
    assert names(log(won, **shorter)) == names(log(lost, **longer)) == ["healthy"]
    assert names(log(won, **longer)) == names(log(lost, **shorter)) == names(log(won, **shrinking(20.0))) == ["unclear"]
    fallen = np.concatenate([shrinking(10.0)["rollout/ep_len_mean"][:80], np.full(20, 20.0)])
    assert names(log(won, **{"rollout/ep_len_mean": fallen}))[0] == "fell-back"
    nearly = np.where(np.arange(100) % 7, 1.0, 0.95)  # now and then the time limit cuts an episode
    assert names(log(nearly, **shorter)) == ["healthy"]


def test_without_a_discount_or_a_reward_the_length_says_nothing():
    plain = make_recipe("a2c", "CartPole-v1", gamma=1.0)
    assert names(log(np.ones(100), **shrinking(13.0)), plain) == ["no-signal"]
    assert names(log(np.zeros(100), **shrinking(13.0))) == ["no-signal"]
    assert names(log(np.ones(100))) == ["no-signal"]  # all lengths are the same


def test_where_the_return_is_the_length_it_is_judged_by_the_return():
    lengths = 500 - 5 * np.random.default_rng(5).random(100)
    (one,) = diagnose(log(lengths, **{"rollout/ep_len_mean": lengths}), make_recipe("a2c", "CartPole-v1").to_dict())
    assert one.name == "unclear" and one.words.startswith("The return did not rise")


def test_lengths_are_named_in_words():
    recipe = make_recipe("a2c", "CartPole-v1").to_dict()
    (one,) = diagnose(log(np.ones(100), **shrinking(13.0)), recipe)
    assert one.words.startswith(
        "Healthy: every episode returned 1, and episodes became shorter, which counts at γ = 0.99"
    )
    (one,) = diagnose(log(np.ones(100), **shrinking(30.0)), recipe)
    assert one.words.startswith("Every episode returned 1, but lengths") and "at last" in one.words


def test_first_rows_that_only_short_episodes_can_fill_are_not_read():
    """8 streams are in their first episode for 50 of the steps: without that, a fixed policy's lengths rise."""
    lengths = 50 + np.random.default_rng(6).normal(size=100)
    lengths[:10] = np.linspace(5, 40, 10)
    early = {"time/total_timesteps": np.arange(1, 101) * 80.0, "rollout/ep_len_mean": lengths}
    assert "healthy" not in names(log(-np.ones(100), **early))


@pytest.mark.slow
def test_a_chain_that_is_walked_ever_faster_is_healthy_and_a_short_run_has_few_updates():
    healthy = found("chain", "a2c-gae", gamma=0.9, total_timesteps=60_000)
    assert [verdict.name for verdict in healthy] == ["healthy"] and "became shorter" in healthy[0].words
    early = [verdict.name for verdict in found("chain", "a2c-gae", total_timesteps=2_000, log_every=128)]
    assert early == ["few-updates"]


def test_a_measurement_is_read_only_where_a_rule_asks_for_it():
    recipe = make_recipe("a2c", "CartPole-v1").to_dict()
    few = {"time/total_timesteps": np.arange(1, 101) * 10.0}
    assert reads_measurement(log(), recipe)
    for history in (
        log(np.zeros(100)),  # no signal
        log(**few),
        log(np.linspace(20, 200, 100)),
        log(np.linspace(2e5, 2e6, 100)),  # it rises; the rewards' scale is a verdict all the same
        log(**{"measure/snr": np.full(100, 0.05)}),
        log(np.full(100, np.nan)),  # no episode ended
    ):
        assert not reads_measurement(history, recipe)


def test_figures_are_means_over_the_seeds_that_have_them():
    one = log(np.linspace(20, 200, 100))
    two = {name: np.concatenate([x, np.full_like(x, np.nan)], axis=1) for name, x in one.items()}
    assert names(two) == names(one) == ["healthy"]


def test_at_most_six_and_never_none():
    sick = {
        "train/entropy": np.full(100, 0.69),
        "train/explained_variance": np.full(100, -1.0),
        "train/clip_fraction": np.full(100, 0.9),
        "train/grad_norm": np.full(100, 1e9),
        "rollout/truncated": np.ones(100),
        "rollout/ep_len_mean": np.full(100, 5000.0),
        "measure/snr": np.full(100, 1e-5),
    }
    returns = 1e6 + np.random.default_rng(3).normal(size=100)
    found = names(log(returns, **sick))
    assert len(found) == AT_MOST and found[0] == "reward-large" and len(set(found)) == AT_MOST


def test_an_empty_log_is_refused():
    with pytest.raises(ValueError, match="logged nothing"):
        diagnose({}, make_recipe("a2c", "CartPole-v1").to_dict())


def test_randomness_of_every_space():
    recipe = make_recipe("a2c", "CartPole-v1", log_std_init=0.5).to_dict()
    assert randomness_of(spaces.Discrete(4), recipe) == Randomness(np.log(4), 0)
    assert randomness_of(spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(3)]), recipe).entropy == pytest.approx(
        np.log(16)
    )
    box = randomness_of(spaces.Box(-1.0, 1.0, (2,)), recipe)
    assert box.continuous == 2 and box.entropy == pytest.approx(1 + np.log(2 * np.pi) + 1)
    assert box.share(box.entropy - 2 * np.log(2)) == pytest.approx(0.5)
    assert randomness_of(spaces.Tuple([spaces.Discrete(2), spaces.Box(-1.0, 1.0, (1,))]), recipe) is None
    assert randomness_of(spaces.Box(-1.0, 1.0, (1,)), recipe | {"bounds": "beta"}) is None


def test_the_page_has_every_threshold_and_every_verdict():
    page = PAGE.read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", page, flags=re.MULTILINE))
    assert {name: float(rows[name]) for name in LIMITS} == {name: limit.value for name, limit in LIMITS.items()}
    assert all(limit.why in page for limit in LIMITS.values())
    source = (Path(__file__).parents[2] / "src" / "policygrad" / "measure" / "doctor.py").read_text()
    said = set(re.findall(r'verdict\(\s*"([a-z-]+)"', source, flags=re.IGNORECASE)) | set(BROKEN)
    assert len(said) > 10 and all(f"`{name}`" in page for name in said)
