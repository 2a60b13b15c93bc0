"""Every preset solves the probes, whose answers are known in closed form.

Settings shared by all presets: one hidden layer of 16, Adam at 0.01, 20,000 steps (GRU: 40,000), seed 11.
"""

import jax.numpy as jnp
import pytest

import policygrad as pg
from policygrad.envs.probes import PROBES
from policygrad.run.recipes import PRESETS
from policygrad.types import Input

SETTINGS = {
    "net": (16,),
    "optimizer": "adam",
    "learning_rate": 0.01,
    "lr_schedule": "constant",
    "eval_every": 0,
    "gamma": 0.9,
}
HERE = [
    name for name, preset in PRESETS.items() if preset.recipe.engine != "ray" and preset.recipe.collect != "dataset"
]
"""Presets that need no other package and no data: see tests/parallel/test_ray.py and tests/run/test_offpolicy.py."""
CRITICS = [name for name in HERE if PRESETS[name].recipe.critic_target is not None]


def thinned(*slow: str) -> list:
    """All presets; those named, which differ little from a neighbour, only among the slow tests."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in HERE]


def solve(algo: str, probe: str, **changes):
    run = pg.train(f"probe:{probe}", algo, out=None, seed=11, **{**SETTINGS, "total_timesteps": 20_000, **changes})
    return run, pg.evaluate(run.policy, f"probe:{probe}", episodes=200).mean


def value_at(run, obs) -> float:
    start = Input(jnp.asarray(obs, float), jnp.zeros((), jnp.int32), jnp.ones((), bool))
    return float(run.models[0](start, run.models[0].initial())[0].value)


@pytest.mark.parametrize(
    "algo",
    thinned("reinforce-togo", "reinforce-mean", "reinforce-optimal", "reinforce-value", "a2c", "a3c-gae", "a3c-gru"),
)
def test_every_preset_matches_actions_to_observations(algo):
    _, mean = solve(algo, "observation-action")
    assert mean > 0.95 * PROBES["observation-action"].best_return


@pytest.mark.parametrize(
    "algo",
    thinned(*[name for name in HERE if name not in ("a2c-gae", "a3c")]),
)
def test_every_preset_solves_a_continuous_action(algo):
    _, mean = solve(algo, "action-continuous", log_std_init=-0.5)
    assert mean > -0.03  # best 0, chance −7/12


@pytest.mark.parametrize(
    "algo",
    thinned(*[name for name in HERE if name != "ppo"]),
)
def test_every_preset_trains_a_memory(algo):
    _, mean = solve(algo, "memory", policy="gru", total_timesteps=40_000)
    assert mean > 0.9  # best 1, a memoryless policy's best 0


def test_a_memoryless_policy_stays_at_chance():
    _, mean = solve("a2c", "memory")
    assert abs(mean) < 0.25


@pytest.mark.parametrize(
    "algo",
    [name if name == "a2c-gae" else pytest.param(name, marks=pytest.mark.slow) for name in CRITICS],
)
def test_every_critic_learns_the_discounted_value(algo):
    run, _ = solve(algo, "discount")
    env = PROBES["discount"]()
    _, first = env.reset(jnp.zeros(()))
    assert value_at(run, first) == pytest.approx(env.value_at_start(0.9), abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("probe", [name for name in PROBES if name != "memory"])
@pytest.mark.parametrize("algo", HERE)
def test_every_preset_solves_every_probe(algo, probe):
    _, mean = solve(algo, probe)
    env = PROBES[probe]()
    assert mean > env.best_return - 0.05 - 0.15 * (env.best_return - env.chance_return) * (
        probe == "observation-action"
    )
