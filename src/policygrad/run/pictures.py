"""The pictures of a report, as SVG: readable in print, in grey, and without telling red from green."""

import math
from typing import TYPE_CHECKING

import numpy as np

from policygrad.measure.decomposition import Decomposition
from policygrad.measure.microscope import Measurement, RungReport
from policygrad.run.plots import COLORS, DASHES, FAINT, GREY, INK, render, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP*XhdpH<>8"
NAMES = ("worth", "bias-variance", "cosine", "parts")
WIDTH = 7.2
"""Inches."""


def pictures(m: Measurement, parts: Decomposition | None = None) -> dict[str, bytes]:
    """``name -> SVG``: those for which there is something to draw."""
    drawn = {"bias-variance": plane(m)}
    if any(math.isfinite(r.worth.value) and r.worth.value > 0 for r in m.rungs.values()):
        drawn["worth"] = worth(m)
    if any(math.isfinite(at.cosine_true.value) for r in m.rungs.values() for at in r.by_batch):
        drawn["cosine"] = cosine(m)
    if parts is not None:
        drawn["parts"] = decomposition(parts)
    return {name: render(figure, "svg") for name, figure in drawn.items()}


def blank(height: float, title: str, x_label: str, y_label: str, right: float = 0.80) -> tuple["Figure", "Axes"]:
    """One pair of axes, with room for names on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout=None)
    axes = figure.add_axes((0.11, 0.62 / height, right - 0.11, 1 - 1.15 / height))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9, length=3)
    axes.set_xlabel(x_label, fontsize=9.5, color=INK)
    axes.set_ylabel(y_label, fontsize=9.5, color=INK)
    figure.text(0.11, 1 - 0.18 / height, title, fontsize=11.5, fontweight="bold", color=INK, va="top")
    return figure, axes


def worth(m: Measurement) -> "Figure":
    """A bar for each rung, on a logarithmic axis, with its interval."""
    rungs = [r for r in m.rungs.values() if math.isfinite(r.worth.value) and r.worth.value > 0]
    plain = next(iter(m.rungs))
    figure, axes = blank(
        1.25 + 0.3 * len(rungs), f"Worth at N = {m.batch}: the data of {plain} that one trajectory replaces",
        "mean squared error of " + plain + " / that of the rung", "", right=0.97,
    )  # fmt: skip
    axes.set_position((0.24, axes.get_position().y0, 0.66, axes.get_position().height))
    places = np.arange(len(rungs))[::-1]
    values = np.array([r.worth.value for r in rungs])
    low = np.array([r.worth.low if r.worth.low > 0 else r.worth.value for r in rungs])
    high = np.array([r.worth.high if math.isfinite(r.worth.high) else r.worth.value for r in rungs])
    axes.set_xscale("log")
    start = 10 ** math.floor(math.log10(min(1.0, low.min()) * 0.9))
    axes.barh(places, values - start, left=start, height=0.62, color=COLORS[5], edgecolor=COLORS[0], linewidth=0.8)
    axes.errorbar(values, places, xerr=[values - low, high - values], fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
    axes.axvline(1, color=INK, linewidth=0.9, linestyle=(0, (4, 2)))
    for place, r, value, top in zip(places, rungs, values, high):
        text = f"{value:.3g}" if math.isfinite(r.worth.high) else str(r.worth)
        axes.annotate(text, (top, place), (5, 0), textcoords="offset points", fontsize=9, va="center")
    axes.set_yticks(places, [r.name for r in rungs])
    axes.grid(axis="y", visible=False)
    axes.set_xlim(start, high.max() * 2.2)
    return figure


def plane(m: Measurement) -> "Figure":
    """Bias² against variance, both on logarithmic axes, intervals as crosses. A rung without bias stands at the left
    edge."""
    figure, axes = blank(
        4.4,
        f"Bias and variance at N = {m.batch}",
        "bias²  (left edge: none, or not told from zero)",
        "variance tr Cov(ĝ)",
    )
    rungs = list(m.rungs.values())
    seen = [r for r in rungs if has_bias(r, m)]
    floor = min([r.bias.value for r in seen] + [m.true_norm.value if m.true_norm.value > 0 else 1.0]) / 30
    axes.set_xscale("log")
    axes.set_yscale("log")
    for i, r in enumerate(rungs):
        known = r in seen
        x, color = (r.bias.value if known else floor), COLORS[i % len(COLORS)]
        if known and r.bias.low > 0:
            axes.plot([r.bias.low, r.bias.high], [r.variance.value] * 2, color=color, linewidth=1.1)
        elif not r.unbiased and r.bias.high > floor:  # an upper end only
            axes.plot([floor, r.bias.high], [r.variance.value] * 2, color=color, linewidth=0.9, linestyle=(0, (1, 1.5)))
        if r.variance.low > 0:
            axes.plot([x, x], [r.variance.low, r.variance.high], color=color, linewidth=1.1)
        hollow = {} if known else {"markerfacecolor": "white"}
        axes.plot([x], [r.variance.value], MARKERS[i % len(MARKERS)], color=color, markersize=7, **hollow)  # type: ignore[arg-type]
    if m.true_norm.value > 0:
        axes.axvline(m.true_norm.value, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
        axes.axhline(m.true_norm.value, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
        axes.annotate("‖g‖²", (m.true_norm.value, 1.0), (3, -2), xycoords=("data", "axes fraction"),
                      textcoords="offset points", fontsize=9, color=GREY, va="top")  # fmt: skip
    axes.set_xlim(floor / 1.6, None)
    ends = np.log10([max(r.variance.value, 1e-300) for r in rungs])
    bottom, top = np.log10(axes.get_ylim())
    for i, (r, place) in enumerate(zip(rungs, apart((ends - bottom) / (top - bottom)))):
        face = COLORS[i % len(COLORS)] if r in seen else "white"
        axes.plot([1.03], [place], MARKERS[i % len(MARKERS)], color=COLORS[i % len(COLORS)], markerfacecolor=face,
                  markersize=6.5, clip_on=False, transform=axes.transAxes)  # fmt: skip
        axes.text(1.05, place, r.name, transform=axes.transAxes, fontsize=9, color=INK, va="center")
    return figure


def decomposition(parts: Decomposition) -> "Figure":
    """A bar for each baseline: what follows, the action, the state."""
    rows = [("without baseline", parts.plain)] + ([("with V(s)", parts.value)] if parts.value is not None else [])
    figure, axes = blank(1.6 + 0.4 * len(rows), "Where the variance comes from", "variance of one step's term", "")
    axes.set_position((0.2, axes.get_position().y0, 0.74, axes.get_position().height - 0.12))
    names = (("trajectory", "what follows"), ("action", "the action"), ("state", "the state"))
    for place, (_, one) in enumerate(reversed(rows)):
        left = 0.0
        for (part, label), color, hatch in zip(names, (COLORS[5], COLORS[4], "#eeeeee"), ("", "//", "..")):
            width = max(getattr(one, part).variance.value, 0.0)
            axes.barh(place, width, left=left, height=0.6, color=color, edgecolor=INK, linewidth=0.6, hatch=hatch,
                      label=label if place == 0 else None)  # fmt: skip
            left += width
    axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=9)
    return figure


def apart(places: np.ndarray) -> np.ndarray:
    """Names beside the axes, apart from each other and not above the top."""
    places = spread(places, gap=0.055)
    return places - max(0.0, places.max() - 0.98)


def has_bias(r: RungReport, m: Measurement) -> bool:
    """Whether a rung's bias is known to be there."""
    return not r.unbiased and r.bias.value > 0 and (m.exact or r.bias.told_from_zero)


