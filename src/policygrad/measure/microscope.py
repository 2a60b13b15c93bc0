"""The ladder under the microscope: every rung's noise, bias and worth on one frozen policy, from the same trajectories.

For a rung's estimate ĝ_N of N trajectories, with g the gradient of the declared objective:

    E‖ĝ_N − g‖² = tr Cov(ĝ_N) + ‖E ĝ_N − g‖²          mean squared error = variance + bias²
    worth       = mean squared error of plain REINFORCE / that of the rung, both at N

An unbiased rung that is worth 30 reaches with N trajectories what REINFORCE reaches with 30·N.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from policygrad.ladder.psi import Psi
from policygrad.measure import statistics as st
from policygrad.measure.gather import Collect, Gathered, explained_variance, gather
from policygrad.measure.rungs import Rung, make_rung, reference_rung, without_baseline
from policygrad.measure.statistics import Estimate, Ratio

FEWEST = 8
"""Batches of a size that are needed for its point in a curve."""


@dataclass(frozen=True)
class BaselineTest:
    """Whether a baseline helps: Var[x − y] < Var[x] if and only if 2·Cov[x, y] > Var[y], with x the gradient without it
    and y what it takes away. All are traces, for one batch."""

    covariance: float
    """2·tr Cov[x, y]."""
    variance: float
    """tr Var[y]."""
    gain: Estimate
    """2·Cov − Var: what the baseline takes off the variance."""

    @property
    def verdict(self) -> str:
        if not self.gain.told_from_zero:
            return "cannot be told"
        return "helps" if self.gain.value > 0 else "hurts"


@dataclass(frozen=True)
class AtBatch:
    """One rung at one batch size."""

    batch: int
    snr: float
    mse: float
    cosine_between: Estimate
    """Between gradients of independent batches."""
    cosine_true: Estimate
    """To the true gradient."""


@dataclass(frozen=True)
class RungReport:
    """What was measured of one rung, at batch size N. Squared norms are in squared units of the gradient."""

    name: str
    choice: str
    """Its Ψ, in words."""
    unbiased: bool
    """Proven, not measured."""
    variance: Estimate
    """tr Cov(ĝ_N)."""
    norm: Estimate
    """‖E ĝ_N‖²."""
    bias: Estimate
    """‖E ĝ_N − g‖², unbiased and never clipped; zero where that is proven."""
    mse: Estimate
    snr: Ratio
    """‖E ĝ‖² / tr Cov(ĝ_N)."""
    noise_scale: Ratio
    """Critical batch size in trajectories, at which variance and squared length are equal."""
    cosine_between: Estimate
    cosine_true: Estimate
    worth: Ratio
    effective: Estimate | None
    """Effective sample size of the importance weights, as a share of the trajectories: at most ``high``."""
    baseline: BaselineTest | None
    by_batch: tuple[AtBatch, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """What dropping γ^t does: the γ-approximation's gradient beside the discounted objective's."""

    cosine: Estimate
    """Between their expectations."""
    bias: Estimate
    """Squared length of their difference."""
    length: float
    """Ratio of their lengths."""


@dataclass(frozen=True)
class Measurement:
    """A policy's gradients, measured: what a report is made of."""

    objective: str
    gamma: float
    batch: int
    trajectories: int
    reference_trajectories: int
    """Of the independent sample that stands for the true gradient; 0 where it is exact."""
    exact: bool
    dimension: int
    projected: int | None
    true_norm: Estimate
    """‖g‖²."""
    ret: Estimate
    length: float
    truncated: float
    """Share of the episodes that the time limit cut."""
    explained: Estimate | None
    """Explained variance of V; None without a critic."""
    dropped: Dropped | None
    rungs: dict[str, RungReport]
    refused: dict[str, str]
    """Rungs for which there is no exact method, and why."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def undecided(self) -> dict[str, dict[str, float]]:
        """What cannot be told from zero, and how many trajectories would tell it with an even chance if it is what it
        seems: for each rung, of its ``norm``, its ``bias`` (at most so many), its ``cosine_true`` (and as many of the
        reference) and its ``baseline``'s gain; under ``"g"`` of the true gradient, in trajectories of the reference.
        Infinity: a figure that cannot be negative, and does not seem positive either."""
        figures = {"g": {"norm": self.true_norm}} | {name: may_be_zero(rung) for name, rung in self.rungs.items()}
        known = {"g": self.reference_trajectories} | dict.fromkeys(self.rungs, self.trajectories)
        both = max(self.trajectories, self.reference_trajectories)
        found = {
            name: {
                what: trajectories_needed(what, x, both if what == "cosine_true" else known[name])
                for what, x in those.items()
                if unknown_sign(x)
            }
            for name, those in figures.items()
        }
        return {name: those for name, those in found.items() if those}


def may_be_zero(rung: RungReport) -> dict[str, Estimate]:
    """The figures of a rung that may be zero, and are not proven to be."""
    figures = {"norm": rung.norm, "cosine_true": rung.cosine_true}
    figures |= {} if rung.unbiased else {"bias": rung.bias}
    return figures | ({} if rung.baseline is None else {"baseline": rung.baseline.gain})


def unknown_sign(x: Estimate) -> bool:
    """Whether an estimate, unless it is exact or there is none, cannot be told from zero."""
    return math.isfinite(x.error) and x.error > 0 and not x.told_from_zero


def trajectories_needed(what: str, x: Estimate, known: int) -> float:
    return st.needed(x, known) if x.value > 0 or what in ("baseline", "cosine_true") else float("inf")


def measure_gradients(
    collect: Collect,
    model: Any,
    rungs: Mapping[str, Rung],
    *,
    gamma: float,
    objective: str,
    trajectories: int = 4096,
    reference_trajectories: int | None = None,
    batch: int = 64,
    critic: Any = None,
    has_critic: bool = True,
    collect_reference: Collect | None = None,
    seed: int = 0,
    threads: int = 1,
    tell: Callable[[str, int, int], None] = lambda what, done, n: None,
) -> Measurement:
    """Measure rungs on one frozen policy.

    Args:
        collect: plays ``batch`` whole episodes.
        model: π, and V where ``critic`` is None.
        rungs: of :func:`~policygrad.measure.rungs.make_rungs`; the first one is what the others are compared with.
        trajectories: so many are played for the rungs, in whole batches.
        reference_trajectories: so many more, independent, for the true gradient; None: as many.
        collect_reference: plays the policy itself where ``collect`` plays another one (off-policy).
        threads: so many batches are worked on at once, where ``collect`` allows it.
        tell: ``(what, done, of)`` while playing.

    Raises:
        ValueError: too few trajectories, or nothing to measure.
    """
    off_policy = collect_reference is not None
    reference = reference_rung(gamma, objective, has_critic)._replace(name=REFERENCE)
    asked = dict(rungs) | {r.name: r for r in companions(rungs)}
    asked[REFERENCE] = make_rung("importance", gamma, objective)._replace(name=REFERENCE) if off_policy else reference
    if objective == "discounted" and gamma < 1 and not off_policy:
        asked[DROPPED] = reference_rung(gamma, "approximation", has_critic)
    options: dict[str, Any] = {"batch": batch, "gamma": gamma, "critic": critic, "threads": threads}
    gathered = gather(
        collect, model, asked, trajectories=trajectories, seed=2 * seed, **options,
        tell=lambda n: tell("rungs", n, trajectories),
    )  # fmt: skip
    n_reference = trajectories if reference_trajectories is None else reference_trajectories
    truth = gather(
        collect_reference or collect, model, {"g": reference}, trajectories=n_reference, seed=2 * seed + 1, **options,
        tell=lambda n: tell("the true gradient", n, n_reference),
    )  # fmt: skip
    if off_policy and truth.vectors["g"].shape == gathered.vectors[REFERENCE].shape:
        # Its own episodes say more about g than weighted ones of another policy, whose rare large weights are missed.
        gathered.vectors[REFERENCE] = truth.vectors["g"]
    judge = Judge(gathered, st.Truth.of(truth.vectors["g"]))
    plain = judge.errors(next(iter(rungs.values())))
    episodes = truth.episodes if off_policy else gathered.episodes  # of the policy that is measured
    return Measurement(
        objective=objective,
        gamma=gamma,
        batch=batch,
        trajectories=gathered.trajectories,
        reference_trajectories=truth.trajectories,
        exact=False,
        dimension=gathered.dimension,
        projected=gathered.projected,
        true_norm=judge.truth.norm,
        ret=st.normal(episodes.ret.mean(), st.standard_error(episodes.ret)),
        length=float(episodes.length.mean()),
        truncated=float(episodes.truncated.mean()),
        explained=explained(episodes.sums) if has_critic else None,
        dropped=dropped(gathered) if DROPPED in asked else None,
        rungs={name: judge.rung(rung, plain) for name, rung in rungs.items()},
        refused={},
    )


def companions(rungs: Mapping[str, Rung]) -> list[Rung]:
    """For every rung with a baseline the same without it."""
    return [without_baseline(rung) for rung in rungs.values() if rung.psi.baseline != "none"]


@dataclass(frozen=True)
class Judge:
    """Vectors to figures."""

    gathered: Gathered
    truth: st.Truth

    def errors(self, plain: Rung) -> dict[int, st.Linear]:
        """Mean squared errors of what the others are compared with, from vectors as coarse as each of them may be."""
        g = self.gathered
        return {
            size: st.mean_squared_error(
                st.gram(g.coarse(plain.name, size)), self.difference(plain, size), g.batch / size
            )
            for size in {g.size, max(g.size, g.batch)}
        }

    def rung(self, rung: Rung, plain: dict[int, st.Linear]) -> RungReport:
        g = self.gathered
        size = max(g.size, g.batch) if rung.couples else g.size
        x = g.coarse(rung.name, size)
        batch = g.batch / size  # N in units of vectors
        k, difference = st.gram(x), self.difference(rung, size)
        norm, bias = st.squared_norm(k), EXACTLY_ZERO if difference is None else st.squared_norm(difference)
        scale = st.noise_scale(k, norm)
        mse = st.mean_squared_error(k, difference, batch)
        curve = [self.at(x, size, n, k, difference, scale) for n in self.sizes(rung, x, size)]
        here = next((at for at in curve if at.batch == g.batch), None) or self.at(
            x, size, g.batch, k, difference, scale
        )
        return RungReport(
            name=rung.name,
            choice=in_words(rung),
            unbiased=rung.unbiased,
            variance=scaled(st.total_variance(k), 1 / batch),
            norm=norm,
            bias=bias,
            mse=mse.estimate,
            snr=st.signal_to_noise(scale, batch),
            noise_scale=Ratio(scale.value * size, scale.low * size, scale.high * size),
            cosine_between=here.cosine_between,
            cosine_true=here.cosine_true,
            worth=st.worth(mse, plain[size]),
            effective=effective(g.episodes.log_rho) if rung.psi.correction != "none" else None,
            baseline=self.baseline(rung, x, size),
            by_batch=tuple(curve),
        )

    def difference(self, rung: Rung, size: int) -> Float[np.ndarray, "n n"] | None:
        """The Gram matrix of differences to the unbiased rung of the same trajectories, whose noise cancels, or,
        off-policy, of as many of the policy's own; None for one that is unbiased."""
        if rung.unbiased:
            return None
        return st.gram(self.gathered.coarse(rung.name, size) - self.gathered.coarse(REFERENCE, size))

    def sizes(self, rung: Rung, x: Float[np.ndarray, "n p"], size: int) -> list[int]:
        """The batch sizes of a curve; a rung that couples a batch has only its own."""
        return [self.gathered.batch] if rung.couples else [size << i for i in range(32) if len(x) >> i >= FEWEST]

    def at(self, x: Any, size: int, batch: int, k: Any, difference: Any, scale: Ratio) -> AtBatch:
        """One batch size. Cosines are unknown where vectors are coarser than that, or batches too few."""
        n, whole = batch / size, batch // size
        units = st.unit_means(x, whole) if whole == n and len(x) // whole >= 4 else None
        return AtBatch(
            batch=batch,
            snr=st.signal_to_noise(scale, n).value,
            mse=st.mean_squared_error(k, difference, n).value,
            cosine_between=UNKNOWN if units is None else st.cosine_between(units),
            cosine_true=UNKNOWN if units is None else st.cosine_to(units, self.truth),
        )

    def baseline(self, rung: Rung, x: Float[np.ndarray, "n p"], size: int) -> BaselineTest | None:
        if rung.psi.baseline == "none":
            return None
        before = self.gathered.coarse(without_baseline(rung).name, size)
        scale = size / self.gathered.batch
        var_before, var_after, var_taken = (st.variance_of(v) for v in (before, x, before - x))
        gain, taken = var_before.value - var_after.value, var_taken.value
        error = st.standard_error(var_before.influence - var_after.influence)
        return BaselineTest(
            covariance=scale * (gain + taken),
            variance=scale * taken,
            gain=scaled(st.normal(gain, error, len(x)), scale),
        )


