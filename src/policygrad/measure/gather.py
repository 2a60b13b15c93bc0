"""Gradients of many trajectories of one frozen policy, every rung on the same data. Streamed: memory does not grow with
the number of trajectories.

All rungs share one pass: an estimate is linear in Ψ, so one linearisation of log π serves all of them,

    ĝ^k_i = (1/m) Σ_{j ∈ group i} Σ_t ∇log π(a_{j,t})·Ψ^k_{j,t},       k = 1 … K.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from policygrad.ladder.psi import Psi
from policygrad.learn.gradient import steps_from
from policygrad.learn.groups import gradient_groups
from policygrad.measure.rungs import Rung
from policygrad.models.actor_critic import ActorCritic, FrameWindow
from policygrad.types import Steps, Trajectory

GROUPS = 512
"""At most so many vectors are kept of a rung, while batches are no larger than that allows."""
ENTRIES = 1 << 24
"""A rung's vectors hold at most so many numbers (64 MiB); longer gradients are projected."""
AT_ONCE = 1 << 27
"""The gradients of one batch hold at most so many numbers (512 MiB) before they are projected."""
SHORTEST = 32
"""Rows are cut to one of few lengths, 32, 128, 512 …: few shapes, so few compilations."""

Collect = Callable[[Array], Trajectory]
"""``key -> trajectory`` of whole episodes, ``[T, batch]``."""


class Chunk(NamedTuple):
    """What is kept of one batch."""

    vectors: Any
    """``[K, groups, p]``: for each rung the mean gradients of groups of trajectories."""
    returns: Any
    """G_t, continued with V behind a cut, ``[T, B]``."""
    steps: Steps


class Episodes(NamedTuple):
    """Numbers of each trajectory, ``[n]``."""

    ret: Any
    """Undiscounted return, on the environment's own scale."""
    length: Any
    truncated: Any
    """Cut by the time limit."""
    log_rho: Any
    """log Π_t π(a_t)/μ(a_t)."""
    sums: Any
    """Σ_t of 1, G, G², G − V and (G − V)², for :func:`explained_variance`, ``[n, 5]``."""


@dataclass(frozen=True)
class Gathered:
    """Gradients of one policy: n vectors per rung, each the mean of ``size`` trajectories."""

    vectors: dict[str, Float[np.ndarray, "n p"]]
    size: int
    batch: int
    """Trajectories that were learned from together: the N of every rung that couples them."""
    episodes: Episodes
    dimension: int
    """d, the number of the policy's parameters."""
    projected: int | None
    """p < d: the vectors are a seeded random projection, whose inner products have relative error √(2/p)."""

    @property
    def trajectories(self) -> int:
        return len(self.episodes.ret)

    def coarse(self, name: str, size: int) -> Float[np.ndarray, "m p"]:
        """Means over ``size`` trajectories."""
        x, k = self.vectors[name], size // self.size
        n = len(x) // k
        return x[: n * k].reshape(n, k, -1).mean(axis=1)


