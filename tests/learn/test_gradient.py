"""The surrogates as arithmetic, and what they are divided by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.learn import Clipped, KLPenalty, Ratio, Score, surrogate

LOG_PROB = jnp.log(jnp.array([[0.5, 0.2], [0.9, 0.3]]))
LOG_MU = jnp.log(jnp.array([[0.25, 0.4], [0.9, 0.1]]))  # ratios 2, ½; 1, 3
WEIGHTS = jnp.array([[1.0, -1.0], [2.0, 5.0]])
ALL = jnp.ones((2, 2), bool)
BETA = 0.5


@pytest.mark.parametrize(
    ("kind", "total"),
    [
        (Score(), np.log(0.5) - np.log(0.2) + 2 * np.log(0.9) + 5 * np.log(0.3)),
        (Ratio(), 2 - 0.5 + 2 + 15),
        (Clipped(0.2), 1.2 - 0.8 + 2 + 6),  # the gain is clipped, a loss beyond the clip too: min(−½, −0.8)
        (KLPenalty(BETA), 18.5 - BETA * ((2 - 1 - np.log(2)) + (0.5 - 1 - np.log(0.5)) + 0 + (3 - 1 - np.log(3)))),
    ],
    ids=["score", "ratio", "clipped", "kl penalty"],
)
def test_the_four_surrogates_by_hand(kind, total):
    np.testing.assert_allclose(surrogate(LOG_PROB, LOG_MU, WEIGHTS, ALL, kind=kind), total / 2, rtol=1e-5)
    np.testing.assert_allclose(surrogate(LOG_PROB, LOG_MU, WEIGHTS, ALL, kind=kind, per="step"), total / 4, rtol=1e-5)


@pytest.mark.parametrize("kind", [Score(), Ratio(), Clipped(0.2), KLPenalty(BETA)])
@pytest.mark.parametrize("garbage", [jnp.nan, -jnp.inf])
def test_only_what_is_valid_counts(kind, garbage):
    """Three rows of two trajectories, and a column that is all padding. Garbage there does no harm, not even to the
    gradient."""
    mask = jnp.array([[True, True, False], [True, False, False]])
    log_prob = jnp.array([[-0.5, -0.2, -0.1], [-0.9, -0.3, -0.4]])
    log_mu = jnp.where(mask, log_prob, garbage)
    weights = jnp.where(mask, jnp.array([[1.0, -1.0, 0.0], [2.0, 5.0, 0.0]]), garbage)
    grad = lambda per: jax.grad(lambda x: surrogate(x, log_mu, weights, mask, kind=kind, per=per))(log_prob)  # noqa: E731
    np.testing.assert_allclose(grad("trajectory"), np.array([[1, -1, 0], [2, 0, 0]]) / 2, rtol=1e-6)
    np.testing.assert_allclose(grad("step"), np.array([[1, -1, 0], [2, 0, 0]]) / 3, rtol=1e-6)


def test_a_clipped_gain_has_no_gradient():
    grad = jax.grad(lambda x: surrogate(x, LOG_MU, WEIGHTS, ALL, kind=Clipped(0.2)))(LOG_PROB)
    np.testing.assert_allclose(grad, [[0, 0], [1, 0]], atol=1e-6)  # only the ratio of one is inside
