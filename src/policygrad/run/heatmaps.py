"""A γ × λ map as text and as a picture: every cell with its number, bright where it is good, in print and in grey too.

``found`` is a :class:`policygrad.run.sweep.Sweep`.
"""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from policygrad.run.columns import aligned
from policygrad.run.plots import COLORS, GREY, INK, TIMELESS, render
from policygrad.storage.checkpoint import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 0.62, 0.36
LEFT, GAP, TITLE, TICKS = 0.72, 0.95, 0.34, 0.5
"""Inches: left of the panels and between them, above each for its title, below each for its ticks."""
HEAD, NARROWEST = 0.62, 3.4
"""Inches: the titles above all panels; the least width of a panel, for its title."""
UNKNOWN = "#d9d9d9"
NO_NUMBER = "–"
SCORES = {
    "curve": "mean return over the whole training",
    "final": "greedy return of the last policies",
}
"""What a map shows: the area under the learning curve (sampled actions; divided by its length), or what came of it."""


class Panel(NamedTuple):
    """One map."""

    title: str
    values: np.ndarray
    """``[γ, λ]``; NaN: unknown."""
    words: Callable[[float], str]
    """How a number is written."""
    high_is_good: bool = False
    log: bool = False


def panels(found: Any) -> list[Panel]:
    """What there is to show: the returns, and the gradient's errors where they were measured."""
    shown = [Panel(SCORES[found.score], found.mean, whole, high_is_good=True)]
    if found.surface is None:
        return shown
    s = found.surface
    return [
        *shown,
        Panel(f"error at the best step size, N = {s.batch} episodes", s.values("error"), two_places),
        Panel("bias² of the gradient / ‖g‖²", s.relative("bias"), short, log=True),
        Panel(f"variance of the gradient / ‖g‖², N = {s.batch}", s.relative("variance"), short, log=True),
    ]


def whole(x: float) -> str:
    return f"{x:.0f}" if abs(x) >= 10 else f"{x:.2g}"


def two_places(x: float) -> str:
    return f"{x:.2f}"


def short(x: float) -> str:
    """Two digits of a squared norm; one that is small, or below zero within its noise, needs none."""
    return "<0.001" if x < 0.001 else f"{x:.0f}" if 99.5 <= x < 1e5 else f"{x:.2g}"


# As text


def table(found: Any) -> str:
    """γ down, λ across: mean scores with their 95 % intervals over seeds, then the gradient's errors."""
    low, high = found.interval

    def cell(i: int, j: int) -> str:
        mean = written(found.mean[i, j], whole)
        known = np.isfinite(low[i, j])
        return f"{mean} [{whole(low[i, j])}, {whole(high[i, j])}]" if known else mean

    several = found.returns.shape[-1] > 1
    between = "; in brackets the 95 % bootstrap interval over seeds" if several else ""
    other = "final" if found.score == "curve" else "curve"
    theirs = found.scored(other).mean(axis=-1)
    parts = [
        grid(found, f"{SCORES[found.score]}, mean over {seeds_of(found)}{between}", cell),
        grid(found, f"{SCORES[other]}, mean over {seeds_of(found)}", lambda i, j: written(theirs[i, j], whole)),
    ]
    for panel in panels(found)[1:]:
        parts.append(grid(found, panel.title, lambda i, j, p=panel: written(p.values[i, j], p.words)))
    if found.surface is not None:
        known = (f"{x.value:.2f} (γ = {gamma:g})" for gamma, x in zip(found.gammas, found.surface.explained))
        parts.append(f"explained variance of the fitted critics: {', '.join(known)}")
        if not found.surface.true_norm.told_from_zero:
            parts.append("the true gradient g cannot be told from zero: give more trajectories")
    return "\n\n".join(parts)


def grid(found: Any, title: str, cell: Callable[[int, int], str]) -> str:
    """A title, and a row of cells for each γ."""
    head = ["", *(f"λ = {lam:g}" for lam in found.lams)]
    rows = [[f"γ = {gamma:g}", *(cell(i, j) for j in range(len(found.lams)))] for i, gamma in enumerate(found.gammas)]
    return "\n".join([title, *aligned([head, *rows])])


def written(x: float, words: Callable[[float], str]) -> str:
    return words(x) if np.isfinite(x) else NO_NUMBER


# As a picture


def gamma_lambda_map(found: Any, out: str | PathLike) -> Path:
    """Draw it into ``out`` (``.png``, ``.svg`` or ``.pdf``): the returns, and the gradient's errors beside them. The
    best cell has a frame in every panel."""
    out = Path(out)
    kind = out.suffix.lower().removeprefix(".")
    if kind not in TIMELESS:
        raise ValueError(f"cannot draw to {out.name!r}; end its name in {', '.join('.' + name for name in TIMELESS)}")
    write_atomically(out, render(figure_of(found), kind))
    return out


