"""The γ × λ map: every γ with every λ and several seeds, trained side by side, and what each cell's gradient is worth.

    found = sweep("CartPole-v1", gamma=[0.9, 0.99], gae_lambda=[0, 0.9, 1], seeds=8)
    print(found.table())

γ and λ are leaves of a run's state, so all runs are one program under ``vmap``; it is compiled once. Seed s starts from
the same key in every cell. A cell's number is a mean over seeds of one of :data:`SCORES`.
"""

import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from policygrad.collect.xla import episode_collector
from policygrad.envs import registry
from policygrad.ladder.names import one_of
from policygrad.learn.learner import LearnerState
from policygrad.measure.surface import Surface, measure_surface
from policygrad.run.build import enable_compilation_cache
from policygrad.run.devices import cores, is_small, one_device_per_core, shares
from policygrad.run.evaluate import episode_returns
from policygrad.run.heatmaps import SCORES, gamma_lambda_map, table
from policygrad.run.notes import note
from policygrad.run.program import (
    ONE_THREAD,
    QUICK,
    Program,
    RunState,
    advancer,
    compiled,
    initializer,
    make_program,
    means,
    updater,
)
from policygrad.run.recipes import USED_IF, Recipe, RecipeError, change, make_recipe
from policygrad.run.record import json_ready
from policygrad.run.statistics import bootstrap_interval
from policygrad.storage.checkpoint import write_atomically

GAMMAS = (0.8, 0.9, 0.96, 0.98, 0.99, 0.995)
LAMBDAS = (0.0, 0.5, 0.9, 0.96, 0.99, 1.0)
MARKS = 20
"""Points of a learning curve."""
AT_ONCE = 1 << 15
"""Rows of a window, over all runs that are updated together: beyond that they leave the processor's cache."""
FEW = 4
"""Bootstrap intervals of fewer seeds are much too narrow."""
MEMORY = 0.5
"""The states of all runs may fill this share of the machine's memory."""
NO_USE = ("workers", "stop_reward", "eval_every", "log_every", "measure_every", "video_every")
"""Fields of the recipe that mean nothing in a sweep."""

Tell = Callable[[str, int, int], None]
"""``(what, done, of)``, now and then."""


class Trained(NamedTuple):
    """All runs at the end of their training. Runs are ``[γ, λ, seed]``."""

    steps: Float[np.ndarray, "marks"]
    curves: Float[np.ndarray, "marks gamma lambda seed"]
    """Mean return of the sampled episodes that ended before each mark; NaN: none did."""
    returns: Float[np.ndarray, "gamma lambda seed"]
    """Greedy return of the last policy; NaN: that run diverged."""
    learner: LearnerState
    """Leaves ``[γ·λ·seed, ...]``; the parameters are those of the middle of the training."""


