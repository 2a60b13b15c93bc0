"""From a recipe and an environment to the program of one process, which a worker is too."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from policygrad.envs import host, registry
from policygrad.run.devices import answer_at_once, cores
from policygrad.run.host import HostProgram, host_collector, make_host_program
from policygrad.run.policy import check_model, first_obs
from policygrad.run.program import Program, make_program
from policygrad.run.recipes import TO_THE_END, Recipe, RecipeError

KEPT = 16
"""So many programs of built-in worlds stay in memory: who trains again, with another seed, compiles nothing."""
OF_THE_LOOP: dict[str, Any] = {"seed": 0, "eval_every": 0, "log_every": None, "stop_reward": None, "video_every": 0}
"""Options that no program depends on."""


def synchronous(recipe: Recipe, env: Any, model: Any, groups: int | None = None) -> Program | HostProgram:
    """The program of one process, which a worker is too."""
    if model is None and isinstance(env, str) and env in registry.ENTRIES:
        budget: dict[str, Any] = {} if recipe.lr_schedule == "linear" else {"total_timesteps": TO_THE_END}
        return replace(kept(replace(recipe, **OF_THE_LOOP, **budget), env, groups, *context()), recipe=recipe)
    return anew(recipe, env, model, groups)


@lru_cache(KEPT)
def kept(recipe: Recipe, env: str, groups: int | None, *context: Any) -> Program | HostProgram:
    """The program of these options; in the same context always the same one, with everything that it has compiled."""
    return anew(recipe, env, None, groups)


def context() -> tuple[Any, ...]:
    """What a program depends on besides its recipe: the devices, and the numbers that are JAX's default."""
    return len(jax.devices()), jnp.zeros(()).dtype


def anew(recipe: Recipe, env: Any, model: Any, groups: int | None) -> Program | HostProgram:
    """:func:`synchronous`, made."""
    made = env if registry.is_host(env) else registry.make(env, **recipe.env_options)
    if registry.is_host(made):  # a user's own id says so only when it is made
        answer_at_once()
        return make_host_program(recipe, host_maker(recipe, env), model)
    if recipe.wrapper:
        raise RecipeError(f"wrapper is for Gymnasium's environments and {recipe.env} is pure JAX: drop it")
    if model is not None:
        check_model(model, first_obs(made, recipe.remembers), made.action_space)
    return make_program(recipe, made, model, groups=groups)


def worker_parts(recipe: Recipe, env: Any, model: Any, clock: Any) -> tuple[Any, Any]:
    """``(learner, collector)`` of a worker, in its own process."""
    answer_at_once()
    enable_compilation_cache()
    program = synchronous(recipe, env, model)
    if isinstance(program, Program):
        return program.learner, program.collector
    return program.learner, host_collector(recipe, program.raw_env, clock)


def host_maker(recipe: Recipe, env: Any) -> Callable[[int, bool], Any]:
    """``(num_envs, training) -> HostEnv`` with the recipe's options."""
    options: dict[str, Any] = {
        "env_kwargs": recipe.env_options,
        "wrappers": recipe.wrappers,
        "vectorization": recipe.vectorization,
        "max_episode_steps": recipe.max_episode_steps,
        "timeout": recipe.env_timeout,
    }
    if recipe.workers > 1 and recipe.engine != "ray":
        options["threads"] = max(1, cores() // recipe.workers)  # the others have games to step, too
    return lambda num_envs, training: host.make(env, num_envs, training=training, **options)


def enable_compilation_cache() -> None:
    """Keep compiled programs between processes, unless the user has chosen a place or set ``POLICYGRAD_CACHE=off``."""
    place = os.environ.get("POLICYGRAD_CACHE", "")
    if place == "off" or getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    root = (
        Path(place) if place else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "policygrad" / "xla"
    )
    jax.config.update("jax_compilation_cache_dir", str(root))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
