"""The pictures of a :class:`~policygrad.run.crediting.CreditReport`, as SVG: readable in print, in grey, and without
telling red from green."""

from typing import TYPE_CHECKING, Any

import numpy as np

from policygrad.measure.credit import LIKELIHOOD
from policygrad.run.plots import COLORS, DASHES, FAINT, GREY, INK, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pictures(report: Any) -> dict[str, bytes]:
    """``name -> SVG``."""
    drawn = {"credit": who_gets_it(report)}
    if report.curves:
        drawn["steps"] = how_far(report)
    return {name: render(figure, "svg") for name, figure in drawn.items()}


def style_of(report: Any, name: str) -> dict:
    """Maximum likelihood is grey; the rungs have a colour and dashes of their own."""
    place = list(report.credit.rungs).index(name)
    if name == LIKELIHOOD:
        return {"color": GREY, "linestyle": "-"}
    return {"color": COLORS[(place - 1) % len(COLORS)], "linestyle": DASHES[place % len(DASHES)]}


def who_gets_it(report: Any) -> "Figure":
    """Ψ and Δ log π along one trajectory, each rung on its own scale; Δ log p(τ) of all of them against the return."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.6, 3.9), layout=None)
    left, middle, right = (figure.add_axes((x, 0.2, 0.265, 0.58)) for x in (0.07, 0.39, 0.725))
    rows = slice(0, report.length), report.episode
    for name, x in report.credit.rungs.items():
        look = style_of(report, name)
        for axes, numbers in ((left, x.psi[rows]), (middle, x.change[rows])):
            axes.plot(numbers / (np.abs(numbers).max() or 1), linewidth=1.5, **look)
        right.plot(report.credit.ret, x.total, "o", color=look["color"], markersize=2.6, alpha=0.45, linewidth=0)
        if np.ptp(report.credit.ret) > 0:
            slope, start = np.polyfit(report.credit.ret, x.total, 1)
            ends = np.array([report.credit.ret.min(), report.credit.ret.max()])
            right.plot(ends, start + slope * ends, linewidth=1.7, **look)
    dress(left, "Ψ along one trajectory", "step t", "each rung by its largest")
    dress(middle, "After one step: change of log π(a|s)", "step t", "")
    dress(right, "All trajectories", "return R(τ)", "change of log p(τ), nats")
    for axes in (left, middle):
        axes.set_ylim(-1.12, 1.12)
    handles = [left.plot([], [], linewidth=1.7, **style_of(report, name))[0] for name in report.credit.rungs]
    names = ["Ψ = 1 (maximum likelihood)" if name == LIKELIHOOD else name for name in report.credit.rungs]
    figure.legend(
        handles, names, loc="upper left", bbox_to_anchor=(0.06, 1.0), ncols=len(names), frameon=False, fontsize=9
    )
    ret = report.credit.ret
    words = (
        f"{report.env}, trajectory {report.episode} of {len(ret)}, return {ret[report.episode]:.4g}; "
        f"γ = {report.gamma:g}; a step of {report.kl:g} nats a row; seed {report.seed}"
    )
    figure.text(0.07, 0.02, words, fontsize=8, color=GREY)
    return figure


def how_far(report: Any) -> "Figure":
    """The gain of one step over its length, with 95 % intervals over fresh episodes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.6, 4.0), layout=None)
    axes = figure.add_axes((0.13, 0.19, 0.83, 0.63))
    for name, points in report.curves.items():
        gain = np.array([[p.gain.value, p.gain.low, p.gain.high] for p in points])
        error = [gain[:, 0] - gain[:, 1], gain[:, 2] - gain[:, 0]]
        axes.errorbar([p.kl for p in points], gain[:, 0], yerr=error, label=name, linewidth=1.6, elinewidth=0.9,
                      capsize=2, marker="o", markersize=3.5, **style_of(report, name))  # fmt: skip
    first = next(iter(report.curves.values()))[0]
    dress(axes, f"From R = {first.ret.value - first.gain.value:.4g}: gain after one step",
          "length of the step: KL in nats per row", "change of R")  # fmt: skip
    axes.set_xscale("log")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    words = (
        f"{report.env}; gradients of {len(report.credit.ret)} trajectories, {report.fresh} fresh episodes after each "
        f"step; bars: 95 %; seed {report.seed}"
    )
    figure.text(0.13, 0.02, words, fontsize=8, color=GREY)
    return figure


def dress(axes: "Axes", title: str, x_label: str, y_label: str) -> None:
    """Little ink."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=8.5, length=3)
    axes.set_title(title, fontsize=10.5, loc="left", color=INK)
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
