"""How noisy, how biased: unbiased estimators of a gradient's moments, and honest intervals. NumPy, arrays in.

All that is measured is a function of inner products. Let x_1 … x_n be independent vectors (gradients of single
trajectories, or means of groups of them) with mean g and covariance Σ, and K_ij = ⟨x_i, x_j⟩ their Gram matrix. Then

    ‖g‖²  is estimated by  U = mean of K_ij over i ≠ j          (a U-statistic; ‖x̄‖² would be too large by tr Σ / n)
    tr Σ  is estimated by  D − U,  D = mean of K_ii

both without bias and never clipped: where ‖g‖² is small against its error, U may be negative, and says so. Biases are
measured on *differences* of two gradients of the same trajectories, whose common noise cancels.

Ratios (critical batch size, worth) get Fieller's sets, which may be unbounded: then the data cannot tell.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.stats import chi2
from scipy.stats import t as student

Z = 1.959963984540054
"""Half-width of a 95 % interval, in standard errors."""


class Estimate(NamedTuple):
    """An unbiased estimate with its standard error and its 95 % interval."""

    value: float
    error: float
    low: float
    high: float

    @property
    def told_from_zero(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def normal(value: float, error: float, n: float = np.inf) -> Estimate:
    """An estimate whose errors are normal, or Student's t where the error comes from n vectors."""
    half = quantile(n) * error
    return Estimate(float(value), float(error), float(value - half), float(value + half))


@cache
def quantile(n: float) -> float:
    """Half-width of a 95 % interval, in standard errors that n vectors told."""
    return Z if np.isinf(n) else float(student.ppf(0.975, n - 1))


class Ratio(NamedTuple):
    """A ratio with its 95 % set; an infinite end: the data do not bound it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.low) and not np.isfinite(self.high):
            return "cannot be told"
        if not np.isfinite(self.high):
            return f"≥ {self.low:.3g}"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def gram(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"] | None = None) -> Float[np.ndarray, "n n"]:
    """⟨x_i, y_j⟩ in float64. With ``y`` the symmetric part: as statistics of i and j want it."""
    x = np.asarray(x, np.float64)
    if y is None:
        return x @ x.T
    product = x @ np.asarray(y, np.float64).T
    return (product + product.T) / 2


def off_diagonal(k: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """K with zeros where i = j."""
    return k - np.diag(np.diag(k))


def squared_norm(k: Float[np.ndarray, "n n"]) -> Estimate:
    """‖g‖² = ‖E x‖² from the Gram matrix: U, with an interval that holds at g = 0 too.

    There U is degenerate: far from normal, and a jackknife would be wrong. The interval asks which ‖g‖² = θ ≥ 0 make
    the observed ‖x̄‖² plausible. X = n‖x̄‖² has mean tr Σ + nθ and variance 2 tr Σ² + 4nθσ², with σ² the variance along
    g, and is taken for a scaled χ² with these moments (Patnaik 1949). Where θ is small against its error nobody can
    know the direction of g, and σ² leans toward the largest variance there is.

    Raises:
        ValueError: fewer than four vectors.
    """
    n = len(k)
    require(n, 4)
    length = float(k.mean())  # ‖x̄‖²
    trace = (float(np.trace(k)) - n * length) / (n - 1)
    value = length - trace / n
    rows = k.mean(axis=1)
    centred = k - rows[:, None] - rows[None, :] + length
    if trace <= 0:
        return Estimate(value, 0.0, value, value)
    square = trace_of_square(centred, trace)
    noise = np.sqrt(2 * square) / n
    widest = largest_eigenvalue(centred) / (n - 1)
    along = max(float(rows.var(ddof=1)) - square / n, 0.0)  # g'Σg, as it is seen along x̄
    spread = (along + 2 * noise * widest) / (max(value, 0.0) + 2 * noise)

    def below(theta: float) -> float:
        """The probability that X is below what was observed, if ‖g‖² is θ."""
        mean, variance = trace + n * theta, 2 * square + 4 * n * theta * spread
        return float(chi2.cdf(n * length * 2 * mean / variance, 2 * mean**2 / variance))

    error = np.sqrt(noise**2 + 4 * max(value, 0.0) * spread / n)
    high = max(crossing(below, 0.025, error), noise)  # no sample is luckier than one standard error (Cowan et al. 2011)
    return Estimate(value, float(error), crossing(below, 0.975, error), float(high))


def largest_eigenvalue(k: Float[np.ndarray, "n n"]) -> float:
    return float(eigh(k, eigvals_only=True, subset_by_index=[len(k) - 1, len(k) - 1])[0])


def trace_of_square(centred: Float[np.ndarray, "n n"], trace: float) -> float:
    """tr Σ² from the centred Gram matrix, without the share that noise adds (exact for normal vectors)."""
    n = len(centred)
    square = float((centred**2).sum()) / (n - 1) ** 2
    return max((n - 1) ** 2 / ((n + 1) * (n - 2)) * (square - trace**2 / (n - 1)), trace**2 / (n - 1))


def crossing(below: Callable[[float], float], level: float, scale: float) -> float:
    """The θ ≥ 0 at which a decreasing function falls to ``level``; 0 where it begins below."""
    if below(0.0) <= level:
        return 0.0
    high = float(scale)
    while below(high) > level:
        high *= 2
    return float(brentq(lambda theta: below(theta) - level, 0.0, high, xtol=1e-9 * high))


def total_variance(k: Float[np.ndarray, "n n"]) -> Estimate:
    """tr Σ = E‖x − g‖² = D − U, without bias; its error is the jackknife's, over vectors."""
    require(len(k), 4)
    found = normal(float(np.mean(np.diag(k))) - unbiased_norm(k), standard_error(variance_influence(k)), len(k))
    return found._replace(low=max(found.low, 0.0))


