"""The Gymnasium adapter says the same whichever way the vector environment resets."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.envs import GymnasiumEnv, HostEnv
from policygrad.envs.host import did_you_mean


class Counter(gymnasium.Env):
    """Observes how many steps the episode has lasted; ends after three, or is truncated after ``limit``."""

    observation_space = spaces.Box(0.0, 9.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    received = None

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        Counter.received = action
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, self.t == 3, False, {}


def test_same_step_resets_keep_the_true_successor():
    env = GymnasiumEnv(Counter, num_envs=2)
    assert isinstance(env, HostEnv)
    assert env.reset(seed=0).tolist() == [[0], [0]]
    rows = [env.step(np.zeros((2, 1))) for _ in range(4)]
    assert [row.successor[0, 0] for row in rows] == [1, 2, 3, 1]
    assert [row.obs[0, 0] for row in rows] == [1, 2, 0, 1]
    assert [row.terminated[0] for row in rows] == [False, False, True, False]
    assert all(row.valid.all() for row in rows)
    env.close()


def test_next_step_resets_give_an_invalid_row():
    env = GymnasiumEnv("CartPole-v1", 3, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    over, met = np.zeros(3, bool), 0
    for _ in range(40):
        row = env.step(np.ones(3, int))
        assert np.array_equal(row.valid, ~over)
        assert np.all(row.reward[over] == 0)
        assert np.all(np.abs(row.obs[over]) <= 0.05)  # a first observation
        assert np.array_equal(row.successor, row.obs)
        over = row.terminated | row.truncated
        met += over.sum()
    assert met >= 3
    env.close()


def test_both_ways_see_the_same_episodes():
    """Always to the right, CartPole falls after 8 to 10 steps: the valid rows say so in both modes."""
    for mode in ("sync", "vector_entry_point"):
        env = GymnasiumEnv("CartPole-v1", 4, vectorization_mode=mode)
        env.reset(seed=1)
        rows = [env.step(np.ones(4, int)) for _ in range(60)]
        valid, terminated = np.array([r.valid for r in rows]), np.array([r.terminated for r in rows])
        assert 8 <= valid.sum() / terminated.sum() <= 12
        assert np.all(np.abs(np.array([r.successor for r in rows])[terminated][:, 2]) > 0.2)
        env.close()


def test_the_time_limit_truncates():
    env = GymnasiumEnv("MountainCar-v0", max_episode_steps=2)
    env.reset(seed=0)
    env.step(np.ones(1, int))
    row = env.step(np.ones(1, int))
    assert row.truncated.all()
    assert not row.terminated.any()
    assert not np.array_equal(row.obs, row.successor)
    env.close()


def test_box_actions_are_clipped():
    env = GymnasiumEnv(Counter)
    env.reset(seed=0)
    env.step(np.array([[7.0]]))
    assert Counter.received.tolist() == [1.0]
    env.close()


def test_what_is_returned_is_not_reused():
    env = GymnasiumEnv(Counter)
    first = env.reset(seed=0)
    row = env.step(np.zeros((1, 1)))
    env.step(np.zeros((1, 1)))
    assert (first[0, 0], row.obs[0, 0], row.successor[0, 0]) == (0, 1, 1)
    env.close()


def test_a_clone_shares_nothing():
    env = GymnasiumEnv("CartPole-v1", 2)
    other = env.clone(3)
    assert (env.num_envs, other.num_envs) == (2, 3)
    first = env.reset(seed=5)
    other.reset(seed=6)
    other.step(np.ones(3, int))
    assert np.array_equal(first, GymnasiumEnv("CartPole-v1", 2).reset(seed=5))
    env.close()
    other.step(np.ones(3, int))
    other.close()


def test_pictures_on_request():
    pytest.importorskip("pygame")
    env = GymnasiumEnv("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render()[0].shape == (400, 600, 3)
    env.close()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("CartPol-v1",), "knows no environment 'CartPol-v1'. Did you mean .*CartPole-v1"),
        (("Blackjack-v1",), "its observation space is Tuple.*Flatten it first"),
        (("CartPole-v1", 0), "num_envs is 0"),
    ],
)
def test_wrong_requests_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        GymnasiumEnv(*args)


def test_a_function_takes_no_options():
    with pytest.raises(ValueError, match="are for ids only"):
        GymnasiumEnv(Counter, render_mode="rgb_array")


def test_nothing_is_near_to_nonsense():
    assert did_you_mean("qqqqqq", ["CartPole-v1"]) == ""
    assert did_you_mean("cartpole-V1", ["CartPole-v1"]) == " Did you mean CartPole-v1?"
