"""Settings that were found for an environment: a preset, a budget, and what to change.

Found on seeds 1000 to 1007. The learning table of ``benchmarks/`` is made with them, on other seeds.
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


PENDULUM = {
    "gamma": 0.97,
    "n_envs": 8,
    "n_steps": 8,
    "activation": "relu",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "lr_schedule": "linear",
    "log_std_init": 0.7,
    "normalize_obs": True,
    "normalize_reward": True,
    "eval_episodes": 100,
}
ACROBOT = {"n_envs": 16, "learning_rate": 2e-3, "lr_schedule": "linear", "eval_episodes": 100}
TUNED: dict[tuple[str, str], Tuned] = {
    ("CartPole-v1", "reinforce"): Tuned(2_000_000, {"n_envs": 32}, "the noisiest rung wants the largest batch"),
    ("CartPole-v1", "reinforce-togo"): Tuned(600_000),
    ("CartPole-v1", "reinforce-mean"): Tuned(600_000),
    ("CartPole-v1", "reinforce-optimal"): Tuned(600_000),
    ("CartPole-v1", "reinforce-value"): Tuned(600_000),
    ("CartPole-v1", "actor-critic"): Tuned(1_000_000),
    ("CartPole-v1", "a2c"): Tuned(500_000),
    ("CartPole-v1", "a2c-gae"): Tuned(500_000),
    ("CartPole-v1", "ppo"): Tuned(500_000),
    ("Acrobot-v1", "a2c"): Tuned(
        500_000,
        {**ACROBOT, "n_steps": 8, "learning_rate": 3e-3, "normalize_obs": True},
        "more environments, a longer window, larger steps that shrink to zero",
    ),
    ("Acrobot-v1", "a2c-gae"): Tuned(500_000, ACROBOT, "more environments, steps that shrink to zero"),
    ("Pendulum-v1", "a2c"): Tuned(1_000_000, PENDULUM, "as a2c-gae"),
    ("Pendulum-v1", "a2c-gae"): Tuned(
        1_000_000, {**PENDULUM, "gae_lambda": 0.95}, "normalised scales, a wide start, steps that shrink to zero"
    ),
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
