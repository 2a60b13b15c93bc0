"""Truncation is not termination. Reward 1 for ever, watched in episodes of 8 steps: V is 1/(1 − γ), not Σ_{k<8} γ^k."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.collect import episode_collector, window_collector
from policygrad.envs.core import Env, autoreset
from policygrad.ladder import Psi
from policygrad.learn import Hyper, Score, make_learner
from policygrad.models import make_model

GAMMA = 0.9


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Compiling is what these tests wait for."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@dataclass(frozen=True)
class Constant(Env):
    ends: bool = False
    time_limit: int | None = 8
    observation_space = spaces.Discrete(1)
    action_space = spaces.Discrete(2)

    def reset(self, noise):
        return jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)

    def step(self, noise, state, action):
        over = (state + 1 >= 8) if self.ends else jnp.zeros((), bool)
        return state + 1, jnp.zeros((), jnp.int32), jnp.ones(()), over


def learned_value(collector, critic_target, target="lambda_return", n_updates=300):
    make = lambda key: make_model(Constant.observation_space, Constant.action_space, key=key, policy="tabular")  # noqa: E731
    hyper = Hyper(learning_rate=0.25, ent_coef=0.0, vf_coef=1.0, max_grad_norm=jnp.inf)
    learner = make_learner(
        make,
        Psi(target, "value", gamma=GAMMA, lam=0.7, n=3),
        kind=Score(),
        hyper=hyper,
        critic_target=critic_target,
        optimizer="sgd",
    )

    @jax.jit
    def train(key):
        state = learner.init(key)
        streams = collector.init(learner.model(state), key)

        def step(loop, key):
            state, streams = loop
            streams, trajectory, _ = collector.collect(learner.model(state), streams, key)
            return (learner.update(state, trajectory, key)[0], streams), None

        (state, _), _ = jax.lax.scan(step, (state, streams), jax.random.split(key, n_updates))
        return learner.model(state).critic.last.rows

    return float(train(jax.random.key(0))[0, 0])


@pytest.mark.parametrize("critic_target", ["td0", "lambda_return", "n_step"])
def test_windows_whose_cuts_fall_inside(critic_target):
    value = learned_value(window_collector(autoreset(Constant()), n_envs=2, n_steps=5), critic_target)
    np.testing.assert_allclose(value, 1 / (1 - GAMMA), rtol=1e-3)


@pytest.mark.parametrize("critic_target", ["td0", "lambda_return"])
def test_whole_episodes(critic_target):
    value = learned_value(episode_collector(autoreset(Constant()), n_episodes=2), critic_target)
    np.testing.assert_allclose(value, 1 / (1 - GAMMA), rtol=1e-3)


def test_episodes_that_end_are_worth_less():
    """The same rewards with an end after 8 steps: the state does not show the time, so V is the average over the eight
    steps left to go."""
    value = learned_value(episode_collector(autoreset(Constant(ends=True)), n_episodes=2), "monte_carlo")
    np.testing.assert_allclose(value, np.mean([(1 - GAMMA**k) / (1 - GAMMA) for k in range(1, 9)]), rtol=1e-3)
