"""The regressions: ridge against its closed form, gradients that never overshoot, a network that learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.bandits.oracles import ORACLES, gradient, linear, network


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def rows(count=40, d=4, k=3, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, d))
    return x, random.integers(0, k, count), random.normal(size=count), random.uniform(0.1, 3, count)


def learn_all(oracle, data):
    def step(state, row):
        return oracle.learn(state, *row), None

    return jax.lax.scan(step, oracle.init(jax.random.key(0)), tuple(map(jnp.asarray, data)))[0]


def test_linear_is_weighted_ridge_regression_of_every_action():
    x, action, reward, weight = data = rows()
    state = learn_all(linear(3, 4, ridge=0.7), data)
    for a in range(3):
        own = action == a
        covariance = 0.7 * np.eye(4) + (x[own] * weight[own, None]).T @ x[own]
        theta = np.linalg.solve(covariance, x[own].T @ (weight[own] * reward[own]))
        np.testing.assert_allclose(state.weight[a], theta, atol=1e-12)
        np.testing.assert_allclose(state.inverse[a], np.linalg.inv(covariance), atol=1e-12)


def test_gradient_step_by_hand():
    """θ = 0, one row: G = (e x)², d = x / (‖x‖·|e x|) = sign(x)/(‖x‖ e), and the error shrinks by exp(−η xᵀd)."""
    oracle = gradient(2, 2, learning_rate=0.3)
    x, reward = jnp.asarray([3.0, -4.0]), jnp.asarray(0.5)
    state = oracle.learn(oracle.init(jax.random.key(0)), x, jnp.asarray(1), reward, jnp.asarray(1.0))
    along = 7.0 / (5.0 * 0.5)
    assert reward - oracle.predict(state, x)[1] == pytest.approx(0.5 * np.exp(-0.3 * along), abs=1e-12)
    assert (state.weight[0] == 0).all() and (state.squares[0] == 0).all()


def test_a_gradient_step_never_passes_the_reward():
    x, action, reward, weight = rows(60)
    oracle = gradient(3, 4, learning_rate=50.0)

    def step(state, row):
        error = lambda state: row[2] - oracle.predict(state, row[0])[row[1]]  # noqa: E731
        after = oracle.learn(state, *row)
        return after, error(after) / error(state)

    data = tuple(map(jnp.asarray, (x, action, reward, 100 * weight)))
    left = jax.lax.scan(step, oracle.init(jax.random.key(0)), data)[1]
    assert left.min() >= -1e-9 and left.max() <= 1


def test_gradients_learn_what_is_linear():
    x = rows(3000, seed=1)[0]
    theta = np.array([[1.0, -2, 0.5, 0], [0, 1, 1, -1]])
    action = np.arange(3000) % 2
    reward = np.einsum("td,td->t", x, theta[action])
    state = learn_all(gradient(2, 4), (x, action, reward, np.ones(3000)))
    np.testing.assert_allclose(state.weight, theta, atol=0.02)


def test_a_row_of_zeros_teaches_nothing_and_breaks_nothing():
    oracle = gradient(2, 3)
    nothing = jnp.zeros(3), jnp.asarray(0), jnp.asarray(1.0), jnp.asarray(1.0)
    state = oracle.learn(oracle.init(jax.random.key(0)), *nothing)
    assert (state.weight == 0).all() and (state.squares == 0).all()


def test_a_network_learns_what_is_not_linear():
    """y = x₁x₂ for one action and −x₁x₂ for the other: every linear score is 0 on average."""
    random = np.random.default_rng(0)
    x = random.choice([-1.0, 1.0], (5000, 2))
    action = random.integers(0, 2, 5000)
    reward = np.where(action == 0, 1, -1) * x[:, 0] * x[:, 1]
    oracle = network(2, 2, hidden=(16,), learning_rate=0.01)
    begin = oracle.init(jax.random.key(0))
    assert (oracle.predict(begin, jnp.asarray(x[:5])) == 0).all(), "nothing is known at first"
    state = learn_all(oracle, (x, action, reward, np.ones(5000)))
    corners = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    truth = (corners[:, 0] * corners[:, 1])[:, None] * np.array([1, -1])
    np.testing.assert_allclose(oracle.predict(state, jnp.asarray(corners)), truth, atol=0.3)


@pytest.mark.parametrize("name", ORACLES)
def test_batches_are_predicted_row_by_row(name):
    oracle = ORACLES[name](3, 4)
    x, *rest = rows(6)
    state = learn_all(oracle, (x, *rest))
    many = oracle.predict(state, jnp.asarray(x).reshape(2, 3, 4))
    alone = jnp.stack([oracle.predict(state, row) for row in jnp.asarray(x)])
    np.testing.assert_allclose(many.reshape(6, 3), alone, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: linear(3, 4, ridge=0.0), "ridge is 0.0"),
        (lambda: linear(10, 2**16), "too many: choose oracle 'gradient'"),
        (lambda: gradient(3, 4, learning_rate=-1.0), "learning_rate is -1.0"),
        (lambda: network(3, 4, learning_rate=0.0), "learning_rate is 0.0"),
    ],
)
def test_numbers_that_make_no_sense(make, words):
    with pytest.raises(ValueError, match=words):
        make()
