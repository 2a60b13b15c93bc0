"""Settings that were found for an environment: a preset, a budget, and what to change.

The learning table of ``benchmarks/`` is made with them, on other seeds than they were tuned on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from policygrad.run.recipes import Recipe, RecipeError, get_preset, make_recipe


@dataclass(frozen=True)
class Tuned:
    """What to change in a preset."""

    total_timesteps: int
    """Budget in environment steps, per seed."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`Recipe`, with their values."""
    note: str = ""
    """Why, in one sentence."""


TUNED: dict[tuple[str, str], Tuned] = {
    ("CartPole-v1", "reinforce"): Tuned(1_000_000),
    ("CartPole-v1", "reinforce-togo"): Tuned(1_000_000),
    ("CartPole-v1", "reinforce-mean"): Tuned(1_000_000),
    ("CartPole-v1", "reinforce-optimal"): Tuned(1_000_000),
    ("CartPole-v1", "reinforce-value"): Tuned(1_000_000),
    ("CartPole-v1", "actor-critic"): Tuned(1_000_000),
    ("CartPole-v1", "a2c"): Tuned(500_000),
    ("CartPole-v1", "a2c-gae"): Tuned(500_000),
    ("CartPole-v1", "ppo"): Tuned(500_000),
    ("Acrobot-v1", "a2c"): Tuned(500_000),
    ("Acrobot-v1", "a2c-gae"): Tuned(500_000),
    ("Pendulum-v1", "a2c"): Tuned(1_000_000),
    ("Pendulum-v1", "a2c-gae"): Tuned(1_000_000),
}
"""``(environment, algorithm)``: its settings."""


def tuned(algo: str, env: str, **changes: Any) -> Recipe:
    """The tuned recipe of ``algo`` on ``env``, with ``changes`` on top.

    Raises:
        RecipeError: nobody tuned that pair (the message says what there is), or options that do not fit.
    """
    get_preset(algo)  # an unknown name gets its own message
    found = TUNED.get((env, algo))
    if found is None:
        raise RecipeError(f"there is no tuned recipe of {algo} on {env}: {what_there_is(algo, env)}")
    return make_recipe(algo, env, **{"total_timesteps": found.total_timesteps, **found.changes, **changes})


def what_there_is(algo: str, env: str) -> str:
    """The fix, in words."""
    envs, algos = {name for name, _ in TUNED}, [name for place, name in TUNED if place == env]
    if algos:
        return f"on {env} there are {', '.join(algos)}; without --recipe the preset's defaults are used"
    near = get_close_matches(env, envs, n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"tuned are {', '.join(sorted(envs))}"
