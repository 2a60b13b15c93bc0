"""The endless stream: truncation is not termination, an end wins, and the true successor is kept."""

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from policygrad.envs import CartPole, autoreset, split_keys, to_bounds
from policygrad.envs.core import Env


class Count(Env):
    """Counts its steps and ends after ``end`` of them."""

    observation_space = spaces.Box(0.0, 99.0, (1,))
    action_space = spaces.Discrete(2)
    time_limit = None

    def __init__(self, end):
        self.end = end

    def reset(self, noise):
        return jnp.zeros(1), jnp.zeros(1)

    def step(self, noise, state, action):
        return state + 1, state + 1, 2.0, state[0] + 1 >= self.end


def run(stream, steps):
    noise = stream.draw(jax.random.key(0), (steps,))
    first = stream.reset(jax.tree.map(lambda x: x[0], noise[1]))
    return jax.lax.scan(lambda state, x: stream.step(x, state, jnp.asarray(0)), first, noise)[1]


def test_an_end_resets_and_keeps_the_successor():
    rows = run(autoreset(Count(3)), 7)
    assert rows.successor[:, 0].tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert rows.obs[:, 0].tolist() == [1, 2, 0, 1, 2, 0, 1]
    assert rows.terminated.tolist() == [False, False, True] * 2 + [False]
    assert not rows.truncated.any()
    assert rows.ret.tolist() == [2, 4, 6, 2, 4, 6, 2]
    assert rows.length.tolist() == [1, 2, 3, 1, 2, 3, 1]


def test_the_time_limit_truncates():
    rows = run(autoreset(Count(9), time_limit=2), 4)
    assert rows.truncated.tolist() == [False, True, False, True]
    assert not rows.terminated.any()
    assert rows.successor[:, 0].tolist() == [1, 2, 1, 2]


def test_an_end_at_the_time_limit_is_an_end():
    rows = run(autoreset(Count(2), time_limit=2), 2)
    assert rows.terminated.tolist() == [False, True]
    assert not rows.truncated.any()


def test_step_and_reset_noise_are_independent():
    step_noise, reset_noise = autoreset(CartPole()).draw(jax.random.key(0), (5, 2))
    assert step_noise.shape == reset_noise.shape == (5, 2, 4)
    assert not np.any(step_noise == reset_noise)
    assert split_keys(jax.random.key(0), (3,)).shape == (3,)


def test_only_boxes_are_clipped():
    box = spaces.Box(-1.0, np.inf, (2,))
    assert to_bounds(box, jnp.asarray([-3.0, 7.0])).tolist() == [-1.0, 7.0]
    assert to_bounds(spaces.Discrete(2), 5) == 5