def cosine(m: Measurement) -> "Figure":
    """Cosine to the true gradient against batch size: measured points with intervals, √(N/(N + B)) as a thin line."""
    figure, axes = blank(
        4.2, "How far does a batch point uphill?", "trajectories in a batch", "cosine to the true gradient"
    )
    axes.set_xscale("log", base=2)
    ends: list[tuple[float, int, str]] = []
    for i, r in enumerate(m.rungs.values()):
        points = [at for at in r.by_batch if math.isfinite(at.cosine_true.value)]
        if not points:
            continue
        color = COLORS[i % len(COLORS)]
        x, y = [at.batch for at in points], np.array([at.cosine_true.value for at in points])
        low, high = (np.array([getattr(at.cosine_true, end) for at in points]) for end in ("low", "high"))
        error = [np.maximum(y - low, 0), np.maximum(high - y, 0)]
        axes.errorbar(x, y, yerr=error, color=color, linestyle=DASHES[i % 4], marker=MARKERS[i % len(MARKERS)],
                      markersize=4.5, linewidth=1.5, elinewidth=0.8, capsize=2)  # fmt: skip
        ends.append((float(y[-1]), i, r.name))
    axes.axvline(m.batch, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.annotate(f"N = {m.batch}", (m.batch, 0.02), (3, 0), xycoords=("data", "axes fraction"),
                  textcoords="offset points", fontsize=9, color=GREY)  # fmt: skip
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set_ylim(min(-0.05, axes.get_ylim()[0]), 1.05)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    bottom, top = axes.get_ylim()
    for (_, i, name), place in zip(ends, apart(np.array([(e[0] - bottom) / (top - bottom) for e in ends]))):
        axes.plot([1.015, 1.05], [place, place], color=COLORS[i % len(COLORS)], linestyle=DASHES[i % 4], linewidth=1.6,
                  transform=axes.transAxes, clip_on=False)  # fmt: skip
        axes.text(1.06, place, name, transform=axes.transAxes, fontsize=9, color=INK, va="center")
    return figure


__all__ = ["NAMES", "pictures"]
