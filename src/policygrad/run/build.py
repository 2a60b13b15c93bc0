"""From a recipe and an environment to the program of one process, which a worker is too."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from policygrad.envs import host, registry
from policygrad.run.devices import answer_at_once
from policygrad.run.host import HostProgram, host_collector, make_host_program
from policygrad.run.policy import check_model, first_obs
from policygrad.run.program import Program, make_program
from policygrad.run.recipes import Recipe, RecipeError


def synchronous(recipe: Recipe, env: Any, model: Any, groups: int | None = None) -> Program | HostProgram:
    """The program of one process, which a worker is too."""
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
