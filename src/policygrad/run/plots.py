"""Learning curves, drawn to be read: in print, in grey, and without telling red from green.

Colours are Okabe and Ito's (2008, "Color Universal Design"), and every curve has a line style as well. Figures are made
without pyplot, so drawing one touches no global state. The file is written whole or not at all, and the same numbers
give the same file.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from policygrad.run.statistics import bootstrap_interval
from policygrad.storage.checkpoint import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Runs = Mapping[str, Sequence[tuple[ArrayLike, ArrayLike]]]
"""For every label the ``(steps, values)`` of each seed."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[str | tuple, ...] = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.2, 1.2)))
INK, GREY, FAINT = "#222222", "#6b6b6b", "#dddddd"
GRID_POINTS = 512
TIMELESS = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
"""The formats, each with the metadata that would make equal figures differ."""


class Curve(NamedTuple):
    """One label: its seeds, and what they say together."""

    label: str
    seeds: list[tuple[np.ndarray, np.ndarray]]
    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    color: str
    dashes: str | tuple


def learning_curves(
    runs: Runs,
    out: str | os.PathLike,
    *,
    title: str = "",
    y_label: str = "episode return",
    small_multiples: bool = False,
    level: float = 0.95,
) -> Path:
    """Draw ``runs[label] = [(steps, values), ...]``, one pair per seed, into ``out`` (``.png``, ``.svg`` or ``.pdf``).

    Steps are environment steps. Each curve is the mean over seeds, with a percentile bootstrap band over seeds at
    ``level``, on the steps that all its seeds have reached; one seed alone is a line as it was measured. NaNs are
    skipped. ``small_multiples`` gives every label a panel of its own, with each seed as a thin line.
    """
    out = Path(out)
    kind = out.suffix.lower().removeprefix(".")
    if kind not in TIMELESS:
        raise ValueError(f"cannot draw to {out.name!r}; end its name in {', '.join('.' + name for name in TIMELESS)}")
    if not runs:
        raise ValueError("there are no runs to draw; give at least one label")
    curves = [_curve(i, label, seeds, level) for i, (label, seeds) in enumerate(runs.items())]
    figure = _panels(curves, y_label) if small_multiples else _overlay(curves, y_label)
    _write_title(figure, title, _what_is_drawn(curves, level, small_multiples))
    write_atomically(out, render(figure, kind))
    return out


# From seeds to a curve


def _curve(i: int, label: str, seeds: Sequence[tuple[ArrayLike, ArrayLike]], level: float) -> Curve:
    measured = [_measured(label, *seed) for seed in seeds]
    if not measured:
        raise ValueError(f"{label!r} has no seeds; give at least one (steps, values)")
    steps = _common_steps(label, [steps for steps, _ in measured])
    values = np.stack([np.interp(steps, *seed) for seed in measured])
    low, high = bootstrap_interval(values, level=level, n=2000)
    style = COLORS[i % len(COLORS)], DASHES[i % len(DASHES)]
    return Curve(label, measured, steps, values.mean(axis=0), low, high, *style)


