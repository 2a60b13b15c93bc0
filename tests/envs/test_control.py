"""The twins against the installed Gymnasium: a step from each of 10,000 of its own states, and the resets."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.envs import Acrobot, CartPole, MountainCar, MountainCarContinuous, Pendulum

N = 10_000
TWINS = {
    "CartPole-v1": CartPole,
    "Acrobot-v1": Acrobot,
    "MountainCar-v0": MountainCar,
    "MountainCarContinuous-v0": MountainCarContinuous,
    "Pendulum-v1": Pendulum,
}
# Half of the states come from random episodes, half from all over the state space, to meet walls, goals and bounds.
SPREAD = {
    "CartPole-v1": ([-2.4, -3, -0.21, -3], [2.4, 3, 0.21, 3]),
    "Acrobot-v1": ([-3.14, -3.14, -3, -3], [3.14, 3.14, 3, 3]),
    "MountainCar-v0": ([-1.2, -0.07], [0.6, 0.07]),
    "MountainCarContinuous-v0": ([-1.2, -0.07], [0.6, 0.07]),
    "Pendulum-v1": ([-6, -8], [6, 8]),
}
# How far the step is from an end: positive inside.
MARGIN = {
    "CartPole-v1": lambda s: np.minimum(2.4 - np.abs(s[:, 0]), 12 * 2 * np.pi / 360 - np.abs(s[:, 2])),
    "Acrobot-v1": lambda s: 1 + np.cos(s[:, 0]) + np.cos(s[:, 0] + s[:, 1]),
    "MountainCar-v0": lambda s: np.where(s[:, 1] >= -1e-5, 0.5 - s[:, 0], 1.0),
    "MountainCarContinuous-v0": lambda s: np.where(s[:, 1] >= -1e-5, 0.45 - s[:, 0], 1.0),
    "Pendulum-v1": lambda s: np.ones(len(s)),
}


def record(name):
    """``(state, action, next state, obs, reward, terminated)`` of N steps of Gymnasium's environment."""
    env, rng = gymnasium.make(name).unwrapped, np.random.default_rng(0)
    env.action_space.seed(0)
    env.reset(seed=0)
    rows, age = [], 0
    for i in range(N):
        if i >= N // 2:
            env.state = rng.uniform(*SPREAD[name])
        state, action = np.array(env.state), env.action_space.sample()
        obs, reward, terminated, _, _ = env.step(action)
        rows.append((state, action, np.array(env.state), np.array(obs), reward, terminated))
        age += 1
        if terminated or age == 300:
            env.reset()
            age = 0
    return [np.array(column) for column in zip(*rows)]


def close(ours, theirs):
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return np.abs(ours - theirs) <= 1e-5 * np.maximum(1, np.abs(theirs))


def same_turn(name, ours, theirs):
    """Acrobot's angles are the same modulo 2π."""
    if name == "Acrobot-v1":
        ours = np.array(ours, np.float64)
        ours[:, :2] -= 2 * np.pi * np.round((ours[:, :2] - theirs[:, :2]) / (2 * np.pi))
    return ours


@pytest.mark.parametrize("name", TWINS)
def test_the_same_step(name):
    state, action, after, obs, reward, terminated = record(name)
    env = TWINS[name]()
    noise = np.zeros(np.shape(env.draw(jax.random.key(0), (N,))), np.float32)
    ours = jax.jit(jax.vmap(env.step))(noise, jnp.asarray(state, jnp.float32), jnp.asarray(action))
    our_after, our_obs, our_reward, our_terminated = jax.tree.map(np.asarray, ours)
    same_side = our_terminated == terminated
    assert np.all(same_side | (np.abs(MARGIN[name](after)) <= 1e-5))
    assert close(same_turn(name, our_after, after), after).all()
    assert close(our_obs, obs).all()
    assert close(our_reward, reward)[same_side].all()
    assert terminated.any() == (name != "Pendulum-v1")  # the ends were met


@pytest.mark.parametrize("name", TWINS)
def test_double_precision_stays_double(name):
    def episode(key, action):
        noise = env.draw(key, ())
        state, obs = env.reset(noise)
        return obs, *env.step(noise, state, action)

    with jax.enable_x64(True):
        env = TWINS[name]()
        action = jnp.zeros(env.action_space.shape, float if env.action_space.shape else int)
        *floats, terminated = jax.tree.leaves(jax.eval_shape(episode, jax.random.key(0), action))
    assert {str(leaf.dtype) for leaf in floats} == {"float64"}
    assert terminated.dtype == bool


@pytest.mark.parametrize("name", TWINS)
def test_the_same_resets(name):
    """Every coordinate has the same bounds, mean and spread; the observation is the one of Gymnasium's space."""
    twin, theirs = TWINS[name](), gymnasium.make(name).unwrapped
    _, ours = jax.vmap(twin.reset)(twin.draw(jax.random.key(1), (2000,)))
    gym_obs = np.array([theirs.reset(seed=seed)[0] for seed in range(500)])
    ours = np.asarray(ours)
    scale = gym_obs.max(axis=0) - gym_obs.min(axis=0) + 1e-6
    for statistic, tolerance in ((np.min, 0.05), (np.max, 0.05), (np.mean, 0.1), (np.std, 0.05)):
        assert np.all(np.abs(statistic(ours, axis=0) - statistic(gym_obs, axis=0)) <= tolerance * scale), statistic


@pytest.mark.parametrize("name", TWINS)
def test_the_same_spaces_and_time_limit(name):
    twin, theirs = TWINS[name](), gymnasium.make(name)
    assert twin.observation_space == theirs.observation_space
    assert twin.action_space == theirs.action_space
    assert twin.time_limit == theirs.spec.max_episode_steps
