"""Unbiased, and with intervals that cover: by simulation, at five signal-to-noise ratios, one of them zero."""

import numpy as np
import pytest

from policygrad.measure import statistics as st

COVARIANCE = np.array([1.0, 0.7, 0.3, 0.1, 0.05])
TRACE = COVARIANCE.sum()


def vectors(rng, n, signal, heavy=False):
    """n vectors of mean ``signal`` in one direction and a known covariance; with ``heavy`` tails as returns have."""
    noise = rng.exponential(size=(n, 5)) - 1 if heavy else rng.normal(size=(n, 5))
    return signal * np.eye(5)[0] + noise * np.sqrt(COVARIANCE)


def covers(interval, truth):
    return interval[0] <= truth <= interval[1]


@pytest.mark.parametrize("signal", [0.0, 0.2, *(pytest.param(x, marks=pytest.mark.slow) for x in (0.05, 0.5, 2.0))])
def test_intervals_cover(signal):
    """300 data sets of 80 vectors: 95 % intervals hold the truth in 92 to 98 % of them (one error: 1.3 %)."""
    rng, runs = np.random.default_rng(int(signal * 100) + 7), 300
    hits = {"norm": 0, "variance": 0, "noise scale": 0, "snr": 0}
    estimates = []
    for _ in range(runs):
        k = st.gram(vectors(rng, 80, signal))
        estimates.append((st.squared_norm(k).value, st.total_variance(k).value))
        hits["norm"] += covers(st.squared_norm(k)[2:], signal**2)
        hits["variance"] += covers(st.total_variance(k)[2:], TRACE)
        scale = st.noise_scale(k)
        snr = st.signal_to_noise(scale)
        hits["noise scale"] += covers((scale.low, scale.high), TRACE / signal**2 if signal else np.inf)
        hits["snr"] += covers((snr.low, snr.high), signal**2 / TRACE)
    norm, variance = np.array(estimates).T
    assert abs(norm.mean() - signal**2) < 4 * norm.std() / np.sqrt(runs), "unbiased"
    assert abs(variance.mean() - TRACE) < 4 * variance.std() / np.sqrt(runs), "unbiased"
    shares = {name: count / runs for name, count in hits.items()}
    print(signal, shares)
    assert all(0.92 <= shares[name] <= 0.98 for name in ("norm", "variance")), shares
    assert all(shares[name] >= 0.92 for name in ("noise scale", "snr")), shares


def test_a_bias_is_seen_through_common_noise():
    """A bias of 0.01 in noise of variance 2: paired differences find it, unpaired ones could not."""
    rng = np.random.default_rng(1)
    x = vectors(rng, 400, 0.5)
    rung = x + 0.01 + 0.02 * rng.normal(size=x.shape)
    paired = st.squared_norm(st.gram(rung - x))
    assert covers(paired[2:], 5 * 0.01**2) and paired.told_from_zero
    unpaired = st.squared_norm(st.gram(rung))
    assert unpaired.low < 0.25 < unpaired.high, "the rung alone cannot tell"


def test_worth_is_the_ratio_of_mean_squared_errors():
    """Half the variance is worth two at any batch; a bias of the same rung costs more the larger the batch."""
    rng = np.random.default_rng(2)
    hits = {4: 0, 1000: 0}
    for _ in range(300):
        x = vectors(rng, 200, 1.0)
        rung = 1.0 * np.eye(5)[0] + (x - np.eye(5)[0]) / np.sqrt(2) + 0.05
        k, plain, bias = st.gram(rung), st.gram(x), st.gram(rung - x)
        for batch in hits:
            truth = (TRACE / batch) / (TRACE / 2 / batch + 5 * 0.05**2)
            found = st.worth(st.mean_squared_error(k, bias, batch), st.mean_squared_error(plain, None, batch))
            hits[batch] += covers((found.low, found.high), truth)
    assert all(0.90 <= count / 300 <= 0.995 for count in hits.values()), hits


