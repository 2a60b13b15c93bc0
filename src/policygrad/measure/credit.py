"""Who gets the credit: Ψ_t along an episode, what one gradient step makes of it, and how long a step may be.

    θ' = θ + η·ĝ,   ĝ = (1/N) Σ_i Σ_t ∇log π(a_{i,t}|s_{i,t})·Ψ_{i,t},   Δ_t = log π_θ'(a_t|s_t) − log π_θ(a_t|s_t)

The scale of Ψ differs from rung to rung, and so would the steps. They are compared at one length in the policy's own
measure, the mean over rows of D(π_θ‖π_θ'). With Ψ_t = 1 the step is one of maximum likelihood (Williams 1992): all that
was done becomes likelier. Any other Ψ is that, weighted.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from policygrad.collect.xla import episode_collector
from policygrad.envs.core import Stream
from policygrad.ladder.recursion import masked_mean, masked_sum
from policygrad.learn.gradient import policy_gradient
from policygrad.measure.gather import weigh
from policygrad.measure.rungs import Rung
from policygrad.measure.statistics import Estimate, normal, standard_error
from policygrad.models.actor_critic import is_memoryless, unroll
from policygrad.types import Trajectory

LIKELIHOOD = "likelihood"
"""The name of Ψ = 1 where rungs have names."""
KL = 1e-3
"""The default length of a step, in nats per row."""
SEARCH = 30
"""Rounds of the search for a step of given length, at most; each at most multiplies it by ten."""
CLOSE = 1e-3
"""A length is found when it is wrong by less than this share; one more round then makes it better still."""


class RungCredit(NamedTuple):
    """What a rung makes of the trajectories."""

    psi: Float[np.ndarray, "T B"]
    """Ψ_t; zero on masked rows."""
    change: Float[np.ndarray, "T B"]
    """Δ_t, in nats; zero on masked rows."""
    step: float
    """η."""
    kl: float
    """The mean over rows of D(π_θ‖π_θ'), in nats."""
    conflict: float | None
    """Of all pairs of rows with the same state and action the share whose gradients oppose each other: they are
    Ψ·∇log π with the same ∇log π, so the signs of Ψ tell. None where there is no such pair."""

    @property
    def total(self) -> Float[np.ndarray, "B"]:
        """Σ_t Δ_t, the change of log p(τ): of what happens, only the actions are the policy's."""
        return self.change.sum(axis=0)


class Credit(NamedTuple):
    """Who gets the credit, rung by rung."""

    ret: Float[np.ndarray, "B"]
    """Σ_t γ^t r_t of each trajectory."""
    mask: Any
    """``[T, B]``."""
    pairs: int
    """Pairs of rows with the same state and action."""
    rungs: dict[str, RungCredit]
    note: str
    """Why there are no pairs; empty where there are some."""

    def correlation(self, rung: str) -> float:
        """Between the change of log p(τ) and the return: does a step prefer the better trajectories? NaN where either
        is the same for all."""
        total, ret = self.rungs[rung].total, self.ret
        return float(np.corrcoef(total, ret)[0, 1]) if total.std() > 0 and ret.std() > 0 else float("nan")


def credit(
    model: Any,
    trajectory: Trajectory,
    rungs: Mapping[str, Rung | None],
    *,
    kl: float = KL,
    step: float | None = None,
    gamma: float = 1.0,
    critic: Any = None,
) -> Credit:
    """Ψ_t, and the change of log π(a_t | s_t) after one gradient step of each rung, on the trajectories that it learned
    from.

    Args:
        model: π, and V unless ``critic`` is given.
        trajectory: whole episodes, ``[T, B]``.
        rungs: by name; None in place of a rung: Ψ_t = 1, maximum likelihood.
        kl: the length of every step, in nats per row.
        step: η instead, the same for all rungs.
        gamma: γ of the returns that trajectories are compared by.

    Raises:
        ValueError: a ``kl`` or a ``step`` that is not positive.
    """
    for name, number in (("kl", kl), ("step", step)):
        if number is not None and not number > 0:
            raise ValueError(f"{name} is {number!r}: a step needs a positive length")
    trajectory = jax.tree.map(jnp.asarray, trajectory)
    same, note = equal_rows(model, trajectory)
    found = {}
    for name, rung in rungs.items():
        psi, change, size, length = map(np.asarray, learned(rung, model, trajectory, critic, kl, step))
        found[name] = RungCredit(psi, change, float(size), float(length), conflict(psi, same))
    ret = np.asarray(discounted_return(trajectory, gamma))
    return Credit(ret, np.asarray(trajectory.mask), count_pairs(same), found, note)


@eqx.filter_jit
def learned(
    rung: Rung | None, model: Any, trajectory: Trajectory, critic: Any, kl: float, step: float | None
) -> tuple[Float[Array, "T B"], Float[Array, "T B"], Any, Any]:
    """``(Ψ, Δ, η, the step's length)`` of one rung."""
    mask = trajectory.mask
    psi = mask.astype(trajectory.reward.dtype) if rung is None else weigh(rung, model, trajectory, critic)
    direction = policy_gradient(model, trajectory, psi)
    size = step_of_length(model, trajectory, direction, kl) if step is None else step
    output, before = (unroll(m, trajectory)[0] for m in (moved(model, direction, size), model))
    change = jnp.where(mask, output.log_prob - before.log_prob, 0)
    return psi, change, size, divergence(model, moved(model, direction, size), trajectory)


def moved(model: Any, direction: PyTree, size: Any) -> Any:
    """θ + η·d."""
    return eqx.apply_updates(model, jax.tree.map(lambda d: size * d, direction))


def divergence(model: Any, other: Any, trajectory: Trajectory) -> Float[Array, ""]:
    """The mean over rows of D(π_θ‖π_θ'), in nats."""
    p, q = (unroll(m, trajectory)[0].distribution for m in (model, other))
    lead = trajectory.mask.ndim
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[lead:]), (p, q))
    return masked_mean(jax.vmap(lambda p, q: p.kl(q))(*rows), trajectory.mask.reshape(-1))


