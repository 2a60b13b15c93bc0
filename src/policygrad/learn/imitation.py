"""Learning from demonstrations: maximum likelihood is the policy gradient with all weights 1.

    log p_θ(τ) = log p(s_0) + Σ_t log π_θ(a_t | s_{0:t}) + Σ_t log p(s_{t+1} | s_t, a_t)
    ∇log p_θ(τ) =             Σ_t ∇log π_θ(a_t | s_{0:t})                                    the dynamics hold no θ

    E_{τ^gt}[∇log p_θ(τ^gt)] = E_{τ^gt}[Σ_t ∇log π_θ(a_t | s_{0:t}) · 1]

Pomerleau (1988), "ALVINN"; Ross et al. (2011) for what it lacks: the states are the demonstrator's, not the clone's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from policygrad.ladder.recursion import masked_sum
from policygrad.learn.gradient import COLUMNS, policy_gradient
from policygrad.learn.learner import Learner, LearnerState
from policygrad.models.actor_critic import unroll
from policygrad.types import Trajectory


def likelihood_gradient(model: Any, trajectory: Trajectory, *, per: str = "trajectory") -> PyTree:
    """E_{τ^gt}[∇log p_θ(τ^gt)] over the demonstrations of ``trajectory``: the policy gradient with Ψ = 1.

    ``log_mu`` and ``reward`` are not looked at. Leaves like the model's inexact arrays, pointing uphill, in nats per
    unit of the parameter: of a whole trajectory, or of a step (``per="step"``).
    """
    return policy_gradient(model, trajectory, jnp.ones(trajectory.mask.shape), per=per)


class Likelihood(NamedTuple):
    """How well a policy explains some demonstrations."""

    nll: Float[Array, ""]
    """−(1/N) Σ log π(a_t | ·) over the N rows, in nats per step."""
    accuracy: Float[Array, ""]
    """The share of rows in which a_t is the likeliest action, where actions are whole numbers; else NaN."""


def epoch(learner: Learner, batch: int) -> Callable[[LearnerState, Trajectory, Array], LearnerState]:
    """``(state, demonstrations, key) -> state``: one pass over all columns in a random order, one step of the optimiser
    for every ``batch`` of them. One program: a scan. The last minibatch may be smaller.

    A column is an episode ``[T, B]``; for a memoryless policy a row, ``[1, N]``.
    """

    def passed(state: LearnerState, demonstrations: Trajectory, key: Array) -> LearnerState:
        def step(state: LearnerState, which: Int[Array, "batch"]) -> tuple[LearnerState, None]:
            grads = likelihood_gradient(learner.model(state), take(demonstrations, which), per="step")
            return learner.apply(state, jax.tree.map(jnp.negative, grads)), None

        order = jax.random.permutation(key, demonstrations.mask.shape[1])
        return jax.lax.scan(step, state, in_batches(order, batch))[0]

    return passed


def likelihood(model: Any, demonstrations: Trajectory, batch: int) -> Likelihood:
    """Of all columns, ``batch`` at a time."""
    whole = all(jnp.issubdtype(x.dtype, jnp.integer) for x in jax.tree.leaves(demonstrations.action))

    def part(which: Int[Array, "batch"]) -> tuple[Array, Array]:
        t = take(demonstrations, which)
        output, _ = unroll(model, t)
        hit = agrees(output.distribution, t.action, t.mask) if whole else jnp.full(t.mask.shape, jnp.nan)
        return masked_sum(output.log_prob, t.mask), masked_sum(hit, t.mask)

    columns = jnp.arange(demonstrations.mask.shape[1])
    log_prob, hits = jax.lax.map(part, in_batches(columns, batch))
    n = jnp.sum(demonstrations.mask)
    return Likelihood(-jnp.sum(log_prob) / n, jnp.sum(hits) / n)


def agrees(distribution: Any, action: PyTree[Array], mask: Bool[Array, "T B"]) -> Float[Array, "T B"]:
    """1 where a_t is the mode in all its parts."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), distribution)
    mode = jax.vmap(lambda d: d.mode())(flat)
    same = jax.tree.map(lambda a, b: (a.reshape(mask.size, -1) == b.reshape(mask.size, -1)).all(axis=1), mode, action)
    return jnp.stack(jax.tree.leaves(same)).all(axis=0).reshape(mask.shape).astype(jnp.zeros(()).dtype)


def in_batches(columns: Int[Array, "n"], batch: int) -> Int[Array, "m batch"]:
    """Columns ``batch`` by ``batch``; the last ones are filled with −1, which is no column."""
    return jnp.append(columns, jnp.full(-len(columns) % batch, -1)).reshape(-1, batch)


def take(trajectory: Trajectory, which: Int[Array, "batch"]) -> Trajectory:
    """Some columns. Where ``which`` is −1 every row is masked."""
    pick = lambda axis, leaf: jax.tree.map(lambda x: jnp.take(x, which, axis=axis), leaf)  # noqa: E731
    some = jax.tree.map(pick, COLUMNS, trajectory)
    return some._replace(mask=some.mask & (which >= 0))