REFERENCE, DROPPED = "the true gradient", "the true gradient without γ^t"
"""Vectors that are gathered beside the rungs."""
EXACTLY_ZERO = Estimate(0.0, 0.0, 0.0, 0.0)
UNKNOWN = Estimate(np.nan, np.nan, np.nan, np.nan)


def scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(*(factor * x for x in estimate))


def dropped(gathered: Gathered) -> Dropped:
    """What dropping γ^t does to the expected gradient."""
    kept, without = gathered.vectors[REFERENCE], gathered.vectors[DROPPED]
    norms = [st.unbiased_norm(st.gram(x)) for x in (without, kept)]
    length = float(np.sqrt(norms[0] / norms[1])) if min(norms) > 0 else float("nan")
    return Dropped(st.cosine_of_means(kept, without), st.squared_norm(st.gram(without - kept)), length)


def explained(sums: Float[np.ndarray, "n 5"]) -> Estimate:
    """Explained variance of V with its interval over trajectories."""
    return st.bootstrap(lambda x: float(explained_variance(x.sum(axis=0))), np.asarray(sums, np.float64))


def effective(log_rho: Float[np.ndarray, "n"]) -> Estimate:
    """(Σ w)²/(n Σ w²) with w = Π ρ_t: the share of the trajectories that the weights leave. Kong (1992).

    Its interval begins at 0: no sample rules out large weights so rare that it holds none, which would leave less. That
    it is no more than the upper end is what the data do tell."""
    w = np.exp(np.asarray(log_rho, np.float64) - np.max(log_rho))
    return st.bootstrap(lambda w: float(w.sum() ** 2 / (len(w) * (w**2).sum())), w)._replace(low=0.0)


def in_words(rung: Rung) -> str:
    """A rung's Ψ in a line."""
    p: Psi = rung.psi
    number = {"n_step": f"(n={p.n})", "lambda_return": f"(λ={p.lam:g})", "vtrace": f"(λ={p.lam:g})"}.get(p.target, "")
    parts = [p.target + number]
    parts += [f"− {p.baseline}"] if p.baseline != "none" else []
    parts += [f"× {p.correction}"] if p.correction != "none" else []
    parts += ["standardized"] if p.standardize else []
    parts += [f"γ={p.gamma:g}"] + (["γ^t"] if p.discounted else [])
    parts += [f"windows of {rung.window}"] if rung.window else []
    return " ".join(parts)


__all__ = ["AtBatch", "BaselineTest", "Dropped", "Measurement", "RungReport", "measure_gradients"]