def step_of_length(model: Any, trajectory: Trajectory, direction: PyTree, kl: Any) -> Float[Array, ""]:
    """η with D(π_θ‖π_{θ+ηd}) = kl; zero where the direction is. D is nearly η²/2·dᵀFd, F the Fisher information, so
    η ← η·√(kl/D) converges at once (Kakade 2001)."""

    def better(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, size, _ = state
        found = divergence(model, moved(model, direction, size), trajectory)
        factor = jnp.where(jnp.isfinite(found), jnp.clip(jnp.sqrt(kl / jnp.maximum(found, 1e-30)), 0.1, 10), 0.1)
        return i + 1, size * factor, found

    def going_on(state: tuple[Array, Array, Array]) -> Array:
        i, _, found = state
        return (i < SEARCH) & ~(jnp.abs(found - kl) < CLOSE * kl)

    begin = jnp.zeros((), jnp.int32), jnp.ones(()), jnp.full((), jnp.nan)
    _, size, _ = jax.lax.while_loop(going_on, better, begin)
    nothing = jnp.all(jnp.stack([jnp.all(d == 0) for d in jax.tree.leaves(direction)]))
    return jnp.where(nothing, 0, size)


# Rows that are the same


def equal_rows(model: Any, trajectory: Trajectory) -> tuple[Int[np.ndarray, "T B"], str]:
    """A number for each row, the same for rows with the same state and action, −1 for masked ones; and why no two rows
    are the same."""
    mask = np.asarray(trajectory.mask)
    numbers = np.full(mask.shape, -1)
    if not is_memoryless(model):
        return numbers, "no two rows are the same for a policy with memory"
    seen: Any = (trajectory.obs, trajectory.action)
    if getattr(getattr(model, "encoder", None), "horizon", None) is not None:
        seen = (*seen, trajectory.time)  # what the policy sees of the time is part of the state
    leaves = [np.asarray(x)[mask] for x in jax.tree.leaves(seen)]
    rows = np.concatenate([as_bytes(x) for x in leaves], axis=1)
    numbers[mask] = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    if count_pairs(numbers):
        return numbers, ""
    return numbers, "no state and action came twice: where either is continuous, no two gradients can be compared"


def as_bytes(x: np.ndarray) -> np.ndarray:
    """``[n, bytes]``; −0 is 0."""
    x = x.reshape(len(x), -1)
    x = x + 0.0 if x.dtype.kind == "f" else x
    return np.ascontiguousarray(x).view(np.uint8).reshape(len(x), -1)


def count_pairs(same: Int[np.ndarray, "T B"]) -> int:
    counts = np.bincount(same[same >= 0]) if (same >= 0).any() else np.zeros(1, int)
    return int((counts * (counts - 1) // 2).sum())


def conflict(psi: Float[np.ndarray, "T B"], same: Int[np.ndarray, "T B"]) -> float | None:
    """The share of pairs with opposite signs; None without pairs."""
    pairs = count_pairs(same)
    if not pairs:
        return None
    up, down = (np.bincount(same[(same >= 0) & sign], minlength=same.max() + 1) for sign in (psi > 0, psi < 0))
    return float((up * down).sum() / pairs)


# How much to update


class StepPoint(NamedTuple):
    """The policy θ + η·d."""

    size: float
    """η."""
    kl: float
    """The mean over the old policy's rows of D(π_θ‖π_{θ+ηd}), in nats."""
    ret: Estimate
    """Its expected return."""
    gain: Estimate
    """Over the old policy, in episodes with the same random numbers."""


@eqx.filter_jit
def direction_of(
    rung: Rung, model: Any, trajectory: Trajectory, lengths: Float[Array, "n"], critic: Any = None
) -> tuple[PyTree, Float[Array, "n"]]:
    """The gradient that a rung makes of one batch, and the η of each length along it, in nats per row."""
    direction = policy_gradient(model, trajectory, weigh(rung, model, trajectory, critic))
    return direction, jax.lax.map(lambda kl: step_of_length(model, trajectory, direction, kl), jnp.asarray(lengths))


def step_curve(
    stream: Stream,
    model: Any,
    direction: PyTree,
    sizes: Sequence[float],
    *,
    episodes: int = 512,
    gamma: float = 1.0,
    seed: int = 0,
) -> list[StepPoint]:
    """How much to update: the expected return in fresh episodes along a direction.

    Args:
        direction: d, a tree like that of :func:`~policygrad.learn.gradient.policy_gradient`.
        sizes: each η.
        episodes: so many are played with each policy, the same random numbers in all.
        gamma: γ of the return Σ_t γ^t r_t.

    Raises:
        ValueError: fewer than two episodes, or a stream without a time limit.
    """
    if episodes < 2:
        raise ValueError(f"{episodes} episodes have no spread: give at least 2")
    play = partial(returns_after, stream, episodes, gamma, jax.random.key(seed), model, direction)
    before, old = play(jnp.zeros(()))
    points = []
    for size in sizes:
        after, _ = play(jnp.asarray(size, before.dtype))
        length = divergence_after(model, direction, jnp.asarray(size, before.dtype), old)
        points.append(StepPoint(float(size), float(length), mean(after), mean(after - before)))
    return points


@eqx.filter_jit
def returns_after(
    stream: Stream, episodes: int, gamma: float, key: Array, model: Any, direction: PyTree, size: Array
) -> tuple[Float[Array, "n"], Trajectory]:
    """The returns of fresh episodes of θ + η·d, and the episodes."""
    policy, collector = moved(model, direction, size), episode_collector(stream, episodes)
    _, trajectory, _ = collector.collect(policy, collector.init(policy, key), key)
    return discounted_return(trajectory, gamma), trajectory


@eqx.filter_jit
def divergence_after(model: Any, direction: PyTree, size: Array, trajectory: Trajectory) -> Float[Array, ""]:
    """D(π_θ‖π_{θ+ηd}) on the old policy's rows."""
    return divergence(model, moved(model, direction, size), trajectory)


def discounted_return(trajectory: Trajectory, gamma: float) -> Float[Array, "B"]:
    """Σ_t γ^t r_t of each trajectory."""
    discount = gamma ** trajectory.time.astype(trajectory.reward.dtype)
    return masked_sum(discount * trajectory.reward, trajectory.mask, axis=0)


def mean(x: Any) -> Estimate:
    x = np.asarray(x, np.float64)
    return normal(x.mean(), standard_error(x))
