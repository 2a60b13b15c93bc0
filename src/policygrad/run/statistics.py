"""What a handful of seeds says, and how surely.

Every function takes one number per seed or episode along the **first** axis. A NaN among them makes the answer NaN: a
seed that diverged is a result, not a gap.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

CHUNK = 4_000_000
"""Resampled numbers held in memory at once."""


def iqm(x: ArrayLike, axis: int = 0) -> np.ndarray:
    """The interquartile mean: the mean of the middle half, in the units of ``x``.

        IQM = (2/n) Σ_i w_i x_(i),    w_i = |[i, i+1] ∩ [n/4, 3n/4]|,    x_(0) ≤ … ≤ x_(n−1)

    It is the 25 % trimmed mean, exact for every n: where n/4 is no whole number the two outermost values count in part.
    Less noisy than the median and less moved by one lucky seed than the mean (Agarwal et al. 2021, "Deep Reinforcement
    Learning at the Edge of the Statistical Precipice").
    """
    ordered = np.moveaxis(np.sort(np.asarray(x, float), axis=axis), axis, -1)
    n = ordered.shape[-1]
    if n == 0:
        return np.full(ordered.shape[:-1], np.nan)[()]
    left = np.arange(n)
    weights = np.clip(np.minimum(left + 1, 3 * n / 4) - np.maximum(left, n / 4), 0, None)
    inner = weights > 0  # a weight of zero times an infinite outlier would be NaN
    middle = ordered[..., inner] @ (2 * weights[inner] / n)
    return np.where(np.isnan(ordered[..., -1]), np.nan, middle)[()]  # NaNs are sorted last


def bootstrap_interval(
    x: ArrayLike,
    statistic: Callable[..., np.ndarray] = np.mean,
    level: float = 0.95,
    n: int = 10_000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """``(low, high)``: a percentile bootstrap interval of ``statistic`` at ``level``, in the units of ``x``.

        low, high = the (1 ∓ level)/2 quantiles of  statistic(x*),    x* drawn n times from x with replacement

    (Efron 1979). ``x`` is ``[seeds, ...]``: whole seeds are resampled, so a curve ``[seeds, steps]`` gets a band
    ``[steps]``. ``statistic`` reduces an ``axis``, as ``np.mean``, ``np.median`` and :func:`iqm` do. With fewer than
    two seeds nothing is known about their spread, and the interval is NaN to NaN. With few seeds it is too narrow: the
    95 % interval of five normal values covers their mean about 85 % of the time, of ten about 90 %.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; choose a number between 0 and 1, such as 0.95")
    x = np.asarray(x, float)
    if len(x) < 2:
        nothing = np.full(x.shape[1:], np.nan)[()]
        return nothing, nothing
    replicates = np.concatenate(list(_replicates(x, statistic, n, np.random.default_rng(seed))))
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _replicates(x: np.ndarray, statistic: Callable, n: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """``statistic`` of n resampled copies of ``x``, in chunks. A mean needs only how often each seed was drawn."""
    rows = max(1, CHUNK // max(1, x[0].size if statistic is np.mean else x.size))
    for start in range(0, n, rows):
        drawn = rng.integers(len(x), size=(min(rows, n - start), len(x)))
        yield _weighted_means(x, drawn) if statistic is np.mean else statistic(x[drawn], axis=1)


def _weighted_means(x: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    seeds = len(x)
    counts = np.bincount((drawn + seeds * np.arange(len(drawn))[:, None]).ravel(), minlength=drawn.size)
    return np.tensordot(counts.reshape(drawn.shape) / seeds, x, axes=1)


def summary(x: ArrayLike, level: float = 0.95) -> dict[str, float]:
    """``mean``, ``iqm``, ``low`` and ``high`` (the bootstrap interval of the mean) and ``n`` of one number per seed."""
    x = np.asarray(x, float).reshape(-1)
    low, high = bootstrap_interval(x, level=level)
    mean = float(np.mean(x)) if len(x) else math.nan
    return {"mean": mean, "iqm": float(iqm(x)), "low": float(low), "high": float(high), "n": len(x)}