def figure_of(found: Any, *, foot: float = 0.0) -> "Figure":
    """One panel, or two rows of two; ``foot`` inches are left free below."""
    from matplotlib.figure import Figure

    shown = panels(found)
    rows, columns = (1, 1) if len(shown) == 1 else (2, 2)
    width = max(NARROWEST, CELL[0] * len(found.lams))
    height = CELL[1] * len(found.gammas)
    whole_width, whole_height = (
        LEFT + columns * width + (columns - 1) * GAP + 0.25,
        HEAD + rows * (TITLE + height + TICKS) + foot,
    )
    figure = Figure(figsize=(whole_width, whole_height), facecolor="white")
    for k, panel in enumerate(shown):
        i, j = divmod(k, columns)
        bottom = whole_height - HEAD - (i + 1) * (TITLE + height) - i * TICKS
        place = (LEFT + j * (width + GAP), bottom, width, height)
        axes = figure.add_axes(
            (place[0] / whole_width, place[1] / whole_height, width / whole_width, height / whole_height)
        )
        draw(axes, panel, found.gammas, found.lams, found.best)
    left = LEFT / whole_width
    top = lambda inches: 1 - inches / whole_height  # noqa: E731
    title = f"{found.recipe.env}: {found.recipe.algo} over γ and λ"
    figure.text(left, top(0.18), title, fontsize=12, fontweight="bold", color=INK, va="top")
    figure.text(left, top(0.43), subtitle(found), fontsize=8.5, color=GREY, va="top")
    return figure


def subtitle(found: Any) -> str:
    runs = f"{found.returns.size} runs of {found.recipe.total_timesteps:,} steps, {seeds_of(found)} a cell"
    return f"{runs}; bright is good; framed: the best of the first map"


def seeds_of(found: Any) -> str:
    n = found.returns.shape[-1]
    return "1 seed" if n == 1 else f"{n} seeds"


def draw(axes: "Axes", panel: Panel, gammas: Sequence[float], lams: Sequence[float], best: tuple[int, int]) -> None:
    """One map, a number in every cell."""
    from matplotlib.patches import Rectangle

    colors = shades(panel)
    axes.imshow(colors, aspect="auto", origin="lower", interpolation="nearest")
    for (i, j), value in np.ndenumerate(panel.values):
        text = written(value, panel.words)
        axes.text(j, i, text, ha="center", va="center", fontsize=9, color=ink_on(colors[i, j]))
    frame: dict[str, Any] = {"fill": False, "edgecolor": COLORS[1], "linewidth": 2.2}
    axes.add_patch(Rectangle((best[1] - 0.46, best[0] - 0.43), 0.92, 0.86, **frame))
    axes.set_title(panel.title, fontsize=9.5, color=INK, loc="left", pad=6)
    axes.set_xticks(range(len(lams)), [f"{x:g}" for x in lams])
    axes.set_yticks(range(len(gammas)), [f"{x:g}" for x in gammas])
    axes.set_xlabel("λ", fontsize=9.5, color=INK, labelpad=2)
    axes.set_ylabel("γ", fontsize=9.5, color=INK, rotation=0, labelpad=8)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.spines[:].set_visible(False)


def shades(panel: Panel) -> np.ndarray:
    """``[γ, λ, 3]``: cividis (Nuñez, Anderton & Renslow 2018), whose lightness rises evenly for every eye. Grey where
    nothing is known."""
    import matplotlib

    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.log(np.where(panel.values > 0, panel.values, np.nan)) if panel.log else np.array(panel.values, float)
    known = np.isfinite(x)
    if panel.log:  # what is not above zero within its noise is as small as can be
        x = np.where(np.isfinite(panel.values) & ~known, np.min(x, initial=0.0, where=known), x)
        known = np.isfinite(x)
    low, high = (f(x[known]) if known.any() else 0.0 for f in (np.min, np.max))
    share = np.where(known, (x - low) / (high - low) if high > low else 1.0, 0.0)
    rgb = matplotlib.colormaps["cividis"](share if panel.high_is_good else 1 - share)[..., :3]
    return np.where(known[..., None], rgb, matplotlib.colors.to_rgb(UNKNOWN))


def ink_on(rgb: ArrayLike) -> str:
    """Black on light cells, white on dark ones."""
    return INK if float(np.dot(rgb, (0.299, 0.587, 0.114))) > 0.5 else "white"
