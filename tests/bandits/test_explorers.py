"""Inverse-gap weighting: the theorem for every f, Vowpal Wabbit's numbers, and distributions that are distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.bandits import explorers

inverse_gap_weighting = jax.jit(explorers.inverse_gap_weighting)

VOWPAL_WABBIT = [
    (10.0, 0.5, 1, [0.0, 0.0, 0.1858954280614853, 0.0], [0.32932108640670776, 0.25, 0.17067891359329224, 0.25]),
    (
        *(10.0, 0.5, 5, [0.09994375705718994, 0.0, 0.1858954280614853, 0.3836219310760498]),
        [0.16038979589939117, 0.637508749961853, 0.12259788066148758, 0.0795036032795906],
    ),
    (
        *(10.0, 0.5, 39, [0.10000000149011612, 0.5690097808837891, 0.32749009132385254, 0.8999195098876953]),
        [0.8965020179748535, 0.030039366334676743, 0.054924674332141876, 0.01853397861123085],
    ),
    (
        *(3.0, 0.25, 11, [0.09994375705718994, 0.33448418974876404, 0.32749009132385254, 0.7717703580856323]),
        [0.4895637035369873, 0.18934346735477448, 0.19072340428829193, 0.1303693950176239],
    ),
]
"""Scale and exponent of γ, rows learned, predicted costs, probabilities: vowpalwabbit 9.11.9, ``--cb_explore_adf
--squarecb``, as printed by ``benchmarks/peers/vw.py --golden``."""


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def random_scores(seed=0):
    """``[100, K]`` scores in [0, 1] with ties and extremes, and ``[100, 1]`` values of γ from 0.01 to 10⁵."""
    random = np.random.default_rng(seed)
    for k in (2, 6):
        scores = random.random((100, k))
        scores[::4], scores[1::4], scores[2::4] = np.rint(scores[::4]), np.rint(4 * scores[1::4]) / 4, scores[2::4] ** 8
        yield scores, 10 ** random.uniform(-2, 5, (100, 1))


def worst_case(scores, p, gamma):
    """max over f in [0, 1]^K and a* of E_{a∼p}[f(a*) − f(a) − (γ/4)(ŷ(a) − f(a))²], exactly, for each row.

    For each a* the expression is a concave parabola in every f(a) alone, so that its maximum over an interval is the
    peak, clipped.
    """
    found = []
    for best in range(scores.shape[1]):
        slope = (np.arange(scores.shape[1]) == best) - p
        f = np.clip(scores + 2 * slope / (gamma * p), 0, 1)
        found.append((slope * f - gamma / 4 * p * (scores - f) ** 2).sum(axis=1))
    return np.max(found, axis=0)


def test_regret_is_paid_for_by_the_regression_for_every_f():
    for scores, gamma in random_scores():
        p = np.asarray(inverse_gap_weighting(jnp.asarray(scores), gamma))
        share = worst_case(scores, p, gamma) / (2 * scores.shape[1] / gamma[:, 0])
        assert share.max() <= 1 + 1e-12
        assert share.max() > 0.4, "a bound that nothing comes near would test nothing"


def test_the_same_with_losses_whose_signs_are_swapped():
    for losses, gamma in random_scores(seed=1):
        k = losses.shape[1]
        p = np.asarray(inverse_gap_weighting(-jnp.asarray(losses), gamma))
        assert (worst_case(1 - losses, p, gamma) <= 2 * k / gamma[:, 0] + 1e-12).all()
        assert (p[np.arange(100), losses.argmin(1)] >= 1 / k - 1e-12).all()


def test_the_worst_case_is_the_worst():
    """No f on a fine grid is worse than the closed form, and one comes close."""
    scores, gamma = np.array([0.2, 0.7]), 3.0
    p = np.asarray(inverse_gap_weighting(jnp.asarray(scores), gamma))
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 401)] * 2), -1)
    regret = grid.max(-1) - grid @ p - gamma / 4 * ((scores - grid) ** 2) @ p
    (worst,) = worst_case(scores[None], p[None], gamma)
    assert worst - 1e-4 < regret.max() <= worst + 1e-12


@pytest.mark.parametrize(("scale", "exponent", "rows", "costs", "probabilities"), VOWPAL_WABBIT)
def test_vowpal_wabbits_probabilities(scale, exponent, rows, costs, probabilities):
    gamma = explorers.gamma_schedule(rows, scale, exponent)
    np.testing.assert_allclose(inverse_gap_weighting(-jnp.asarray(costs), gamma), probabilities, rtol=0, atol=1e-7)


def test_inverse_gaps_by_hand():
    found = inverse_gap_weighting(jnp.asarray([[0.5, 1.0, 0.0], [1.0, 1.0, 1.0]]), 4.0)
    np.testing.assert_allclose(found, [[1 / 5, 1 - 1 / 5 - 1 / 7, 1 / 7], [1 / 3] * 3], atol=1e-15)


def test_infinite_gamma_is_greedy_and_ties_keep_their_share():
    scores = jnp.asarray([[0.5, 1.0, 0.0, 0.9], [1.0, 0.0, 1.0, 0.2], [0.0, 0.0, 0.0, 0.0]])
    found = inverse_gap_weighting(scores, jnp.inf)
    np.testing.assert_array_equal(found, [[0, 1, 0, 0], [0.75, 0, 0.25, 0], [0.25] * 4])
    np.testing.assert_allclose(inverse_gap_weighting(scores, 1e15), found, atol=1e-12)


@pytest.mark.parametrize(("scale", "exponent"), [(10.0, 300.0), (1e308, 20.0), (0.0, 1e308)])
def test_gamma_never_overflows(scale, exponent):
    gamma = explorers.gamma_schedule(jnp.arange(100), scale, exponent)
    assert np.isfinite(gamma).all() and gamma[0] == 0 and (np.diff(gamma) >= 0).all()
    p = inverse_gap_weighting(jnp.asarray([0.2, 0.7, 0.7]), gamma[:, None])
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)


def test_they_sum_to_one_and_the_best_has_at_least_its_share():
    for scores, gamma in random_scores(seed=2):
        k, y = scores.shape[1], jnp.asarray(scores)
        weighted = inverse_gap_weighting(y, gamma)
        others = jax.jit(lambda y: (explorers.epsilon_greedy(y, 0.1), explorers.softmax(y, 0.2)))(y)
        for p in map(np.asarray, (weighted, *others)):
            np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
            assert (p >= 0).all() and (p[np.arange(100), scores.argmax(1)] >= 1 / k - 1e-12).all()
        assert (explorers.with_uniform(np.asarray(weighted), 0.2) >= 0.2 / k - 1e-15).all()


def test_epsilon_greedy_and_softmax_by_hand():
    y = jnp.asarray([0.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(explorers.epsilon_greedy(y, 0.2), [0.05, 0.85, 0.05, 0.05], atol=1e-15)
    odds = explorers.softmax(y, 0.5)
    assert odds[1] / odds[0] == pytest.approx(np.exp(2), rel=1e-12)


def test_gamma_grows_as_it_is_told():
    assert [float(explorers.gamma_schedule(rows, 10.0, 0.5)) for rows in (0, 1, 4, 100)] == [0, 10, 20, 100]


def test_sampling_is_exact():
    """Of n equally spaced numbers an action gets its share to one part in n; one of probability zero gets none."""
    p = jnp.asarray([0.0, 0.25, 0.0, 0.7, 0.05, 0.0])
    drawn = explorers.sample(jnp.broadcast_to(p, (2000, 6)), (jnp.arange(2000) + 0.5) / 2000)
    np.testing.assert_allclose(np.bincount(drawn, minlength=6) / 2000, p, atol=1 / 2000)
    edges = explorers.sample(jnp.broadcast_to(p, (2, 6)), jnp.asarray([0.0, 1 - 2**-53]))
    assert edges.tolist() == [1, 4]
