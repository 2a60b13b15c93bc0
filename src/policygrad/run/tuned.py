"""Settings that were found for an environment: a preset, a budget, what to change, and what that earned.

Found on seeds 1000 to 1007. What they earned was measured on other seeds: the learning table of ``benchmarks/``. Those
of ``a3c`` on games are the paper's; what they earned is in the table of ``benchmarks/asynchronous.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple

from policygrad.run.recipes import Recipe, RecipeError, get_preset, make_recipe


class Result(NamedTuple):
    """What a recipe earned: the return of the best checkpoint, greedy, mean over seeds."""

    mean: float
    low: float
    high: float
    """The 95 % bootstrap interval of the mean, over seeds."""
    seeds: str
    """Which: 100 to 107."""


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
MUJOCO = {
    "n_steps": 8,
    "optimizer": "rmsprop",
    "learning_rate": 1e-3,
    "lr_schedule": "linear",
    "log_std_init": -0.5,
    "normalize_obs": True,
    "normalize_reward": True,
    "eval_episodes": 4,
}
MINATAR = {
    "n_envs": 32,
    "n_steps": 8,
    "ent_coef": 0.01,
    "optimizer": "adam",
    "learning_rate": 2e-3,
    "lr_schedule": "linear",
    "shared_torso": True,
    "activation": "relu",
    "eval_every": 250_000,
}
GAME = {"cnn": "a3c", "net": (), "shared_torso": True, "clip_reward": True, "n_envs": 4}
"""The A3C paper's network and clipped rewards: what ``benchmarks/asynchronous.py`` measures."""
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
    ("CartPole-v1", "maxent"): Tuned(500_000),
    ("CartPole-v1", "ppo"): Tuned(500_000),
    ("Acrobot-v1", "a2c"): Tuned(
        500_000,
        {**ACROBOT, "n_steps": 8, "learning_rate": 3e-3, "normalize_obs": True, "eval_episodes": 300},
        "more environments, a longer window, larger steps that shrink to zero; some policies are seldom stuck, and "
        "many episodes tell",
    ),
    ("Acrobot-v1", "a2c-gae"): Tuned(500_000, ACROBOT, "more environments, steps that shrink to zero"),
    ("LunarLander-v3", "a2c"): Tuned(
        200_000,
        {
            "gamma": 0.995,
            "ent_coef": 1e-5,
            "optimizer": "rmsprop",
            "learning_rate": 1.6e-3,
            "lr_schedule": "linear",
            "eval_every": 8_000,
            "eval_episodes": 16,
        },
        "the RL Zoo's settings, twice the step; large rewards clip gradients, and rmsprop-tf hardly moves the policy",
    ),
    ("LunarLander-v3", "a2c-gae"): Tuned(
        200_000,
        {
            "gae_lambda": 0.98,
            "n_envs": 4,
            "n_steps": 5,
            "ent_coef": 0.01,
            "vf_coef": 1.0,
            "optimizer": "adam",
            "learning_rate": 3.6e-3,
            "lr_schedule": "linear",
            "eval_every": 8_000,
            "eval_episodes": 20,
        },
        "many small updates: twenty rows each, large steps that shrink to zero, a little entropy",
    ),
    ("HalfCheetah-v4", "a2c-gae"): Tuned(1_000_000, MUJOCO, "normalised scales, little noise at first"),
    ("HalfCheetah-v5", "a2c-gae"): Tuned(1_000_000, MUJOCO, "as v4"),
    ("Hopper-v4", "a2c-gae"): Tuned(1_000_000, MUJOCO, "as HalfCheetah"),
    ("Walker2d-v4", "a2c-gae"): Tuned(1_000_000, MUJOCO, "as HalfCheetah"),
    ("MountainCar-v0", "a2c-gae"): Tuned(
        1_000_000,
        {
            "gamma": 0.999,
            "gae_lambda": 0.98,
            "n_envs": 16,
            "ent_coef": 0.003,
            "normalize_obs": True,
            "normalize_reward": True,
            "eval_every": 10_000,
            "eval_episodes": 100,
        },
        "the only reward is far away: a long sight, and a little entropy until it is found",
    ),
    **{
        (f"gymnax:{game}-MinAtar", "a2c-gae"): Tuned(5_000_000, MINATAR, "one setting for all games, hardly tuned")
        for game in ("Asterix", "Breakout", "Freeway", "SpaceInvaders")
    },
    **{
        (f"ALE/{game}-v5", "a3c"): Tuned(10_000_000, GAME, "the A3C paper's network, and rewards clipped as there")
        for game in ("BeamRider", "Breakout", "Pong")
    },
    ("Pendulum-v1", "a2c"): Tuned(1_000_000, PENDULUM, "as a2c-gae"),
    ("Pendulum-v1", "a2c-gae"): Tuned(
        1_000_000, {**PENDULUM, "gae_lambda": 0.95}, "normalised scales, a wide start, steps that shrink to zero"
    ),
}
"""``(environment, algorithm)``: its settings."""


RESULTS: dict[tuple[str, str], Result] = {
    ("CartPole-v1", "reinforce"): Result(500.0, 499.9, 500.0, "100 to 107"),
    ("CartPole-v1", "reinforce-togo"): Result(499.9, 499.6, 500.0, "100 to 107"),
    ("CartPole-v1", "reinforce-mean"): Result(500.0, 500.0, 500.0, "100 to 107"),
    ("CartPole-v1", "reinforce-optimal"): Result(500.0, 500.0, 500.0, "100 to 107"),
    ("CartPole-v1", "reinforce-value"): Result(499.9, 499.8, 500.0, "100 to 107"),
    ("CartPole-v1", "actor-critic"): Result(500.0, 500.0, 500.0, "100 to 107"),
    ("CartPole-v1", "a2c"): Result(500.0, 500.0, 500.0, "100 to 107"),
    ("CartPole-v1", "a2c-gae"): Result(500.0, 500.0, 500.0, "100 to 107"),
    ("CartPole-v1", "maxent"): Result(500.0, 500.0, 500.0, "100 to 107"),
    ("CartPole-v1", "ppo"): Result(500.0, 500.0, 500.0, "100 to 107"),
    ("Acrobot-v1", "a2c"): Result(-82.6, -83.8, -81.3, "100 to 107"),
    ("Acrobot-v1", "a2c-gae"): Result(-82.7, -84.4, -81.1, "100 to 107"),
    ("Pendulum-v1", "a2c"): Result(-156.7, -159.4, -153.8, "100 to 107"),
    ("Pendulum-v1", "a2c-gae"): Result(-156.9, -159.0, -154.6, "100 to 107"),
    ("MountainCar-v0", "a2c-gae"): Result(-107.8, -110.5, -106.3, "100 to 107"),
    ("LunarLander-v3", "a2c"): Result(79.4, 33.5, 127.5, "100 to 104"),
    ("LunarLander-v3", "a2c-gae"): Result(120.0, 53.8, 182.4, "100 to 104"),
    ("Hopper-v4", "a2c-gae"): Result(1214.9, 992.3, 1491.1, "100 to 104"),
    ("Walker2d-v4", "a2c-gae"): Result(2277.1, 1612.8, 3033.5, "100 to 104"),
    ("gymnax:Asterix-MinAtar", "a2c-gae"): Result(67.6, 65.4, 69.5, "100 to 104"),
    ("gymnax:Breakout-MinAtar", "a2c-gae"): Result(66.5, 46.4, 83.6, "100 to 104"),
}
"""What they earned; held against the ledger by a test, and written by ``benchmarks/learning.py --page``."""


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