def gather(
    collect: Collect,
    model: Any,
    rungs: Mapping[str, Rung],
    *,
    trajectories: int,
    batch: int,
    gamma: float,
    critic: Any = None,
    seed: int = 0,
    threads: int = 1,
    tell: Callable[[int], None] = lambda n: None,
) -> Gathered:
    """Play ``trajectories`` episodes in batches, and keep each rung's gradients.

    Args:
        collect: plays one batch of whole episodes.
        model: π (and V, unless ``critic`` is given).
        threads: so many batches are worked on at once, if ``collect`` allows that: a pure world does. What comes out is
            the same.
        tell: told after each batch how many trajectories there are.

    Raises:
        ValueError: fewer than four batches, or nothing to learn from: no noise and no signal in any rung.
    """
    require_batches(trajectories, batch)
    n_batches = trajectories // batch
    distinct, place = without_repeats(rungs)
    together = -(-n_batches // (2 * GROUPS))  # batches whose mean makes one vector, where there are very many
    actor = actor_alone(model)
    dimension = sum(x.size for x in jax.tree.leaves(eqx.filter(actor, eqx.is_inexact_array)))
    most = min(batch, max(1, GROUPS // n_batches), max(1, AT_ONCE // (len(distinct) * dimension)))
    parts = next(k for k in range(most, 0, -1) if batch % k == 0)
    n_vectors = n_batches * parts // together
    width = min(dimension, max(1024, ENTRIES // n_vectors))
    project = None if width == dimension else Projection.make(dimension, width)
    learn = partial(gradients_of, distinct, parts, gamma, model, actor, critic)
    key = jax.random.key(seed)
    if len(distinct) * dimension * parts * threads > AT_ONCE:
        threads = 1

    def work(i: int) -> tuple[np.ndarray, Episodes]:
        trajectory = shortened(collect(jax.random.fold_in(key, i)))
        chunk = learn(trajectory, project)
        return np.asarray(chunk.vectors), episodes_of(trajectory, chunk)

    vectors: list[np.ndarray] = []
    episodes: list[Episodes] = []
    pending: list[np.ndarray] = []
    for i, (found, numbers) in enumerate(in_order(work, range(n_batches - n_batches % together), threads)):
        pending.append(found)
        episodes.append(numbers)
        if len(pending) == together:
            vectors.append(pending[0] if together == 1 else np.mean(pending, axis=0).mean(axis=1, keepdims=True))
            pending.clear()
        tell((i + 1) * batch)
    kept = np.concatenate(vectors, axis=1)
    refuse_nothing(kept)
    return Gathered(
        vectors={name: kept[i] for name, i in place.items()},
        size=batch * together // (parts if together == 1 else 1),
        batch=batch,
        episodes=jax.tree.map(lambda *x: np.concatenate(x), *episodes),
        dimension=dimension,
        projected=None if project is None else width,
    )


def require_batches(trajectories: int, batch: int) -> None:
    """A ValueError where there are fewer than four batches."""
    if batch < 1 or trajectories < 4 * batch:
        raise ValueError(
            f"{trajectories} trajectories in batches of {batch} are fewer than four batches, and nothing could be said "
            f"about their noise: give at least {4 * max(batch, 1)} trajectories, or a smaller batch"
        )


def in_order(work: Callable[[int], Any], numbers: Iterable[int], threads: int) -> Iterator[Any]:
    """``map(work, numbers)`` with several at once; whoever stops early waits for no more than those."""
    if threads == 1:
        yield from map(work, numbers)
        return
    numbers = iter(numbers)
    yield from map(work, islice(numbers, 1))  # alone: two at once would both compile
    begun: deque[Future] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for i in numbers:
                begun.append(pool.submit(work, i))
                if len(begun) > threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def without_repeats(rungs: Mapping[str, Rung]) -> tuple[tuple[Rung, ...], dict[str, int]]:
    """The rungs that are computed, and which of them each name stands for: two with the same Ψ are one."""
    distinct: list[Rung] = []
    place: dict[str, int] = {}
    for name, rung in rungs.items():
        same = (
            i for i, other in enumerate(distinct) if other.window == rung.window and eqx.tree_equal(other.psi, rung.psi)
        )
        place[name] = next(same, len(distinct))
        if place[name] == len(distinct):
            distinct.append(rung)
    return tuple(distinct), place


@eqx.filter_jit
def gradients_of(
    rungs: tuple[Rung, ...],
    parts: int,
    gamma: float,
    model: Any,
    actor: Any,
    critic: Any,
    trajectory: Trajectory,
    project: Any,
) -> Chunk:
    """One batch: the weights Ψ of each rung, then all gradients at once."""
    trajectory = jax.tree.map(jnp.asarray, trajectory)
    weights = jnp.stack([weigh(rung, model, trajectory, critic) for rung in rungs])
    vectors = gradient_groups(actor, trajectory, weights, parts)
    if project is not None:
        vectors = project(vectors)
    monte_carlo = Psi("lambda_return", lam=1.0, gamma=gamma)
    steps = steps_from(model, trajectory, monte_carlo, critic=critic)
    return Chunk(vectors, monte_carlo.target_of(steps), steps)


def weigh(rung: Rung, model: Any, trajectory: Trajectory, critic: Any) -> Float[Array, "T B"]:
    """Ψ of a rung, by the path that training takes; in windows, if the rung has them."""
    steps = steps_from(model, trajectory, rung.psi, critic=critic)
    if rung.window is not None:
        steps = steps._replace(last=steps.last | ((steps.time + 1) % rung.window == 0))
    return rung.psi(steps)


def episodes_of(trajectory: Trajectory, chunk: Chunk) -> Episodes:
    """Numbers of each trajectory, summed in float64."""
    mask = np.asarray(chunk.steps.mask)
    returns, value, log_rho = (
        np.where(mask, x, 0).astype(np.float64) for x in (chunk.returns, chunk.steps.value, chunk.steps.log_rho)
    )
    error = returns - value
    return Episodes(
        ret=np.where(mask, trajectory.reward, 0).sum(axis=0, dtype=np.float64),
        length=mask.sum(axis=0),
        truncated=(np.asarray(trajectory.truncated) & mask).any(axis=0),
        log_rho=log_rho.sum(axis=0),
        sums=np.stack([x.sum(axis=0) for x in (1.0 * mask, returns, returns**2, error, error**2)], axis=-1),
    )


def actor_alone(model: Any) -> Any:
    """The model without its critic, whose parameters have no part in ∇log π."""
    holder = lambda m: m.model if isinstance(m, FrameWindow) else m  # noqa: E731
    if not isinstance(holder(model), ActorCritic):
        return model
    return eqx.tree_at(lambda m: holder(m).critic, model, None, is_leaf=lambda x: x is None)


def shortened(trajectory: Trajectory) -> Trajectory:
    """Without the rows at the end that no trajectory reaches."""
    n_steps, longest = len(trajectory.mask), int(np.asarray(trajectory.mask).sum(axis=0).max())
    kept = next((n for n in (SHORTEST * 4**k for k in range(12)) if n >= longest), n_steps)
    if kept >= n_steps:
        return trajectory
    rows = trajectory._replace(carry=None, cut_obs=None)
    return jax.tree.map(lambda x: x[:kept], rows)._replace(carry=trajectory.carry, cut_obs=trajectory.cut_obs)


def refuse_nothing(vectors: Float[np.ndarray, "K n p"]) -> None:
    """Gradients that are not numbers, or all zero without a critic's help, say nothing."""
    if not np.isfinite(vectors).all():
        raise ValueError(
            "a gradient is not finite: check the rewards, and the policy's parameters, for NaN and infinity"
        )
    if not vectors[0].any():
        raise ValueError(
            "every gradient is exactly zero, so there is nothing to measure: the rewards are all zero, or no parameter "
            "changes the policy"
        )


class Projection(eqx.Module):
    """x ∈ ℝ^d ↦ y ∈ ℝ^p: every entry is added, with a random sign, to a random place of y. Inner products keep their
    expectation over the random choice, with relative error √(2/p). Charikar, Chen & Farach-Colton (2002), "Finding
    frequent items in data streams". The choice is the same for all samples: they are compared with each other."""

    place: Int[Array, "d"]
    sign: Float[Array, "d"]
    width: int = eqx.field(static=True)

    @classmethod
    def make(cls, dimension: int, width: int, seed: int = 0) -> "Projection":
        place, sign = jax.random.split(jax.random.key(seed))
        return cls(
            jax.random.randint(place, (dimension,), 0, width), jax.random.rademacher(sign, (dimension,), float), width
        )

    def __call__(self, x: Float[Array, "*B d"]) -> Float[Array, "*B p"]:
        one = lambda x: jax.ops.segment_sum(x * self.sign, self.place, self.width)  # noqa: E731
        return jax.lax.map(one, x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], self.width)


def explained_variance(sums: Float[np.ndarray, "... 5"]) -> Float[np.ndarray, "..."]:
    """1 − Var(G − V)/Var(G) over rows, from sums of (1, G, G², G − V, (G − V)²)."""
    count, g, g2, e, e2 = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    variance, left = g2 / count - (g / count) ** 2, e2 / count - (e / count) ** 2
    return np.where(variance > 0, 1 - left / np.where(variance > 0, variance, 1), np.nan)
