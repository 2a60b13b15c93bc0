"""How many threads XLA gets, decided before JAX is imported."""

import json
import os
from pathlib import Path

from policygrad.run.recipes import Recipe

SMALL = 4096
"""Rows of a window, over all seeds, up to which one thread is the faster choice (benchmarks/throughput.py)."""


def spare_threads(recipe: Recipe) -> None:
    """One XLA thread for a small window: handing its work around costs more than it saves.

    A function of the recipe alone, so that a resumed run computes as before. ``PJRT_NPROC`` in the environment wins.
    """
    rows = recipe.n_envs * recipe.n_steps * recipe.seeds
    if recipe.collect == "window" and rows <= SMALL and max(recipe.net, default=0) <= 128:
        os.environ.setdefault("PJRT_NPROC", "1")


def spare_threads_of(run: str) -> None:
    """The same for a run's folder; one that cannot be read is left for others to complain about."""
    try:
        recipe = Recipe.from_dict(json.loads((Path(run) / "recipe.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return
    spare_threads(recipe)
