"""From a recipe with ``engine=ray`` to a run: :mod:`policygrad.run.workers`, with a crew that may be on many
machines."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from policygrad.learn.learner import Learner
from policygrad.parallel.hogwild import Rules
from policygrad.parallel.ray import RayCrew
from policygrad.parallel.sampler import Sampler, make_sampler
from policygrad.parallel.servers import Slice, Terms
from policygrad.run.devices import answer_at_once
from policygrad.run.host import HostProgram
from policygrad.run.program import Program, RunState, learner_of
from policygrad.run.recipes import Recipe
from policygrad.run.workers import AsyncProgram, Beating, Sent, parts, player_of, tell

STALE = 4
"""Without ``max_staleness``: so many times the number of workers, where W − 1 is what to expect."""


@dataclass
class RayProgram(AsyncProgram):
    """See :class:`AsyncProgram`."""

    def shares(self) -> dict[str, float]:
        crew: Any = self.crew
        return super().shares() | {"async/dropped": float(crew.dropped), "async/running": float(crew.running)}

    def close(self) -> None:
        """No worker survives, and no Ray that this run started."""
        crew: Any = self.crew
        crew.close()
        self.inner.close()


@dataclass
class Made(Sent):
    """Makes what actors need: see :class:`policygrad.parallel.servers.Make`. Called, it makes what a process gets."""

    def sampler(self, beat: Callable[[], None]) -> Sampler:
        from policygrad.run.build import worker_parts

        learner, collector = worker_parts(self.recipe, self.env, self.model, Beating(beat))
        return make_sampler(learner, collector, clip_reward=self.recipe.clip_reward)

    def learner(self) -> Learner:
        from policygrad.run.build import enable_compilation_cache, synchronous

        answer_at_once()
        enable_compilation_cache()
        program = synchronous(self.recipe, self.env, self.model)
        program.close()
        return program.learner

    def shard(self, size: int) -> Learner:
        from policygrad.run.build import enable_compilation_cache

        answer_at_once()
        enable_compilation_cache()
        unclipped = replace(self.recipe, max_grad_norm=None)
        return learner_of(unclipped, lambda key: Slice(jnp.zeros(size)))


def make_ray_program(
    recipe: Recipe,
    env: Any,
    model: Any,
    inner: Program | HostProgram,
    evaluate: Callable[[RunState], np.ndarray],
    *,
    address: str = "",
    mode: str = "gradients",
    shards: int = 1,
    max_staleness: int | None = None,
) -> RayProgram:
    """The program of a recipe with workers on Ray. Ray starts when the run does.

    Args:
        env: an id, or an object that can be sent.
        inner: the synchronous program.
        evaluate: its evaluation.
        address: of a cluster (``auto``, ``host:port``); ``""``: this machine alone.
        mode: ``gradients`` or ``trajectories``.
        shards: of the parameters, where workers send gradients.
        max_staleness: windows beyond it are dropped; None: beyond four times the number of workers.
    """
    make = Made(recipe, env, model)
    player = player_of(recipe, *parts(recipe, inner, None))
    limits: dict[str, Any] = {"timeout": recipe.worker_timeout, "replacements": recipe.max_restarts}
    rules = Rules(recipe.seed, recipe.ent_coef, recipe.ent_spread, **limits)
    terms = Terms(
        rules,
        player.layout,
        mode,
        min(shards, player.layout.params),
        STALE * recipe.workers if max_staleness is None else max_staleness,
        recipe.max_grad_norm,
        recipe.total_timesteps,
    )
    crew: Any = RayCrew(make, terms, address=address, tell=tell)
    return RayProgram(recipe, inner, crew, player, evaluate)
