"""Numbers that others published: the expected values in the unit tests of RLax (DeepMind; ``multistep_test.py`` and
``vtrace_test.py``).

Their conventions: ``discount_t`` and ``v_t`` belong to the step's end, as ``discount`` and ``next_value`` do here.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.ladder import Psi, corrections, targets
from policygrad.types import Steps

R = np.array([[1.0, 0.0, -1.0, 0.0, 1.0], [0.5, 0.8, -0.7, 0.0, 2.1]]).T
DISCOUNT = np.array([[0.5, 0.9, 1.0, 0.5, 0.8], [0.9, 0.5, 0.3, 0.8, 0.7]]).T
NEXT_V = np.array([[3.0, 1.0, 5.0, -5.0, 3.0], [-1.7, 1.2, 2.3, 2.2, 2.7]]).T


def steps(reward, discount, next_value, value=None, log_rho=None, last=None):
    """A window that is cut at its last row and nowhere else, unless ``last`` says more."""
    zero = jnp.zeros(reward.shape)
    window_end = np.arange(len(reward))[:, None] == len(reward) - 1
    return Steps(
        reward=jnp.asarray(reward),
        discount=jnp.asarray(discount),
        last=jnp.asarray(window_end | (discount == 0) if last is None else last),
        value=zero if value is None else jnp.asarray(value),
        next_value=jnp.asarray(np.where(discount == 0, 0, next_value)),
        log_rho=zero if log_rho is None else jnp.asarray(log_rho),
        score_sq=None,
        score_cov=None,
        time=jnp.cumsum(jnp.ones(reward.shape, int), axis=0) - 1,
        mask=jnp.ones(reward.shape, bool),
    )


def test_lambda_returns():
    expected = [[1.6460547, 0.72281253, 0.7375001, 0.6500001, 3.4], [0.7866317, 0.9913063, 0.1101501, 2.834, 3.99]]
    np.testing.assert_allclose(targets.lambda_return(steps(R, DISCOUNT, NEXT_V), 0.75).T, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (3, [[2.8, -3.15, 0.7, 1.7, 3.4], [1.2155, 0.714, 0.2576, 3.192, 3.99]]),
        (5, [[1.315, 0.63, 0.7, 1.7, 3.4], [1.33592, 0.9288, 0.2576, 3.192, 3.99]]),
        (7, [[1.315, 0.63, 0.7, 1.7, 3.4], [1.33592, 0.9288, 0.2576, 3.192, 3.99]]),
    ],
)
def test_n_step_bootstrapped_returns(n, expected):
    np.testing.assert_allclose(targets.n_step_return(steps(R, DISCOUNT, NEXT_V), n).T, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("lam", "expected"),
    [
        (1.0, [[-1.45118, -4.4557, 2.5396, 0.5249, -0.49], [3.0, 2.0, 1.0, 0.0, -4.9]]),
        (0.7, [[-0.676979, -5.248167, 2.4846, 0.6704, -0.49], [2.2899, 1.73, 1.0, 0.0, -4.9]]),
        (0.4, [[0.56731, -6.042, 2.3431, 0.815, -0.49], [1.725, 1.46, 1.0, 0.0, -4.9]]),
    ],
)
def test_generalized_advantage_estimation_across_the_end_of_an_episode(lam, expected):
    reward = np.array([[0.0, 0.0, 1.0, 0.0, -0.5], [0.0, 0.0, 0.0, 0.0, 1.0]]).T
    v = np.array([[1.0, 4.0, -3.0, -2.0, -1.0, -1.0], [-3.0, -2.0, -1.0, 0.0, 5.0, -1.0]]).T
    discount = np.array([[0.99] * 5, [0.9, 0.9, 0.9, 0.0, 0.9]]).T
    psi = Psi("lambda_return", "value", lam=lam)
    np.testing.assert_allclose(psi(steps(reward, discount, v[1:], v[:-1])).T, expected, atol=1e-3)


def test_generalized_advantage_estimation_across_a_truncation():
    """By hand, γ = ½, λ = ½, r = 1, V = (2, 4, 6): the second row is truncated and its true successor is worth 8.

    δ = (1 + ½·4 − 2, 1 + ½·8 − 4, 1 + ½·10 − 6) = (1, 1, 0); nothing crosses the cut: A = (1 + ¼·1, 1, 0).
    """
    ones, v = np.ones((3, 1)), np.array([[2.0], [4.0], [6.0]])
    cut = steps(ones, 0.5 * ones, np.array([[4.0], [8.0], [10.0]]), v, last=np.array([[False], [True], [True]]))
    np.testing.assert_allclose(Psi("lambda_return", "value", lam=0.5)(cut)[:, 0], [1.25, 1.0, 0.0], atol=1e-12)


def test_vtrace():
    mu = np.array(
        [[[8.9, 0.7], [5.0, 1.0], [0.6, 0.1], [-0.9, -0.1]], [[0.3, -5.0], [1.0, -8.0], [0.3, 1.7], [4.7, 3.3]]]
    )
    pi = np.array(
        [[[0.4, 0.5], [9.2, 8.8], [0.7, 4.4], [7.9, 1.4]], [[1.0, 0.9], [1.0, -1.0], [-4.3, 8.7], [0.8, 0.3]]]
    )
    action = np.array([[0, 1, 0, 0], [1, 0, 0, 1]])

    def log(logits):
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return np.take_along_axis(log_probs, action[..., None], -1)[..., 0]

    value = np.array([[2.1, 1.1, -3.1, 0.0], [3.1, 0.1, -1.1, 7.4]]).T
    window = steps(
        reward=np.array([[-1.3, -1.3, 2.3, 42.0], [1.3, 5.3, -3.3, -5.0]]).T,
        discount=np.array([[0.0, 0.89, 0.85, 0.99], [0.88, 1.0, 0.83, 0.95]]).T,
        next_value=np.concatenate([value[1:], [[8.4, -1.2]]]),
        value=value,
        log_rho=(log(pi) - log(mu)).T,
    )
    errors = [[-1.6155143, -3.4973226, 1.8670533, 5.0316002e1], [1.4662437, 3.6116405, -8.3327293e-5, -1.3540000e1]]
    np.testing.assert_allclose((targets.vtrace_value(window, 1.0, 1.0, 1.0) - value).T, errors, rtol=1e-3)
    advantage = corrections.vtrace(window, 1.0) * (targets.vtrace(window, 1.0, 1.0, 1.0) - value)
    np.testing.assert_allclose(advantage.T, errors, rtol=1e-3)
