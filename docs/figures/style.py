"""One look for all figures: little ink, direct labels, Okabe and Ito's colours, and where the numbers come from."""

import io
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from policygrad.run.plots import COLORS, DASHES, FAINT, GREY, INK, TIMELESS
from policygrad.run.statistics import bootstrap_interval
from policygrad.storage.checkpoint import write_atomically

BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK = COLORS
SOLID, DASHED, DASHDOT, DOTTED = DASHES
IMAGES = Path(__file__).parents[1] / "img"
EXACT = "every trajectory with its exact probability: no sampling; float64"

__all__ = [
    "BLACK", "BLUE", "DASHDOT", "DASHED", "DOTTED", "EXACT", "FAINT", "GREEN", "GREY", "IMAGES", "INK",
    "ORANGE", "PINK", "RED", "SKY", "SOLID",
    "canvas", "curves", "footer", "label", "provenance", "save",
]  # fmt: skip


def canvas(columns: int = 1, *, width: float = 7.6, height: float = 3.5, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure and its axes, left to right. ``options`` go to ``Figure.subplots``."""
    figure = Figure(figsize=(width, height), facecolor="white")
    panels = figure.subplots(1, columns, squeeze=False, **options)[0]
    sides = dict(left=0.75 / width, right=1 - 0.25 / width, bottom=0.95 / height, top=1 - 0.45 / height)
    figure.subplots_adjust(**sides, wspace=0.3)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9, length=3)
    return figure, list(panels)


def label(axes: Axes, title: str, x: str, y: str) -> None:
    """What is drawn, and over what."""
    axes.set_title(title, fontsize=10, fontweight="bold", color=INK, loc="left", pad=8)
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)


def provenance(how: str) -> list[str]:
    """The command, what was measured, the versions and the machine."""
    command = f"python docs/figures/{Path(sys.argv[0]).name}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "equinox"))
    machine = f"{os.cpu_count()}-core {platform.machine()}, {platform.system()}"
    return [f"{command}  ·  {how}", f"{versions}, Python {platform.python_version()}  ·  {machine}"]


def footer(figure: Figure, how: str) -> None:
    """The provenance, small and grey, below the axes."""
    height = figure.get_figheight()
    figure.text(0.02, 0.09 / height, "\n".join(provenance(how)), fontsize=6.5, color=GREY, va="bottom", linespacing=1.5)


def save(figure: Figure, name: str, how: str) -> Path:
    """Write ``docs/img/<name>.svg``, whole or not at all; the same numbers give the same file."""
    footer(figure, how)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "policygrad"}):
        figure.savefig(buffer, format="svg", metadata=TIMELESS["svg"])
    path = IMAGES / f"{name}.svg"
    write_atomically(path, buffer.getvalue())
    print(path)
    return path


def curves(axes: Axes, x: ArrayLike, y: ArrayLike, name: str, color: str, dashes: Any = SOLID) -> None:
    """The mean over seeds of ``[points, seeds]``, with its 95 % bootstrap band."""
    y = np.asarray(y).T
    low, high = bootstrap_interval(y, n=2000)
    axes.fill_between(x, low, high, color=color, alpha=0.16, linewidth=0)
    axes.plot(x, y.mean(axis=0), color=color, linestyle=dashes, linewidth=2, label=name)


jax.config.update("jax_platforms", "cpu")