@pytest.mark.slow
def test_cosines_against_a_large_simulation():
    rng = np.random.default_rng(3)
    size, signal = 8, 0.4
    many = vectors(rng, 400_000, signal).reshape(-1, size, 5).mean(axis=1)
    unit = many / np.linalg.norm(many, axis=1, keepdims=True)
    to_truth, among = unit[:, 0].mean(), (unit[::2] * unit[1::2]).sum(axis=1).mean()
    hits = np.zeros(2)
    for _ in range(300):
        units = st.unit_means(vectors(rng, 400, signal), size)
        true = st.cosine_to(units, st.Truth.of(vectors(rng, 300, signal)))
        hits += covers(st.cosine_between(units)[2:], among), covers(true[2:], to_truth)

    assert (hits / 300 >= 0.92).all() and (hits / 300 <= 0.985).all(), hits


def test_cosine_of_two_expectations():
    """Two gradients of the same trajectories, 60 degrees apart in expectation; and the traces need no Gram matrix."""
    rng, hits = np.random.default_rng(6), 0
    turned = np.array([0.5, np.sqrt(0.75), 0, 0, 0])
    for _ in range(300):
        x = vectors(rng, 200, 1.0)
        y = 2 * turned + 0.5 * (x - np.eye(5)[0]) + 0.3 * rng.normal(size=x.shape)
        hits += covers(st.cosine_of_means(x, y)[2:], 0.5)
    assert 0.92 <= hits / 300 <= 0.985, hits
    direct, k = st.variance_of(x), st.gram(x)
    assert direct.value == pytest.approx(st.total_variance(k).value)
    assert direct.influence == pytest.approx(st.variance_influence(k))
    assert np.isnan(st.cosine_of_means(vectors(rng, 50, 0.0), y[:50]).value)


def test_what_cannot_be_told_says_so():
    rng = np.random.default_rng(4)
    k = st.gram(vectors(rng, 30, 0.0))
    assert st.noise_scale(k).high == np.inf
    assert str(st.Ratio(5.0, 2.0, np.inf)) == "≥ 2" and str(st.Ratio(1.0, -np.inf, np.inf)) == "cannot be told"
    assert str(st.Ratio(5.0, 2.0, 9.0)) == "5 (2 to 9)"
    weak = st.normal(0.1, 0.1)
    assert not weak.told_from_zero and st.needed(weak, 100) == pytest.approx(384, abs=1)
    rough = st.normal(0.1, 0.05, 8)
    assert not rough.told_from_zero and st.needed(rough, 8) > 8, (
        "by Student's t it is not told, and eight are not enough"
    )
    with pytest.raises(ValueError, match="3 independent gradients are too few for an interval: give at least 4"):
        st.squared_norm(np.eye(3))


def test_no_set_is_empty_or_upside_down():
    """Where one of the two is surely below zero nothing can be told; cosines beyond the end of their scale; a mean that
    is luckily near zero does not make ‖g‖² = 0 certain."""
    n = 64
    below = st.ratio(st.Linear(1.0, np.linspace(-1, 1, n)), st.Linear(-1.0, np.linspace(-1, 1, n) ** 2 - 1 / 3))
    assert str(below) == "cannot be told" and below.low < below.high
    for value in (1.04, 1.5, -1.2):
        cosine = st.on_the_circle(value, 0.01, 20)
        assert cosine.value == value and -1 <= cosine.low <= cosine.high <= 1
    balanced = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]] * 8)
    norm = st.squared_norm(st.gram(balanced))
    assert norm.value < 0 == norm.low < norm.high
    snr = st.signal_to_noise(st.noise_scale(st.gram(balanced)))
    assert snr.value == pytest.approx(norm.value / st.total_variance(st.gram(balanced)).value), "never clipped"


def test_the_closed_forms_by_brute_force():
    """U against its sum over pairs; tr Σ and tr Σ² without bias."""
    from itertools import permutations

    rng = np.random.default_rng(5)
    k = st.gram(vectors(rng, 7, 0.3))
    pairs = [k[i, j] for i, j in permutations(range(7), 2)]
    assert st.squared_norm(k).value == pytest.approx(np.mean(pairs), abs=1e-12) == st.unbiased_norm(k)
    squares = []
    for _ in range(4000):
        x = vectors(rng, 30, 0.3)
        x = x - x.mean(axis=0)
        squares.append(st.trace_of_square(st.gram(x), (x**2).sum() / 29))
    assert np.mean(squares) == pytest.approx((COVARIANCE**2).sum(), rel=0.02)


def test_vectors_without_noise_have_an_exact_norm():
    same = st.squared_norm(st.gram(np.ones((6, 4))))
    assert (same.value, same.low, same.high) == (4.0, 4.0, 4.0)
