"""Self-play as a run: a folder with the numbers as JSON and a picture of where the policies went."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from policygrad.games import MatrixGame, Play, best_response, expected_payoffs
from policygrad.games.selfplay import POINTS
from policygrad.run.plots import COLORS, FAINT, GREY, INK, render
from policygrad.run.record import RunDirectory, json_ready
from policygrad.storage.checkpoint import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED = COLORS[:2]


def results(game: MatrixGame, play: Play, options: dict[str, Any]) -> dict[str, Any]:
    """A run in plain values: the game, what was asked, the final policies, and the exploitability on the way."""
    row, column = play.row[-1], play.column[-1]
    answers = best_response(game, row, column)
    return json_ready(
        {
            "game": game.name,
            "payoffs": {"row": game.payoffs[0].tolist(), "column": game.payoffs[1].tolist()},
            "options": options,
            "final": {
                "row": dict(zip(game.actions[0], row.tolist())),
                "column": dict(zip(game.actions[1], column.tolist())),
                "payoffs": expected_payoffs(game, row, column).tolist(),
                "best_responses": [names[i] for names, i in zip(game.actions, answers)],
                "exploitability": play.exploitability[-1],
            },
            "step": play.step.tolist(),
            "exploitability": play.exploitability.tolist(),
        }
    )


def save_play(game: MatrixGame, play: Play, options: dict[str, Any], out: str | os.PathLike = "runs") -> Path:
    """A new folder ``<out>/<game>/selfplay-<n>`` with ``results.json`` and ``policies.png``."""
    text, picture = json.dumps(results(game, play, options), indent=1), render(draw(game, play), "png")
    directory = RunDirectory.create(game.name, "selfplay", out)
    directory.checkpoints.rmdir()  # the policies are in results.json
    write_atomically(directory.path / "results.json", text.encode())
    write_atomically(directory.path / "policies.png", picture)
    return directory.path


def draw(game: MatrixGame, play: Play) -> "Figure":
    """Exploitability over time, and beside it the way of the policies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.9), facecolor="white")
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.14, top=0.88, wspace=0.2)
    left.plot(play.step[1:], np.maximum(play.exploitability[1:], 1e-7), color=INK, linewidth=1)
    left.set(xscale="log", yscale="log", xlabel="step", ylabel="exploitability (payoff)")
    left.grid(axis="y", color=FAINT, linewidth=0.6)
    left.spines[["top", "right"]].set_visible(False)
    left.set_title(
        f"{game.name}: exploitability {play.exploitability[-1]:.2g}", loc="left", fontsize=10, fontweight="bold"
    )
    if game.payoffs.shape[1:] == (3, 3):
        triangle(right, game.actions[0])
        path(right, simplex(play.row), BLUE, "row")
        path(right, simplex(play.column), RED, "column")
        right.legend(frameon=False, fontsize=9, loc="upper left")
    elif game.payoffs.shape[1:] == (2, 2):
        path(right, np.stack([play.row[:, 0], play.column[:, 0]], axis=1), BLUE, "both")
        right.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        right.set(xlabel=f"P(row plays {game.actions[0][0]})", ylabel=f"P(column plays {game.actions[1][0]})")
    else:
        bars(right, game, play)
    return figure


def triangle(axes: "Axes", names: tuple[str, ...]) -> None:
    """The simplex over three actions."""
    corners = simplex(np.eye(3))
    axes.fill(*corners.T, facecolor="none", edgecolor=GREY, linewidth=1)
    for (x, y), name, down in zip(corners, names, (True, True, False)):
        axes.annotate(name, (x, y), (0, -12 if down else 6), textcoords="offset points", ha="center", fontsize=9)
    axes.set(xlim=(-0.1, 1.1), ylim=(-0.12, 1.0), aspect="equal")
    axes.axis("off")


def simplex(policies: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, "K 2"]:
    """Policies over three actions as points of a triangle: the first at the left, the second at the right."""
    return policies @ np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])


def path(axes: "Axes", points: Float[np.ndarray, "K 2"], color: str, name: str) -> None:
    """From the ring to the dot: the first steps as a line, then moments as points."""
    axes.plot(*points[:POINTS].T, color=color, linewidth=0.8, alpha=0.8, label=name)
    axes.plot(*points[POINTS:].T, ".", color=color, markersize=2, alpha=0.4)
    axes.plot(*points[0], "o", color=color, markersize=6, fillstyle="none")
    axes.plot(*points[-1], "o", color=color, markersize=6)


def bars(axes: "Axes", game: MatrixGame, play: Play) -> None:
    """The final policies of both players, action by action."""
    for policy, color, name, shift in (
        (play.row[-1], BLUE, "row", -0.2),
        (play.column[-1], RED, "column", 0.2),
    ):
        axes.bar(np.arange(len(policy)) + shift, policy, width=0.38, color=color, label=name)
    axes.set(xlabel="action", ylabel="probability at the end", ylim=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
