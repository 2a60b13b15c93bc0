"""``remember``: the last action and reward stand where they are promised, and are gone after a reset."""

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from policygrad.envs import CartPole, Pendulum, autoreset, chain, remember
from policygrad.envs.core import Env
from policygrad.types import MaskedObs


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
    """A picture beside a number, and two things to do."""

    observation_space = spaces.Dict({"see": spaces.Box(0, 255, (4, 4, 1), np.uint8), "x": spaces.Box(-1.0, 1.0, (1,))})
    action_space = spaces.Tuple([spaces.Discrete(2), spaces.Box(-1.0, 1.0, (1,))])
    time_limit = 1

    def reset(self, noise):
        obs = {"see": jnp.zeros((4, 4, 1), jnp.uint8), "x": jnp.ones(1)}
        return jnp.zeros(()), MaskedObs(obs, jnp.ones(2, bool)) if self.masks else obs

    def step(self, noise, state, action):
        return state, self.reset(noise)[1], jnp.asarray(0.5), jnp.zeros((), bool)

    def __init__(self, masks=False):
        self.masks = masks


def test_structured_observations_stand_beside_the_memory():
    env = remember(Picture())
    noise = env.draw(jax.random.key(0), ())
    state, first = env.reset(noise)
    assert first["obs"]["see"].dtype == jnp.uint8
    assert first["action"].tolist() == [0, 0, 0] and first["reward"] == 0
    _, second, _, _ = env.step(noise, state, (jnp.asarray(1), jnp.asarray([0.25])))
    assert second["action"].tolist() == [0, 1, 0.25] and second["reward"] == 0.5
    assert env.observation_space.contains(jax.tree.map(np.asarray, second))


def test_a_mask_stays_outside():
    env = remember(Picture(masks=True))
    _, shown = env.reset(env.draw(jax.random.key(0), ()))
    assert isinstance(shown, MaskedObs) and set(shown.obs) == {"obs", "action", "reward"}
    assert shown.mask.shape == (2,)
