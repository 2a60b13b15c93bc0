"""The closed forms of the linear-quadratic regulator against simulation, each other, and small perturbations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.envs import LQR, double_integrator, exact_return, optimal_gain

A = np.array([[0.9, 0.2], [-0.1, 1.0]])
B = np.array([[0.0], [0.5]])
Q, R = np.diag([1.0, 0.5]), np.array([[0.3]])
NOISE = np.array([[0.05, 0.01], [0.01, 0.02]])


def system(horizon=None):
    return LQR(A, B, Q, R, NOISE, np.array([1.0, -1.0]), np.diag([0.2, 0.0]), horizon=horizon)


@partial(jax.jit, static_argnums=(0, 4))
def simulate(env, gain, action_std, gamma, steps, n=8000):
    """Discounted returns ``[n]`` of u ~ N(−K s, std²) for one action coordinate."""
    action_key, reset_key, step_key = jax.random.split(jax.random.key(0), 3)

    def step(state, x):
        point_noise, action_noise = x
        state, _, reward, _ = jax.vmap(env.step)(point_noise, state, action_noise - state.point @ gain.T)
        return state, reward

    state, _ = jax.vmap(env.reset)(env.draw(reset_key, (n,)))
    noise = env.draw(step_key, (steps, n)), action_std * jax.random.normal(action_key, (steps, n, 1))
    _, reward = jax.lax.scan(step, state, noise)
    return gamma ** jnp.arange(steps) @ reward


@pytest.mark.parametrize(("horizon", "gamma", "steps"), [(7, 0.9, 7), (None, 0.8, 60)])
def test_exact_return_is_what_simulation_gives(horizon, gamma, steps):
    env, gain, action_std = system(horizon), np.array([[0.3, 0.8]]), 0.3
    sample = np.asarray(simulate(env, gain, action_std, gamma, steps), np.float64)
    exact = exact_return(env, gain, np.array([[action_std**2]]), gamma)
    assert abs(exact - sample.mean()) < 4 * sample.std() / np.sqrt(len(sample))


@pytest.mark.parametrize(("horizon", "gamma"), [(5, 1.0), (None, 0.9)])
def test_the_best_gain_has_no_gradient_and_no_better_neighbour(horizon, gamma):
    env, cov = system(horizon), np.zeros((1, 1))
    best = optimal_gain(env, gamma)
    with jax.enable_x64(True):
        value = jax.jit(lambda gain: exact_return(env, gain, cov, gamma))
        assert np.abs(jax.grad(value)(jnp.asarray(best))).max() < 1e-9
        assert value(best) > value(best + 0.01)
        assert value(best) > value(best - 0.01)


def test_a_long_horizon_is_the_stationary_problem():
    gain, cov = np.array([[0.3, 0.8]]), np.array([[0.1]])
    with jax.enable_x64(True):
        long, stationary = exact_return(system(400), gain, cov, 0.9), exact_return(system(), gain, cov, 0.9)
    np.testing.assert_allclose(long, stationary, rtol=1e-10)
    np.testing.assert_allclose(optimal_gain(system(400), 0.9)[0], optimal_gain(system(), 0.9), rtol=1e-9)


def test_an_unstable_policy_is_worth_minus_infinity():
    assert exact_return(system(), np.array([[-2.0, -2.0]]), np.zeros((1, 1)), 0.99) == -np.inf


def test_the_horizon_ends_the_episode():
    env = double_integrator(horizon=2)
    noise = env.draw(jax.random.key(0), ())
    state, _ = env.reset(noise)
    state, _, _, first = env.step(noise, state, jnp.zeros(1))
    _, _, _, second = env.step(noise, state, jnp.zeros(1))
    assert (bool(first), bool(second)) == (False, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Q": np.eye(3)}, "Q has shape"),
        ({"R": np.array([[np.nan]])}, "R holds a number that is not finite"),
        ({"Q": np.array([[1.0, 1.0], [0.0, 1.0]])}, "Q is not symmetric"),
        ({"noise_cov": -np.eye(2)}, "noise_cov has a negative eigenvalue"),
        ({"horizon": 0}, "horizon is 0"),
        ({"B": np.zeros(2)}, "B has shape"),
    ],
)
def test_wrong_systems_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LQR(**{"A": A, "B": B, "Q": Q, "R": R, **change})


def test_an_undiscounted_endless_problem_is_refused():
    with pytest.raises(ValueError, match="without a horizon it must be below 1"):
        exact_return(system(), np.zeros((1, 2)), np.eye(1), 1.0)
