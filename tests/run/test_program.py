"""The program of a recipe: what the environment is given, and what the time limit means."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad as pg
from policygrad.random import standard, unrolled
from policygrad.run.api import begin
from policygrad.run.build import synchronous
from policygrad.run.recipes import make_recipe
from policygrad.types import Input

SMALL = {"out": None, "net": (4,), "eval_every": 0, "tensorboard": False}


@dataclass(frozen=True)
class KeyInState(pg.Env):
    """The commonest pattern of JAX environments: the state keeps a key."""

    observation_space = spaces.Box(0.0, 1.0, (1,))
    action_space = spaces.Discrete(2)
    time_limit = 4

    def reset(self, noise):
        return noise, jnp.zeros(1)

    def step(self, noise, state, action):
        state, key = jax.random.split(state)
        return state, jax.random.uniform(key, (1,)), jnp.ones(()), jnp.zeros((), bool)


@dataclass(frozen=True)
class One(pg.Env):
    """Reward 1 a step, one state, cut after eight steps."""

    observation_space = spaces.Discrete(1)
    action_space = spaces.Discrete(2)
    time_limit = 8

    def reset(self, noise):
        return jnp.zeros(()), jnp.zeros((), jnp.int32)

    def step(self, noise, state, action):
        return state, jnp.zeros((), jnp.int32), jnp.ones(()), jnp.zeros((), bool)


@pytest.mark.parametrize("algo", [pytest.param("a2c", marks=pytest.mark.slow), "reinforce"])
def test_an_environment_may_keep_a_key_in_its_state(algo):
    run = pg.train(KeyInState(), algo, total_timesteps=200, **SMALL)
    assert run.env_steps[0] >= 200


def test_a_time_to_go_policy_has_a_finite_horizon():
    options = {"policy": "tabular", "n_envs": 8, "n_steps": 8, "optimizer": "sgd", "learning_rate": 0.2, "vf_coef": 1.0}
    options |= {name: value for name, value in SMALL.items() if name != "net"}
    run = pg.train(One(), "a2c", total_timesteps=30_000, time_to_go=True, gamma=0.9, max_grad_norm=None, **options)
    model = run.models[0]
    values = [float(model(Input(jnp.int32(0), jnp.int32(t), jnp.array(t == 0)), None)[0].value) for t in range(8)]
    np.testing.assert_allclose(values, [(1 - 0.9 ** (8 - t)) / 0.1 for t in range(8)], rtol=0.02)


def test_the_written_out_generator_gives_the_same_bits():
    key = jax.random.key(42)
    fast = unrolled(key)
    assert fast.dtype != key.dtype and standard(fast).dtype == key.dtype
    for draw in (
        lambda k: jax.random.uniform(k, (3, 5)),
        lambda k: jax.random.bits(k, (7,), jnp.uint8),
        lambda k: jax.random.key_data(jax.random.split(k, (2, 3))),
        lambda k: jax.random.key_data(jax.random.fold_in(k, 77)),
    ):
        np.testing.assert_array_equal(draw(fast), draw(key))


@dataclass(frozen=True)
class Plain(One):
    """The first state holds a Python number, as those of many libraries do; the later ones hold arrays."""

    def reset(self, noise):
        return (0, 0.0), jnp.zeros((), jnp.int32)

    def step(self, noise, state, action):
        count, total = state
        return (count + jnp.int32(1), total + jnp.float32(1)), *super().step(noise, state, action)[1:]


def test_a_program_is_compiled_once():
    run = begin(Plain(), "a2c", out=None, net=(4,), eval_every=0)
    state = run.state
    for steps in (100, 200):
        state, _ = run.program.advance(state, jnp.int32(steps))
    assert run.program.advance._cache_size() == 1


def count_traces(run):
    """``(what run gives, how often JAX traced meanwhile)``."""
    seen, counting = [], [True]
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: seen.append(event) if counting[0] and "trace" in event else None
    )
    try:
        return run(), len(seen)
    finally:
        counting[0] = False


@pytest.mark.parametrize("options", [{}, {"workers": 1, "engine": "threads"}], ids=["fused", "worker"])
def test_who_trains_again_compiles_nothing_and_gets_the_same_numbers(options):
    def train(seed, budget=80, env="chain"):
        return pg.train(env, "a2c", seed=seed, total_timesteps=budget, **SMALL | {"eval_every": 40}, **options)

    first = train(3)
    other, traced = count_traces(lambda: train(4, budget=160))
    assert traced == 0
    again, traced = count_traces(lambda: train(3))
    assert traced == 0
    leaves = [jax.tree.leaves(run.models[0]) for run in (first, again, other)]
    assert all(np.array_equal(a, b) for a, b in zip(*leaves[:2], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(leaves[0], leaves[2], strict=True))
    assert (other.recipe.seed, int(other.env_steps[0]), other.recipe.total_timesteps) == (4, 160, 160)
    _, traced = count_traces(lambda: train(3, env="corridor"))
    assert traced > 0


def test_a_program_that_is_kept_belongs_to_its_numbers():
    recipe = make_recipe("a2c", "chain")
    program = synchronous(recipe, "chain", None)
    assert synchronous(replace(recipe, seed=1), "chain", None).advance is program.advance
    assert synchronous(replace(recipe, learning_rate=1e-3), "chain", None).advance is not program.advance
    assert synchronous(replace(recipe, lr_schedule="linear"), "chain", None).advance is not program.advance
    with jax.enable_x64(True):
        assert synchronous(recipe, "chain", None).advance is not program.advance