def unbiased_norm(k: Float[np.ndarray, "n n"]) -> float:
    """U alone."""
    n = len(k)
    return float((k.sum() - np.trace(k)) / (n * (n - 1)))


def norm_influence(k: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n"]:
    """What each vector contributes to U: 2·(mean of K_ij over j ≠ i) − 2U. Hoeffding (1948), Hájek (1968)."""
    rows = off_diagonal(k).sum(axis=1) / (len(k) - 1)
    return 2 * (rows - rows.mean())


def variance_influence(k: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n"]:
    """What each vector contributes to D − U."""
    diagonal = np.diag(k)
    return diagonal - diagonal.mean() - norm_influence(k)


def standard_error(influence: Float[np.ndarray, "n"]) -> float:
    return float(np.sqrt(np.var(influence, ddof=1) / len(influence)))


def mean_squared_error(k: Float[np.ndarray, "n n"], bias: Float[np.ndarray, "n n"] | None, batch: float) -> "Linear":
    """E‖ĝ_N − g*‖² = tr Σ / N + ‖bias‖² of a mean over N = ``batch`` vectors.

    Args:
        bias: Gram matrix of the differences to an unbiased gradient of the same trajectories; None: unbiased.
    """
    value = (float(np.mean(np.diag(k))) - unbiased_norm(k)) / batch
    influence = variance_influence(k) / batch
    if bias is not None:
        value, influence = value + unbiased_norm(bias), influence + norm_influence(bias)
    return Linear(value, influence)


def variance_of(x: Float[np.ndarray, "n d"]) -> "Linear":
    """tr Σ of the vectors themselves: :func:`total_variance` where no Gram matrix is needed."""
    x = np.asarray(x, np.float64)
    n, mean = len(x), x.mean(axis=0)
    squares, along = np.einsum("ij,ij->i", x, x), x @ mean
    unbiased = (n * mean @ mean - squares.mean()) / (n - 1)  # U
    rows = (n * along - squares) / (n - 1)
    return Linear(float(squares.mean() - unbiased), squares - squares.mean() - 2 * (rows - rows.mean()))


class Linear(NamedTuple):
    """An estimate with what each vector contributes to it: what ratios need to know which errors go together."""

    value: float
    influence: Float[np.ndarray, "n"]

    @property
    def estimate(self) -> Estimate:
        return normal(self.value, standard_error(self.influence), len(self.influence))


def ratio(top: Linear, bottom: Linear) -> Ratio:
    """Fieller's (1954) 95 % set of a/b for two estimates with normal errors: all θ for which a − θb is within
    its own error of zero,

        (a − θb)² ≤ z²·(Var a − 2θ·Cov + θ²·Var b).

    It has the right coverage however small b is; where b cannot be told from zero the set has no end, and one that
    cannot exclude anything is everything. Both are positive quantities: what is below zero is left out.
    """
    a, b = top.value, bottom.value
    n = len(top.influence)
    (va, cov), (_, vb) = np.cov(top.influence, bottom.influence, ddof=1) / n
    z = quantile(n)
    qa, qb, qc = b * b - z * z * vb, a * b - z * z * cov, a * a - z * z * va  # qa·θ² − 2·qb·θ + qc ≤ 0
    root = qb * qb - qa * qc
    value = a / b if b > 0 else float("inf")
    if qa > 0:
        half = np.sqrt(max(root, 0.0))
        if qb + half < 0:  # only below zero: one of the two is not what it seems, and nothing can be told
            return Ratio(value, float("-inf"), float("inf"))
        return Ratio(value, float(max((qb - half) / qa, 0.0)), float((qb + half) / qa))
    if root <= 0:
        return Ratio(value, float("-inf"), float("inf"))
    first, last = sorted(((qb - np.sqrt(root)) / qa, (qb + np.sqrt(root)) / qa))  # what lies between is excluded
    only_above = first <= 0 < last
    return Ratio(value, float(last) if only_above else float("-inf"), float("inf"))


CLEAR = 0.2
"""Relative error of ‖g‖² below which it is normal enough for Fieller's set."""


def noise_scale(k: Float[np.ndarray, "n n"], norm: Estimate | None = None) -> Ratio:
    """The critical batch size B = tr Σ / ‖g‖²: with N ≪ B gradients are noise, with N ≫ B more data are wasted.
    McCandlish, Kaplan, Amodei et al. (2018), eq. 2.9, there "simple noise scale".

    Args:
        norm: :func:`squared_norm` of k, if it is known already.
    """
    norm, variance = squared_norm(k) if norm is None else norm, total_variance(k)
    if norm.error < CLEAR * norm.value:
        return ratio(Linear(variance.value, variance_influence(k)), Linear(norm.value, norm_influence(k)))
    value = variance.value / norm.value if norm.value else float("inf")  # below zero where ‖g‖² seems so
    high = (variance.value + variance.error) / norm.low if norm.low > 0 else float("inf")
    low = max(variance.value - variance.error, 0.0) / norm.high if norm.high > 0 else float("inf")
    return Ratio(value, low, high)


def signal_to_noise(scale: Ratio, batch: float = 1.0) -> Ratio:
    """‖g‖² / (tr Σ / N) = N / B for N vectors: squared length of what is meant over that of what disturbs it.

    Args:
        scale: B, from :func:`noise_scale`. Where ‖g‖² cannot be told from zero, nor can this.
    """
    invert = lambda x: batch / x if x else float("inf")  # noqa: E731
    return Ratio(invert(scale.value), invert(scale.high), invert(scale.low))


def worth(error: Linear, plain: Linear) -> Ratio:
    """How much data a rung is worth at batch size N: the :func:`mean_squared_error` of plain REINFORCE over the rung's,
    both with N trajectories. Of an unbiased rung it is the factor by which REINFORCE would need more of them."""
    return ratio(plain, error)


def unit_means(x: Float[np.ndarray, "n d"], size: int) -> Float[np.ndarray, "batches d"]:
    """Means over ``size`` vectors, divided by their lengths.

    Raises:
        ValueError: fewer than four of them.
    """
    batches = len(x) // size
    require(batches, 4)
    means = np.asarray(x[: batches * size], np.float64).reshape(batches, size, -1).mean(axis=1)
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-300)


def cosine_between(units: Float[np.ndarray, "batches d"]) -> Estimate:
    """Mean cosine between :func:`unit_means` of independent batches, with the jackknife's error over batches. Ilyas et
    al. (2018), "A closer look at deep policy gradients"."""
    n, total = len(units), units.sum(axis=0)
    toward_others = (units @ total - 1) / (n - 1)
    value = float(toward_others.mean())
    if value < DEGENERATE:
        return squared_norm(gram(units))  # E⟨u, u'⟩ = ‖E u‖²
    return on_the_circle(value, standard_error(2 * toward_others) * (n - 1) / (n - 2), n)


DEGENERATE = 0.3
"""Cosines below this are too near zero for their estimates to be normal."""


def on_the_circle(value: float, error: float, n: int) -> Estimate:
    """The interval of a cosine between −1 and 1, by Fisher's (1915) z = artanh c; Student's t for n batches."""
    half = quantile(n) * error
    if abs(value) + half >= 1:  # an estimate may lie beyond the end of the scale
        low, high = np.clip([value - half, value + half], -1, 1)
        return Estimate(value, error, float(low), float(high))
    z, width = np.arctanh(value), half / (1 - value**2)
    return Estimate(value, error, float(np.tanh(z - width)), float(np.tanh(z + width)))


class Truth(NamedTuple):
    """The true gradient, as an independent sample knows it."""

    vectors: Float[np.ndarray, "m d"]
    norm: Estimate
    """‖g‖²."""
    influence: Float[np.ndarray, "m"]
    """What each vector contributes to it."""

    @classmethod
    def of(cls, vectors: Float[np.ndarray, "m d"]) -> "Truth":
        k = gram(vectors)
        return cls(np.asarray(vectors, np.float64), squared_norm(k), norm_influence(k))


def cosine_to(units: Float[np.ndarray, "batches d"], truth: Truth) -> Estimate:
    """Mean cosine of :func:`unit_means` to the true gradient, whose own error is in the interval.

    ⟨u_A, r̄⟩ is an unbiased estimate of E⟨u_A, g⟩, as r̄ is independent of u_A; divided by ‖g‖, from U, it is the cosine.
    NaN where ‖g‖² cannot be told from zero.
    """
    if not truth.norm.told_from_zero or truth.norm.value <= 0:
        return normal(np.nan, np.nan)
    n, length = len(units), np.sqrt(truth.norm.value)
    toward, through_truth = units @ truth.vectors.mean(axis=0), truth.vectors @ units.mean(axis=0)
    top = float(toward.mean())
    from_truth = standard_error(through_truth - top * (1 + truth.influence / (2 * truth.norm.value)))
    error = np.hypot(standard_error(toward) * n / (n - 1), from_truth)
    return on_the_circle(float(top / length), float(error / length), n)


def cosine_of_means(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"]) -> Estimate:
    """⟨E x, E y⟩/(‖E x‖·‖E y‖) of pairs from the same trajectories, by three U-statistics; NaN where a length cannot be
    told from zero."""
    a, b, c = gram(x), gram(y), gram(x, y)
    lengths, products = unbiased_norm(a) * unbiased_norm(b), unbiased_norm(c)
    if not (squared_norm(a).told_from_zero and squared_norm(b).told_from_zero and lengths > 0):
        return normal(np.nan, np.nan)
    value = products / np.sqrt(lengths)
    influence = norm_influence(c) / np.sqrt(lengths) - value / 2 * (
        norm_influence(a) / unbiased_norm(a) + norm_influence(b) / unbiased_norm(b)
    )
    return normal(value, standard_error(influence))


def bootstrap(
    statistic: Callable[[Float[np.ndarray, "n ..."]], float], x: Float[np.ndarray, "n ..."], *, seed: int = 0
) -> Estimate:
    """A statistic of n independent rows, with the percentile interval of 1,000 resamples."""
    rng, n = np.random.default_rng(seed), len(x)
    resampled = np.array([statistic(x[rng.integers(0, n, n)]) for _ in range(1000)])
    low, high = np.nanquantile(resampled, (0.025, 0.975)) if np.isfinite(resampled).any() else (np.nan, np.nan)
    return Estimate(float(statistic(x)), float(np.nanstd(resampled, ddof=1)), float(low), float(high))


def needed(estimate: Estimate, n: int) -> float:
    """How many vectors (or trajectories, where n counts those) would tell this value from zero with an even chance, if
    it is what it seems: the interval shrinks with √n (with n for a degenerate U-statistic, so this is an upper bound
    there); inf for zero."""
    if not estimate.value:
        return float("inf")
    toward_zero = estimate.value - estimate.low if estimate.value > 0 else estimate.high - estimate.value
    return n * (max(toward_zero, Z * estimate.error) / abs(estimate.value)) ** 2


def require(n: int, least: int) -> None:
    if n < least:
        raise ValueError(f"{n} independent gradients are too few for an interval: give at least {least}")
