"""``init_from``: a run that begins with the policy of another one, such as a clone. Where it needs a critic and the
other has none, the critic is new."""

import os
from dataclasses import fields, replace
from typing import Any

from policygrad.run.recipes import USED_IF, Recipe, RecipeError, hint_of, plain

NOT_THE_POLICYS = ("init_from", "normalize_reward")
"""Options of the model's group that are no part of a policy."""
FRESH = (".critic", ".normalizer.ret")
"""Parts of a model that the other one may lack, or have in vain."""


def with_model_of(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a run, and where they say ``init_from``, those of that run's model.

    Raises:
        RecipeError: one that is given, and differs there.
        RunError: no such run.
    """
    source = options.get("init_from")
    if not source:
        return options
    from policygrad.run.record import RunDirectory  # late: other options need no JAX

    theirs = Recipe.from_dict(RunDirectory.open(source).read_recipe())
    names = [item.name for item in fields(Recipe) if item.metadata["group"] == "model"]
    taken: dict[str, Any] = {"init_from": os.fspath(source)}
    for name in (name for name in names if name not in NOT_THE_POLICYS):
        value = getattr(theirs, name)
        if name in options and plain(name, options[name], hint_of(name)) != value:
            raise RecipeError(
                f"{name}={options[name]!r} cannot start from {source}, whose policy has {name}={value!r}: drop {name}"
            )
        used, _ = USED_IF.get(name, (lambda recipe: True, ""))
        if used(theirs):
            taken[name] = value
    return options | taken


def begin_from(fit: Any, model: Any) -> Any:
    """A run at its beginning (:class:`policygrad.run.train.Fit`), every seed with the parameters of ``model``: all but
    those of a critic that ``model`` lacks.

    Raises:
        RecipeError: a policy of another structure, or for other spaces.
    """
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np

    recipe, learner = fit.program.recipe, fit.state.learner
    given = {path: x for path, x in named(eqx.filter(model, eqx.is_array))}
    lead = 0 if recipe.seeds == 1 else 1

    def one(path: str, mine: Any) -> Any:
        theirs = given.pop(path, None)
        if theirs is None and is_fresh(path):
            return mine
        if theirs is None or theirs.shape != mine.shape[lead:]:
            shape = "none" if theirs is None else theirs.shape
            raise RecipeError(
                f"the policy of {recipe.init_from} does not fit {recipe.env}: {path} has shape {mine.shape[lead:]} "
                f"here and {shape} there; start from a run with the same spaces and the same model"
            )
        return jnp.broadcast_to(np.asarray(theirs), mine.shape).astype(mine.dtype)  # by the host: off its device

    leaves = [one(path, x) for path, x in named(learner.params)]
    unused = next((path for path in given if not is_fresh(path)), None)
    if unused is not None:
        raise RecipeError(f"the policy of {recipe.init_from} has {unused}, and here there is none: it is another model")
    params = jax.tree.unflatten(jax.tree.structure(learner.params), leaves)
    target = None if learner.target is None else jax.tree.map(jnp.copy, params)
    state = fit.state._replace(learner=learner._replace(params=params, target=target))
    fit.best.params = params
    return replace(fit, state=state)


def named(tree: Any) -> list[tuple[str, Any]]:
    """Leaves by path, such as ``.actor.head.last.weight``."""
    import jax

    return [(jax.tree_util.keystr(path), x) for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]]


def is_fresh(path: str) -> bool:
    return any(part in path for part in FRESH)
