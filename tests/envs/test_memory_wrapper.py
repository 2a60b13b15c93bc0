"""``remember``: the last action and reward stand where they are promised, and are gone after a reset."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.envs import CartPole, Pendulum, autoreset, chain, remember
from policygrad.envs.core import Env


def test_a_discrete_action_enters_as_its_one_hot():
    env, inner = remember(CartPole()), CartPole()
    noise = env.draw(jax.random.key(0), ())
    state, obs = env.reset(noise)
    assert np.array_equal(obs, [*inner.reset(noise)[1], 0, 0, 0])
    _, after, reward, _ = env.step(noise, state, jnp.asarray(1))
    assert np.array_equal(after, [*inner.step(noise, state, jnp.asarray(1))[1], 0, 1, reward])
    assert env.time_limit == 500
    assert env.observation_space.contains(np.asarray(after))


def test_a_discrete_observation_enters_as_its_one_hot():
    env = remember(chain(3))
    state, obs = env.reset(jnp.zeros(2))
    assert obs.tolist() == [1, 0, 0, 0, 0, 0]
    state, _, _, _ = env.step(jnp.zeros(2), state, 1)
    _, obs, _, terminated = env.step(jnp.zeros(2), state, 1)
    assert obs.tolist() == [0, 0, 1, 0, 1, 1]
    assert terminated


def test_a_box_action_enters_as_the_environment_received_it():
    env = remember(Pendulum())
    stream = autoreset(env, time_limit=2)
    noise = stream.draw(jax.random.key(0), ())
    state, first = stream.step(noise, stream.reset(noise[1]), jnp.asarray([9.0]))
    _, second = stream.step(noise, state, jnp.asarray([-0.5]))
    np.testing.assert_allclose(first.obs[3:], [2.0, first.reward], rtol=1e-6)  # clipped to its bounds
    np.testing.assert_allclose(second.successor[3:], [-0.5, second.reward], rtol=1e-6)
    assert second.truncated
    assert second.obs[3:].tolist() == [0, 0]  # a new episode remembers nothing


class Picture(Env):
    observation_space = spaces.Box(0.0, 1.0, (4, 4))
    action_space = spaces.Discrete(2)
    time_limit = 1


def test_a_picture_is_refused():
    with pytest.raises(ValueError, match=r"observation space is Box.*must be Discrete or a 1-D Box"):
        remember(Picture())