@dataclass(frozen=True)
class Sweep:
    """A map of γ and λ."""

    recipe: Recipe
    """What all runs share."""
    gammas: tuple[float, ...]
    lams: tuple[float, ...]
    steps: Float[np.ndarray, "marks"]
    curves: Float[np.ndarray, "marks gamma lambda seed"]
    """Training returns between two marks, of sampled actions."""
    returns: Float[np.ndarray, "gamma lambda seed"]
    """Greedy return of each last policy, a mean of ``recipe.eval_episodes`` episodes; NaN where a run diverged."""
    score: str = "curve"
    """Which of :data:`SCORES` the map shows."""
    surface: Surface | None = None
    """Bias and variance of every cell's gradient on one policy; None: not measured."""
    path: Path | None = None
    """Its folder."""

    def scored(self, score: str) -> Float[np.ndarray, "gamma lambda seed"]:
        """One number a run; NaN where it diverged."""
        return self.returns if score == "final" else np.where(np.isnan(self.returns), np.nan, areas(self.curves))

    @property
    def mean(self) -> Float[np.ndarray, "gamma lambda"]:
        """Mean score over seeds."""
        return self.scored(self.score).mean(axis=-1)

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Its 95 % bootstrap interval over seeds; NaN with one seed."""
        return bootstrap_interval(np.moveaxis(self.scored(self.score), -1, 0))

    @property
    def best(self) -> tuple[int, int]:
        """The cell of the highest mean score, the first of several; a cell with a run that diverged only if all are
        like it."""
        i, j = np.unravel_index(np.argmax(np.nan_to_num(self.mean, nan=-np.inf)), self.mean.shape)
        return int(i), int(j)

    @property
    def alike(self) -> Bool[np.ndarray, "gamma lambda"]:
        """The cells that cannot be told from the best one: their intervals overlap, or their means are equal. The best
        cell is one of them; a cell with a run that diverged is not."""
        (low, high), mean, best = self.interval, self.mean, self.best
        found = (high >= low[best]) & (low <= high[best]) | (mean == mean[best])
        found[best] = True
        return found

    def best_in_words(self) -> str:
        """The best cell, how many others cannot be told from it, and how surely that is known."""
        mean, cells, others = self.mean[self.best], self.alike.size, int(self.alike.sum()) - 1
        if np.isnan(mean):
            return "best: none; every cell has a run that diverged or ended no episode"
        cell = f"γ = {self.gammas[self.best[0]]:g}, λ = {self.lams[self.best[1]]:g}"
        lines = [f"best: {cell}, {mean:.4g}"]
        if others:
            equal = bool((self.mean[self.alike] == mean).all())
            why = "the means are equal" if equal else "the intervals overlap"
            all_alike = others == cells - 1
            lines += [f"{others} of the other {cells - 1} cells cannot be told from it: {why}"]
            lines[0] = f"best: none; {cell} has {mean:.4g}" if all_alike else lines[0]
            if self.surface is not None:
                lines += ["the gradients are those of a policy from this cell, the first of the highest mean"]
        seeds = self.returns.shape[-1]
        if cells > 1 and seeds < FEW:
            known = "one seed has no interval" if seeds == 1 else f"intervals of {seeds} seeds are much too narrow"
            lines += [f"{known}: give at least {FEW} seeds before you trust a difference"]
        return "\n      ".join(lines)

    def table(self) -> str:
        """γ down, λ across: mean scores and their intervals over seeds, then the gradient's errors."""
        return table(self)

    def plot(self, out: str | os.PathLike | None = None) -> Path:
        """Draw the map (``.png``, ``.svg`` or ``.pdf``) and return the picture's path."""
        return gamma_lambda_map(self, out or (self.path or Path()) / "map.png")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; NaN is None."""
        (low, high), alike, shared = self.interval, self.alike, self.recipe.to_dict()
        i, j = self.best
        cells = [
            {
                "gamma": gamma,
                "gae_lambda": lam,
                "mean": self.mean[a, b],
                "low": low[a, b],
                "high": high[a, b],
                "alike": bool(alike[a, b]),
                **{score: self.scored(score)[a, b].tolist() for score in SCORES},
            }
            for (a, gamma), (b, lam) in itertools.product(enumerate(self.gammas), enumerate(self.lams))
        ]
        found = {
            "recipe": {name: value for name, value in shared.items() if name not in ("gamma", "gae_lambda")},
            "score": self.score,
            "scores": SCORES,
            "gamma": self.gammas,
            "gae_lambda": self.lams,
            "runs": self.returns.size,
            "best": {
                "gamma": self.gammas[i],
                "gae_lambda": self.lams[j],
                "mean": self.mean[i, j],
                "alike": int(alike.sum()) - 1,
            },
            "cells": cells,
            "curve": {"steps": self.steps.tolist(), "return": self.curves.mean(axis=-1).tolist()},
            "gradient": None if self.surface is None else self.surface.to_dict(),
        }
        return json_ready(found)

    def save(self) -> None:
        """Write ``results.json`` and ``map.png`` to its folder, each whole or not at all."""
        assert self.path is not None
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)
        write_atomically(self.path / "results.json", (text + "\n").encode())
        self.plot()


def sweep(
    env: Any = "CartPole-v1",
    algo: str | Recipe = "a2c-gae",
    *,
    gamma: Sequence[float] = GAMMAS,
    gae_lambda: Sequence[float] = LAMBDAS,
    seeds: int = 8,
    score: str = "curve",
    out: str | os.PathLike | None = "runs",
    trajectories: int = 2048,
    batch: int = 16,
    tell: Tell = lambda what, done, of: None,
    **options: Any,
) -> Sweep:
    """Train every γ with every λ, and measure each cell's gradient on one policy.

        found = pg.sweep("CartPole-v1", "a2c-gae", gamma=[0.9, 0.99], gae_lambda=[0, 0.9, 1], total_timesteps=100_000)

    The policy whose gradient is measured is one of the best cell, as it was in the middle of the training: of the seeds
    there the one with the median return. Every γ gets a critic of its own
    (:func:`policygrad.measure.surface.fit_critics`), and the objective is the undiscounted return.

    Args:
        env: an id of a pure world, or an object that follows :class:`policygrad.Env`.
        algo: a preset with a λ, or a whole :class:`Recipe`.
        gamma, gae_lambda: values in [0, 1], each once.
        score: what the map shows: ``curve``, the mean return of the sampled episodes over the whole training, or
            ``final``, the greedy return of the last policies. The tables hold both.
        out: ``results.json`` and ``map.png`` go to the new folder ``<out>/<env>/sweep-<n>``; None: no files.
        trajectories: episodes on which gradients are measured; 0: train only.
        batch: N, the episodes of one gradient estimate.
        tell: hears ``(what, done, of)`` now and then.
        options: any other field of :class:`Recipe`; ``total_timesteps`` is the budget of one run.

    Raises:
        RecipeError, ValueError: options that do not fit, before anything is trained.
    """
    recipe, gammas, lams = plan(env, algo, gamma, gae_lambda, seeds, **options)
    require_sample(trajectories, batch)
    one_of("score", score, SCORES)
    enable_compilation_cache()
    one_device_per_core()
    program = make_program(replace(recipe, seeds=1), pure(env, recipe))
    if trajectories and program.stream.time_limit is None:
        raise RecipeError(
            f"gradients are measured on whole episodes and {recipe.env} has no time limit: "
            "set max_episode_steps, or trajectories=0"
        )
    require_memory(program, len(gammas) * len(lams) * seeds)
    trained = train_all(program, recipe, gammas, lams, tell)
    path = None if out is None else new_folder(out, recipe.env)
    found = Sweep(recipe, gammas, lams, trained.steps, trained.curves, trained.returns, score, path=path)
    if path is not None:
        found.save()
    if not trajectories:
        return found
    try:
        found = replace(found, surface=measured(found, program, trained.learner, trajectories, batch, tell))
    except ValueError as error:  # the training is worth more than its measurement
        note(f"no gradient was measured: {error}")
        return found
    if path is not None:
        found.save()
    return found


# What is asked for


def plan(
    env: Any, algo: str | Recipe, gamma: Any, gae_lambda: Any, seeds: int, **options: Any
) -> tuple[Recipe, tuple[float, ...], tuple[float, ...]]:
    """``(recipe, γs, λs)``, checked; the recipe holds the last γ and λ."""
    gammas, lams = values_of("gamma", gamma), values_of("gae_lambda", gae_lambda)
    for name in options:
        if name in NO_USE:
            raise RecipeError(f"{name} does nothing in a sweep: drop it")
    name = env if isinstance(env, str) else registry.env_id(env)
    base = change(algo, env=name, **options) if isinstance(algo, Recipe) else make_recipe(algo, name, **options)
    used, owner = USED_IF["gae_lambda"]
    if not used(base):
        raise RecipeError(f"{base.algo} has no λ, which needs {owner}: choose a2c-gae or ppo")
    if base.workers:
        raise RecipeError(f"{base.algo} has asynchronous workers and a sweep is one program: choose a2c-gae or ppo")
    if base.policy == "own":
        raise RecipeError("a sweep trains the built-in models: choose policy=mlp, tabular or gru")
    refuse_host(env)
    return replace(base, seeds=seeds, gamma=gammas[-1], gae_lambda=lams[-1]), gammas, lams


def values_of(name: str, given: Any) -> tuple[float, ...]:
    """Numbers in [0, 1], none of them twice, in ascending order."""
    listed = given.tolist() if hasattr(given, "tolist") else given
    values = listed if isinstance(listed, list | tuple) else [listed]
    if not values:
        raise RecipeError(f"{name} needs at least one value, such as 0.9,0.99")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise RecipeError(f"{name} must be numbers in [0, 1], not {value!r}")
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise RecipeError(f"{name} holds {twice[0]:g} twice: give each value once")
    return tuple(sorted(float(value) for value in values))


def refuse_host(env: Any) -> None:
    """Only worlds in pure JAX fit into one program."""
    if isinstance(env, str):
        registry.require_trainable(env)
    if registry.is_host(env):
        name = registry.env_id(env)
        twin = name.removeprefix("gym:")
        fix = f"sweep its pure twin {twin}" if twin in registry.TWINS else "call train for each γ and λ"
        raise RecipeError(f"{name} is stepped on the host, and a sweep trains all runs in one program: {fix}")


def pure(env: Any, recipe: Recipe) -> Any:
    """The environment, made. A user's own id says only then what it is."""
    made = registry.make(env() if isinstance(env, type) else env, **recipe.env_options)
    if registry.is_host(made):
        made.close()
        raise RecipeError(
            f"{recipe.env} is stepped on the host, and a sweep trains all runs in one program: call train"
        )
    return made