def _measured(label: str, steps: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The points of one seed that carry a number, in the order of steps."""
    steps, values = np.asarray(steps, float), np.asarray(values, float)
    if steps.ndim != 1 or steps.shape != values.shape:
        raise ValueError(f"{label!r} has {steps.shape} steps and {values.shape} values; give two lists of one length")
    known = np.isfinite(values)
    if not known.any():
        raise ValueError(f"{label!r} has a seed without a single finite value; leave that seed out")
    order = np.argsort(steps[known], kind="stable")
    return steps[known][order], values[known][order]


def _common_steps(label: str, steps: list[np.ndarray]) -> np.ndarray:
    """Where all seeds have a value. Beyond it a mean would be over fewer seeds, and would jump where one ends."""
    if len(steps) == 1:
        return steps[0]
    first, last = max(own[0] for own in steps), min(own[-1] for own in steps)
    if first > last:
        raise ValueError(f"the seeds of {label!r} have no steps in common; draw them under labels of their own")
    union = np.unique(np.concatenate(steps))
    union = union[(first <= union) & (union <= last)]
    return union if len(union) <= GRID_POINTS else np.linspace(first, last, GRID_POINTS)


# From curves to a picture


def _overlay(curves: list[Curve], y_label: str) -> "Figure":
    """All curves in one pair of axes, each named at its right end."""
    from matplotlib.figure import Figure

    longest = max(len(curve.label) for curve in curves)
    margin = 0.75 + 0.085 * longest  # inches for the names
    figure = Figure(figsize=(6.2 + margin, 4.2))
    axes = figure.add_axes((0.8 / (6.2 + margin), 0.135, 5.3 / (6.2 + margin), 0.7))
    for curve in curves:
        _draw_band(axes, curve)
    for curve in curves:
        axes.plot(
            curve.steps, curve.mean, color=curve.color, linestyle=curve.dashes, linewidth=1.8, solid_capstyle="round"
        )
    _dress(axes, max(curve.steps[-1] for curve in curves))
    axes.set_xlabel("environment steps", color=INK)
    axes.set_ylabel(y_label, color=INK)
    _name_at_the_end(axes, curves)
    return figure


def _panels(curves: list[Curve], y_label: str) -> "Figure":
    """A panel per curve, all on the same scales; the other means stand behind it in grey."""
    from matplotlib.figure import Figure

    columns = len(curves) if len(curves) <= 4 else math.ceil(len(curves) / 2) if len(curves) <= 10 else 5
    rows = math.ceil(len(curves) / columns)
    width, height = 0.9 + 2.35 * columns, 1.25 + 2.0 * rows
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=0.75 / width, right=1 - 0.2 / width, bottom=0.6 / height, top=1 - 0.95 / height, wspace=0.16, hspace=0.28
    )
    panels = list(grid.flat)
    for axes, curve in zip(panels, curves):
        _draw_panel(axes, curve, others=[other for other in curves if other is not curve])
        _dress(axes, max(curve.steps[-1] for curve in curves))
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(curves) - columns) : len(curves)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("environment steps", fontsize=10, color=INK, y=0.12 / height)
    figure.supylabel(y_label, fontsize=10, color=INK, x=0.12 / width)
    return figure


def _draw_panel(axes: "Axes", curve: Curve, others: list[Curve]) -> None:
    for other in others:
        axes.plot(other.steps, other.mean, color=FAINT, linewidth=1.0, zorder=1)
    if len(curve.seeds) > 1:
        for steps, values in curve.seeds:
            axes.plot(steps, values, color=curve.color, linewidth=0.6, alpha=0.45, zorder=2)
    axes.plot(curve.steps, curve.mean, color=curve.color, linewidth=2.0, zorder=3, solid_capstyle="round")
    axes.set_title(curve.label, fontsize=10, color=INK, loc="left", pad=4)


def _draw_band(axes: "Axes", curve: Curve) -> None:
    if len(curve.seeds) > 1:
        axes.fill_between(curve.steps, curve.low, curve.high, color=curve.color, alpha=0.16, linewidth=0)


def _dress(axes: "Axes", last_step: float) -> None:
    """Little ink: two spines, a faint grid, ticks in thousands and millions."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9, length=3)
    axes.set_xlim(0, last_step or 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: in_thousands(step)))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def in_thousands(step: float) -> str:
    """``500``, ``1.5k``, ``200k``, ``2M``: a count of steps, short."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(step) >= size:
            return f"{step / size:.4g}{unit}"
    return f"{step:.4g}"


def _name_at_the_end(axes: "Axes", curves: list[Curve]) -> None:
    """A direct legend: each name beside its curve's end, with a sample of the line, moved apart where ends meet."""
    low, high = axes.get_ylim()
    ends = np.array([(curve.mean[-1] - low) / (high - low) for curve in curves])
    places = spread(ends, gap=0.062)
    line: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    for curve, end, place in zip(curves, ends, places):
        last = axes.transLimits.transform((curve.steps[-1], 0))[0]
        axes.plot([last, 1.025], [end, place], **line, color=GREY, linewidth=0.5, zorder=0)
        axes.plot([1.03, 1.095], [place, place], **line, color=curve.color, linestyle=curve.dashes, linewidth=1.8)
        axes.text(1.11, place, curve.label, transform=axes.transAxes, fontsize=9.5, color=INK, va="center_baseline")


def spread(places: ArrayLike, gap: float) -> np.ndarray:
    """The nearest places (least squares) that keep their order and are at least ``gap`` apart.

    Subtracting ``gap`` times the rank makes it a monotone regression, which pooling adjacent violators solves.
    """
    places = np.asarray(places, float)
    order = np.argsort(places, kind="stable")
    ranks = gap * np.arange(len(places))
    pools: list[list[float]] = []
    for place in places[order] - ranks:
        pools.append([place])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    apart = np.empty_like(places)
    apart[order] = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools]) + ranks
    return apart


def _what_is_drawn(curves: list[Curve], level: float, small_multiples: bool) -> str:
    counts = sorted({len(curve.seeds) for curve in curves})
    if counts == [1]:
        return "one seed"
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    if small_multiples:
        return f"bold: mean of {seeds}; thin: each seed; grey: the other panels"
    return f"mean of {seeds}; band: {100 * level:g} % bootstrap interval over seeds"


def _write_title(figure: "Figure", title: str, subtitle: str) -> None:
    """Title and what is drawn, flush left with the axes."""
    left, height = figure.axes[0].get_position().x0, figure.get_figheight()
    figure.text(left, 1 - 0.2 / height, title, fontsize=12, fontweight="bold", color=INK, va="top")
    figure.text(left, 1 - 0.44 / height, subtitle, fontsize=9, color=GREY, va="top")


def render(figure: "Figure", kind: str) -> bytes:
    """A figure as a file of that kind: equal figures, equal bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "policygrad", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=kind, dpi=200, metadata=TIMELESS[kind])
    return buffer.getvalue()
