import math

import numpy as np
import pytest
from scipy import stats

from policygrad.run.statistics import bootstrap_interval, iqm, summary

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("n", [4, 8, 40])
def test_iqm_is_the_trimmed_mean_where_the_size_divides_by_four(n):
    x = RNG.normal(size=n)
    assert iqm(x) == pytest.approx(stats.trim_mean(x, 0.25), rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7])
def test_iqm_weights_the_edges_in_part(n):
    x = RNG.normal(size=n)  # four copies of every value divide by four and have the same interquartile mean
    assert iqm(x) == pytest.approx(stats.trim_mean(np.repeat(x, 4), 0.25), rel=1e-12)


def test_iqm_ignores_an_outlier_but_not_a_nan():
    assert iqm([1.0, 2.0, 3.0, math.inf]) == 2.5
    assert math.isnan(iqm([1.0, 2.0, 3.0, math.nan]))
    assert math.isnan(iqm([]))


def test_iqm_reduces_the_first_axis():
    x = RNG.normal(size=(5, 3))
    np.testing.assert_allclose(iqm(x), [iqm(column) for column in x.T])
    np.testing.assert_allclose(iqm(x, axis=1), [iqm(row) for row in x])


@pytest.mark.parametrize(("n", "least", "most"), [(5, 0.80, 0.90), (10, 0.86, 0.94), (30, 0.90, 0.97)])
def test_the_interval_covers_a_normal_mean(n, least, most):
    x = np.random.default_rng(1).normal(3.0, 2.0, size=(500, n))
    intervals = [bootstrap_interval(row, n=1000, seed=i) for i, row in enumerate(x)]
    covered = np.mean([low <= 3.0 <= high for low, high in intervals])
    assert least <= covered <= most


@pytest.mark.parametrize("statistic", [np.mean, np.median, iqm])
def test_the_interval_agrees_with_scipy(statistic):
    x = np.random.default_rng(2).exponential(size=20)
    theirs = stats.bootstrap(
        (x,), statistic, method="percentile", vectorized=True, axis=0, rng=np.random.default_rng(5)
    ).confidence_interval
    np.testing.assert_allclose(bootstrap_interval(x, statistic), theirs, atol=0.03)


def test_chunks_change_nothing(monkeypatch):
    x = RNG.normal(size=6)
    whole = bootstrap_interval(x, iqm, n=100)
    monkeypatch.setattr("policygrad.run.statistics.CHUNK", 50)
    np.testing.assert_array_equal(bootstrap_interval(x, iqm, n=100), whole)


def test_seeds_of_a_curve_are_resampled_whole():
    x = RNG.normal(size=(6, 4))
    low, high = bootstrap_interval(x, n=500)
    assert low.shape == high.shape == (4,)
    np.testing.assert_allclose((low[2], high[2]), bootstrap_interval(x[:, 2], n=500))
    np.testing.assert_allclose(bootstrap_interval(x, lambda x, axis: np.mean(x, axis), n=500), (low, high))


@pytest.mark.parametrize("statistic", [np.mean, iqm])
def test_one_value_has_no_interval(statistic):
    assert all(map(math.isnan, bootstrap_interval([3.0], statistic)))


def test_a_level_in_percent_is_refused():
    with pytest.raises(ValueError, match=r"level is 95; .* such as 0.95"):
        bootstrap_interval([1.0, 2.0], level=95)


def test_summary():
    x = RNG.normal(size=10)
    low, high = bootstrap_interval(x)
    assert summary(x) == {"mean": np.mean(x), "iqm": iqm(x), "low": low, "high": high, "n": 10}
    assert summary([3.0]) | {"low": 0, "high": 0} == {"mean": 3.0, "iqm": 3.0, "low": 0, "high": 0, "n": 1}
    assert summary([])["n"] == 0 and math.isnan(summary([])["mean"])