def require_sample(trajectories: int, batch: int) -> None:
    if not isinstance(batch, int) or batch < 1:
        raise RecipeError(f"batch must be at least 1, and a whole number of episodes, not {batch!r}")
    if not isinstance(trajectories, int) or trajectories < 0 or 0 < trajectories < 4 * batch:
        raise RecipeError(
            f"trajectories must be 0, or at least four batches of {batch} ({4 * batch}) episodes, not {trajectories!r}"
        )


def require_memory(program: Program, runs: int) -> None:
    """All states are held at once, and their parameters twice."""
    state = jax.eval_shape(program.init, jax.random.key(0))
    needed = runs * (size_of(state) + size_of(state.learner.params))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > MEMORY * there:
            raise RecipeError(
                f"{runs:,} runs would hold {needed / 2**30:.1f} GiB of this machine's {there / 2**30:.1f}: "
                "fewer values, fewer seeds or a smaller net"
            )


def size_of(tree: Any) -> int:
    """Bytes. A random key's are those of two words."""
    words = lambda x: x.dtype.itemsize if hasattr(x.dtype, "itemsize") else 8  # noqa: E731
    return sum(math.prod(x.shape) * words(x) for x in jax.tree.leaves(tree))


def new_folder(out: str | os.PathLike, env: str) -> Path:
    """``<out>/<env>/sweep-<n>``."""
    from policygrad.run.record import RunDirectory

    directory = RunDirectory.create(env, "sweep", out)
    directory.checkpoints.rmdir()  # a sweep keeps none
    return directory.path


