"""A bandit on the disk: its state, how it was made, and how columns become its features, in one safetensors file."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from policygrad.bandits.bandit import EXPLORERS, Bandit, BanditState, require_finite
from policygrad.bandits.features import Encoder
from policygrad.storage.checkpoint import CheckpointError, load, read_recipe, save

KIND = "bandit"


class Saved(NamedTuple):
    """What a file holds."""

    bandit: Bandit
    state: BanditState
    encoder: Encoder
    classes: tuple[str, ...]
    recipe: dict[str, Any]
    """``explorer``, ``options`` and ``seed``."""


def save_bandit(
    path: str | os.PathLike,
    state: BanditState,
    *,
    explorer: str,
    options: Mapping[str, Any],
    encoder: Encoder,
    classes: tuple[str, ...],
    seed: int = 0,
) -> None:
    """Write the bandit ``EXPLORERS[explorer](len(classes), encoder.n_features, **options)``, whole or not at all.

    Raises:
        RuntimeError: it has diverged.
    """
    require_finite(explorer, state)
    made = {"kind": KIND, "explorer": explorer, "options": dict(options), "seed": seed}
    save(path, state, recipe={**made, "encoder": encoder.to_dict(), "classes": list(classes)})


def load_bandit(path: str | os.PathLike) -> Saved:
    """The bandit as it was: it goes on bit for bit.

    Raises:
        CheckpointError: no such file, a damaged one, or one that holds something else.
    """
    recipe = read_recipe(path)
    if recipe.get("kind") != KIND:
        raise CheckpointError(f"{path} holds no bandit: give a file that `policygrad bandit --save` wrote")
    encoder, classes = Encoder.from_dict(recipe["encoder"]), tuple(recipe["classes"])
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in recipe["options"].items()}
    bandit = EXPLORERS[recipe["explorer"]](len(classes), encoder.n_features, **options)
    state = load(path, jax.eval_shape(bandit.init, jax.random.key(0)))
    made = {"explorer": recipe["explorer"], "options": options, "seed": recipe["seed"]}
    return Saved(bandit, state, encoder, classes, made)
