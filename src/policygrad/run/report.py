"""A measurement as people read it: a table, a few sentences, pictures, a page."""

import json
import math
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from policygrad.measure.microscope import Measurement, RungReport
from policygrad.measure.statistics import Estimate
from policygrad.measure.words import figure, percent, sentences, would_tell
from policygrad.run.columns import aligned
from policygrad.run.record import json_ready
from policygrad.storage.checkpoint import write_atomically

PACKAGES = ("policygrad", "jax", "equinox", "numpy", "gymnasium")
OBJECTIVES = {
    "discounted": "J = E[Σ γ^t r_t], γ = {gamma:g}: every rung keeps γ^t",
    "undiscounted": "J = E[Σ r_t]; rungs that bootstrap use γ = {gamma:g}, and its bias counts",
    "approximation": "E[Σ ∇log π·Q], γ = {gamma:g}, γ^t dropped",
}


@dataclass(frozen=True)
class Report:
    """What :func:`policygrad.measure` returns. ``print`` it, ``save`` it, or read ``measurement``."""

    measurement: Measurement
    env: str
    recipe: dict[str, Any] | None
    """Of the run whose policy was measured; None for a policy alone."""
    seed: int
    seconds: float
    parts: Any = None
    """The decomposition of the variance, where it was asked for."""

    def __str__(self) -> str:
        return "\n".join([self.table(), "", *(f"- {text}" for text in self.sentences())])

    def sentences(self) -> list[str]:
        """At most six, each from the numbers."""
        return sentences(self.measurement, self.parts)

    def heading(self) -> list[str]:
        """What was measured, in a few lines."""
        m = self.measurement
        lines = [f"{self.env}: {OBJECTIVES[m.objective].format(gamma=m.gamma)}"]
        if self.recipe is not None and self.recipe.get("seeds", 1) > 1:
            lines.append(f"the policy of seed {self.recipe['seed']} of {self.recipe['seeds']} seeds")
        if m.exact:
            lines.append(f"exact; batches of N = {m.batch}; {m.dimension:,} parameters")
        else:
            played = f"{m.trajectories:,} trajectories and {m.reference_trajectories:,} more for the true gradient"
            lines.append(f"{played}; batches of N = {m.batch}; {m.dimension:,} parameters; intervals are 95 %")
        if math.isfinite(m.ret.value):
            known = "" if m.exact else f" ({m.ret.low:.4g} to {m.ret.high:.4g}), mean length {m.length:.4g}"
            lines.append(f"return {m.ret.value:.4g}{known}; ‖g‖² = {figure(m.true_norm)}")
        if m.projected:
            lines.append(f"gradients are projected to {m.projected:,} numbers: inner products to "
                         f"{math.sqrt(2 / m.projected):.1%}")  # fmt: skip
        return lines

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """``(columns, rows)`` as text."""
        m = self.measurement
        columns = ["rung", "worth", "noise tr Cov", "bias²", "SNR", "cosine to g", "critical batch", "baseline"]
        if any(r.effective for r in m.rungs.values()):
            columns.append("effective")
        return columns, [cells(r, m, len(columns) > 8) for r in m.rungs.values()]

    def table(self) -> str:
        """Heading, one line per rung, why there is no cosine, and what could not be measured."""
        columns, rows = self.rows()
        head, *body = aligned([columns, *rows], left=len(columns))
        reasons = dict.fromkeys(self.measurement.refused.values())
        refused = [
            f"not here: {', '.join(name for name, why in self.measurement.refused.items() if why == reason)} ({reason})"
            for reason in reasons
        ]
        return "\n".join(
            [*self.heading(), "", head, "─" * max(map(len, [head, *body])), *body, *self.without_cosine(), *refused]
        )

    def without_cosine(self) -> list[str]:
        """Why the table has no cosine to g at all, in a line; none where it has one, or where ‖g‖² is not told from
        zero: a sentence says so."""
        m = self.measurement
        if any(math.isfinite(r.cosine_true.value) for r in m.rungs.values()):
            return []
        if m.exact:
            return ["no cosines: they are means of ratios, for which there is no exact method here"]
        if any(at.batch > m.batch for r in m.rungs.values() for at in r.by_batch[:1]):
            return [
                "no cosines: so many batches are kept as means of several: give a larger --batch, or fewer trajectories"
            ]
        return []

    def to_dict(self) -> dict[str, Any]:
        """Everything, in plain values: NaN and infinity become None."""
        return json_ready(
            {
                "env": self.env,
                "sentences": self.sentences(),
                "measurement": self.measurement.to_dict(),
                "undecided": self.measurement.undecided(),
                "decomposition": self.parts,
                "recipe": self.recipe,
                "seed": self.seed,
                "seconds": self.seconds,
                "versions": versions(),
            }
        )

    def save(self, out: str | Path = "report") -> Path:
        """Write ``report.html`` (pictures inside), ``report.json`` and the pictures into a folder; returns the page."""
        from policygrad.run.page import page
        from policygrad.run.pictures import NAMES, pictures

        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        drawn = pictures(self.measurement, self.parts)
        for name in NAMES:
            (folder / f"{name}.svg").unlink(missing_ok=True)  # of an earlier report
        for name, svg in drawn.items():
            write_atomically(folder / f"{name}.svg", svg)
        write_atomically(folder / "report.json", json.dumps(self.to_dict(), indent=1, allow_nan=False).encode())
        write_atomically(folder / "report.html", page(self, drawn).encode())
        return folder / "report.html"


def cells(r: RungReport, m: Measurement, weighted: bool) -> list[str]:
    """One rung's row."""
    bias = "0, proven" if r.unbiased else figure(r.bias)
    if not r.unbiased and not m.exact and not r.bias.told_from_zero:
        bias = f"≤ {r.bias.high:.3g}, not told from 0{would_tell(m, r.name, 'bias')}"
    show = (lambda ratio: f"{ratio.value:.3g}") if m.exact else str
    cosine = figure(r.cosine_true, 2) + would_tell(m, r.name, "cosine_true")
    scale = show(r.noise_scale) + would_tell(m, r.name, "norm")
    row = [r.name, show(r.worth), figure(r.variance), bias, show(r.snr), cosine, scale]
    row.append("" if r.baseline is None else r.baseline.verdict + would_tell(m, r.name, "baseline"))
    return [*row, "" if r.effective is None else at_most(r.effective)] if weighted else row


def at_most(share: Estimate) -> str:
    """``37 % (≤ 41 %)``, for what has no lower end."""
    return f"{percent(share.value)} (≤ {percent(share.high)})"


def versions() -> dict[str, str]:
    """What made it."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