# Training


def train_all(program: Program, recipe: Recipe, gammas: Sequence[float], lams: Sequence[float], tell: Tell) -> Trained:
    """Train all runs, in equal parts that take turns between two marks: one program serves every part."""
    shape = (len(gammas), len(lams), recipe.seeds)
    runs = list(itertools.product(gammas, lams, range(recipe.seeds)))
    at_once = part_size(recipe, len(runs))
    begin, advance, evaluate = functions(program, recipe, at_once)
    parts = [Part.of(runs[i : i + at_once], recipe.seed) for i in range(0, len(runs), at_once)]
    states: list[Any] = [begin(*part) for part in parts]
    total, marks = recipe.total_timesteps, min(MARKS, recipe.total_timesteps)
    steps = [total * (mark + 1) // marks for mark in range(marks)]
    curves, middle = [], None
    for before, until in itertools.pairwise([0, *steps]):
        rows = []
        for i, state in enumerate(states):
            states[i], stats = advance(state, jnp.int32(until))
            rows.append(means(stats)["rollout/ep_rew_mean"])
            tell("training", len(runs) * before + (i + 1) * at_once * (until - before), len(runs) * total)
        curves.append(np.concatenate(rows).reshape(shape))
        if middle is None and 2 * until >= total:
            middle = joined([state.learner.params for state in states])
    returns = np.concatenate([evaluate(state, part.keys) for state, part in zip(states, parts)])
    return Trained(
        steps=np.array(steps),
        curves=np.stack(curves),
        returns=returns.reshape(shape),
        learner=joined([state.learner for state in states])._replace(params=middle),
    )


class Part(NamedTuple):
    """Some runs that are computed together."""

    keys: Array
    gamma: Array
    lam: Array

    @classmethod
    def of(cls, runs: Sequence[tuple[float, float, int]], first: int) -> "Part":
        gamma, lam, seeds = zip(*runs)
        keys = jnp.stack([jax.random.key(first + seed) for seed in seeds])
        return cls(keys, jnp.array(gamma, jnp.float32), jnp.array(lam, jnp.float32))


def part_size(recipe: Recipe, runs: int) -> int:
    """The most runs at once that divide all of them equally and stay in cache."""
    rows = recipe.n_envs * (recipe.n_steps if recipe.collect == "window" else 500)
    return max(n for n in range(1, runs + 1) if runs % n == 0 and n * rows <= max(AT_ONCE, rows))


def functions(program: Program, recipe: Recipe, at_once: int) -> tuple[Callable, Callable, Callable]:
    """``begin(keys, γ, λ) -> state``, ``advance(state, steps) -> (state, stats)`` and ``evaluate(state, keys) ->
    returns`` of so many runs."""
    learner, collector = program.learner, program.collector
    groups, seeded = shares(at_once, len(jax.devices())), P("seed")
    fresh = initializer(learner, collector)

    def begin(key: Array, gamma: Array, lam: Array) -> RunState:
        state = fresh(key)
        numbers = eqx.tree_at(lambda s: (s.psi.gamma, s.psi.lam), state.learner, (gamma, lam))
        return state._replace(learner=numbers)

    def greedy(state: RunState, key: Array) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(key, 0x5EED), state.env_steps)
        model = learner.model(state.learner)
        mean = jnp.mean(episode_returns(model, program.stream, key, recipe.eval_episodes, True)[0])
        return jnp.where(state.first_bad < 0, mean, jnp.nan)

    update = jax.vmap(updater(learner, collector, clip_reward=recipe.clip_reward))
    advance = advancer(update, freeze=recipe.collect == "episodes")
    options = ONE_THREAD if groups > 1 or is_small(recipe) else {}
    evaluate = compiled(jax.vmap(greedy), groups, seeded, seeded, options={})
    return (
        compiled(jax.vmap(begin), groups, *[seeded] * 3, options=QUICK),
        compiled(advance, groups, seeded, P(), options=options),
        lambda state, keys: np.asarray(evaluate(state, keys)),
    )


def joined(parts: list[Any]) -> Any:
    """Trees with a leading axis, one behind another, on the host."""
    return jax.tree.map(lambda *x: np.concatenate([np.asarray(one) for one in x]), *parts)


# Measuring


def measured(
    found: Sweep, program: Program, learner: LearnerState, trajectories: int, batch: int, tell: Tell
) -> Surface:
    """The gradients of all cells on a policy of the best one, halfway through its training."""
    run = np.ravel_multi_index((*found.best, median_seed(found)), found.returns.shape)
    model = program.learner.model(jax.tree.map(lambda x: jnp.asarray(x[run]), learner))
    collector = episode_collector(program.stream, batch)
    play = eqx.filter_jit(lambda model, key: collector.collect(model, collector.init(model, key), key)[1])
    return measure_surface(
        lambda key: play(model, key),
        model,
        found.gammas,
        found.lams,
        trajectories=trajectories,
        batch=batch,
        window=found.recipe.n_steps if found.recipe.collect == "window" else None,
        seed=found.recipe.seed,
        threads=cores(),
        tell=lambda done, of: tell("measuring", done, of),
    )


def median_seed(found: Sweep) -> int:
    """Of the best cell's seeds the one whose return halfway is the median: neither the luckiest nor a failure."""
    half = int(np.argmax(2 * found.steps >= found.recipe.total_timesteps))
    here = found.curves[half][found.best]
    return int(np.argsort(here, kind="stable")[len(here) // 2])


def areas(curves: Float[np.ndarray, "marks ..."]) -> Float[np.ndarray, "..."]:
    """Means over the marks at which an episode ended; NaN: none ever did."""
    known = np.isfinite(curves)
    return np.where(known, curves, 0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
