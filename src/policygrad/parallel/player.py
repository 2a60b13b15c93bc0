"""What one worker does, whoever coordinates it: play a window with a fixed copy of the parameters, and compute that
window's gradient with the learner of every other preset.

Everything goes in and out as flat vectors, which can be shared, added and sent.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from policygrad.collect.host import leaves_of
from policygrad.learn.learner import Learner, LearnerState
from policygrad.models.normalize import RunningStatistics
from policygrad.parallel.board import Layout
from policygrad.random import standard, unrolled
from policygrad.spaces import unmasked
from policygrad.types import Finished, Trajectory

FEATURES = 16
"""At most so many numbers of an observation are compared between workers."""


class Local(NamedTuple):
    """What a worker keeps to itself between two windows."""

    collected: PyTree
    key: Any
    ret: Any
    """Running discounted returns, where rewards are normalised."""
    normal: Array
    """Normaliser statistics of what this worker saw since it began."""


class Window(NamedTuple):
    """What a worker gives for one window: NumPy arrays once it is outside XLA."""

    grads: Any
    """Downhill, of this window alone, at the parameters that played it."""
    rows: Any
    """Valid rows: environment steps."""
    finite: Any
    """Whether rewards and gradient are."""
    episodes: Any
    """Sum of returns, sum of lengths, and number of the episodes that ended."""
    metrics: Any
    seen: Any
    """Rows, and sums of features and of their squares over the rows."""
    normal: Any


class Player(NamedTuple):
    """See :func:`make_player`. Vectors are NumPy arrays or JAX arrays."""

    layout: Layout
    names: tuple[str, ...]
    """Of the metrics."""
    start: Callable[[LearnerState], dict[str, np.ndarray]]
    """``state -> theta, target, opt`` as vectors."""
    state: Callable[[LearnerState, dict[str, Any]], LearnerState]
    """The inverse: a learner's state with these vectors put in."""
    begin: Callable[[Any, Array, Array], Local]
    """``(theta, collect_key, key) -> local``: a worker at its beginning."""
    play: Callable[..., tuple[Local, Window]]
    """``(theta, target, rows, ent_coef, local, clock) -> (local, window)``: one window with that copy of θ."""
    step: Callable[[Any, Any, Any], tuple[np.ndarray, np.ndarray]]
    """``(opt, grads, rows) -> (Δθ, Δopt)``."""
    merge: Callable[[Any, Any], np.ndarray]
    """``(theta, [W, S]) -> theta`` with the normaliser's statistics of every worker merged in."""


def make_player(
    learner: Learner, collector: Any, *, workers: int, shared_statistics: bool = True, clip_reward: bool = False
) -> Player:
    """The functions of a worker, compiled once for all workers of a process.

    Args:
        collector: a pure one (a whole window is one XLA call with its gradient), or a ``HostCollector``.
        clip_reward: learn from the rewards' signs, in pure worlds; a host collector does that itself.
    """
    blank = learner.init(jax.random.key(0))
    flat, unravel = ravel_pytree(blank.params)
    opt, unravel_opt = ravel_pytree(blank.opt_state)
    where = normaliser_at(blank.params)
    pure = bool(collector.pure)

    def put(theta: Any, target: Any, rows: Any, ret: Any, ent_coef: Any = blank.hyper.ent_coef) -> LearnerState:
        if blank.target is not None and where.size:  # φ' sees what θ sees
            target = jnp.asarray(target).at[where].set(jnp.asarray(theta)[where])
        copy = None if blank.target is None else unravel(target)
        hyper = blank.hyper._replace(ent_coef=ent_coef)
        return blank._replace(params=unravel(theta), target=copy, rows=rows, ret=ret, hyper=hyper)

    def gradient(state: LearnerState, trajectory: Trajectory, finished: Finished, key: Array, local: Local) -> Any:
        batch = learner.weigh(state, trajectory)
        grads, metrics = learner.grad(state, batch, key)
        metrics = metrics | learner.measure(state, batch)
        grads, _ = ravel_pytree(grads)
        finite = jnp.isfinite(jnp.sum(trajectory.reward)) & jnp.isfinite(metrics["grad_norm"])
        ret, normal = observed(state, trajectory, local)
        vector = jnp.stack([metrics[name] for name in learner.metrics])
        rows = jnp.sum(trajectory.mask, dtype=jnp.int32)
        return ret, Window(grads, rows, finite, sums(finished), vector, moments(trajectory), normal)

    def observed(state: LearnerState, trajectory: Trajectory, local: Local) -> tuple[Any, Array]:
        """The worker's own statistics with this window's rows, and its running returns."""
        if not where.size:
            return state.ret, local.normal
        theta = ravel_pytree(state.params)[0].at[where].set(local.normal)
        seen = learner.observe(state._replace(params=unravel(theta), ret=local.ret), trajectory)
        return seen.ret, ravel_pytree(seen.params)[0][where]

    def begin(theta: Any, collect_key: Array, key: Array) -> Local:
        state = put(theta, theta, jnp.zeros((), jnp.int32), blank.ret)
        return Local(collector.init(learner.model(state), collect_key), key, blank.ret, flat[where])

    def window(theta: Any, target: Any, rows: Any, ent_coef: Any, local: Local) -> tuple[Local, Window]:
        """Play and learn in one XLA call."""
        state = put(theta, target, rows, local.ret, ent_coef)
        key, collect_key, learn_key = jax.random.split(unrolled(local.key), 3)
        collected, trajectory, finished = collector.collect(learner.model(state), local.collected, collect_key)
        if clip_reward:
            trajectory = trajectory._replace(reward=jnp.sign(trajectory.reward))
        ret, made = gradient(state, trajectory, finished, learn_key, local)
        return Local(collected, standard(key), ret, made.normal), made

    def learn(theta, target, rows, ent_coef, local, trajectory, finished, key):  # type: ignore[no-untyped-def]
        state = put(theta, target, rows, local.ret, ent_coef)
        ret, made = gradient(state, trajectory, finished, key, local)
        return ret, made.normal, made

    def step(opt: Any, grads: Any, rows: Any) -> tuple[Any, Any]:
        delta, after = learner.step(blank._replace(opt_state=unravel_opt(opt), rows=rows), unravel(grads))
        return delta, ravel_pytree(after)[0] - opt

    def merge(theta: Any, rows: Any) -> Any:
        def with_row(normalizer: Any, row: Array) -> tuple[Any, None]:
            other = learner.model(blank._replace(params=unravel(jnp.asarray(theta).at[where].set(row)))).normalizer
            return jax.tree.map(merged, normalizer, other, is_leaf=is_statistics), None

        mine = learner.model(blank._replace(params=unravel(theta))).normalizer
        normalizer, _ = jax.lax.scan(with_row, mine, rows)
        params = eqx.tree_at(lambda p: p.normalizer, unravel(theta), normalizer)
        return ravel_pytree(params)[0]

    window, learn, step, merge = jax.jit(window), jax.jit(learn), jax.jit(step), jax.jit(merge)
    begin = jax.jit(begin) if pure else begin
    leaves = jax.jit(lambda theta: leaves_of(learner.model(put(theta, theta, 0, blank.ret))))
    split = jax.jit(lambda key: tuple(jax.random.split(key, 3)))

    def play(theta: Any, target: Any, rows: Any, ent_coef: Any, local: Local, clock: Any = None) -> tuple:
        if pure:
            local, made = window(theta, target, rows, ent_coef, local)
            return local, jax.tree.map(np.asarray, made)
        key, collect_key, learn_key = split(local.key)
        collected, trajectory, finished = collector.play(leaves(theta), local.collected, collect_key)
        if clock is not None:
            clock("acting")
        small = local._replace(collected=None, key=None)
        ret, normal, made = learn(theta, target, rows, ent_coef, small, trajectory, finished, learn_key)
        return Local(collected, key, ret, normal), jax.tree.map(np.asarray, made)

    def start(state: LearnerState) -> dict[str, np.ndarray]:
        theta, opt = ravel_pytree(state.params)[0], ravel_pytree(state.opt_state)[0]
        target = np.zeros(0, theta.dtype) if state.target is None else ravel_pytree(state.target)[0]
        return {"theta": np.array(theta), "target": np.array(target), "opt": np.array(opt)}

    def state(like: LearnerState, vectors: dict[str, Any]) -> LearnerState:
        target = None
        if like.target is not None:
            seen = jnp.asarray(vectors["target"]).at[where].set(jnp.asarray(vectors["theta"])[where])
            target = unravel(seen)
        opt_state = unravel_opt(jnp.asarray(vectors["opt"]))
        return like._replace(params=unravel(jnp.asarray(vectors["theta"])), target=target, opt_state=opt_state)

    sizes = flat.size, opt.size, 0 if blank.target is None else flat.size, int(where.size)
    layout = Layout(workers, *sizes, len(learner.metrics), FEATURES, shared_statistics, str(flat.dtype))
    return Player(layout, learner.metrics, start, state, begin, play, step, merge)


def normaliser_at(params: PyTree) -> np.ndarray:
    """Where the normaliser's numbers lie in the flat vector of ``params``."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    if getattr(params, "normalizer", None) is None:
        return np.zeros(0, int)
    ones = jax.tree.map(jnp.ones_like, params.normalizer)
    return np.flatnonzero(np.asarray(ravel_pytree(eqx.tree_at(lambda p: p.normalizer, zeros, ones))[0]))


def is_statistics(node: Any) -> bool:
    return isinstance(node, RunningStatistics)


def merged(ours: Any, theirs: Any) -> Any:
    """Chan, Golub & LeVeque (1983)."""
    return ours.merge(theirs.mean, theirs.var, theirs.count) if is_statistics(ours) else ours


def sums(finished: Finished) -> Float[Array, "3"]:
    """Sum of returns, sum of lengths, and number of the episodes that ended."""
    return jnp.stack([jnp.sum(jnp.where(finished.done, x, 0.0)) for x in (finished.ret, finished.length, 1.0)])


def moments(trajectory: Trajectory) -> Float[Array, "F"]:
    """``[rows, sums, sums of squares]`` over the valid rows, of at most :data:`FEATURES` numbers of each observation,
    evenly chosen."""
    obs, _ = unmasked(trajectory.obs)
    rows = trajectory.mask.size
    flat = jnp.concatenate([x.reshape(rows, -1).astype(float) for x in jax.tree.leaves(obs)], axis=1)
    chosen = flat[:, np.linspace(0, flat.shape[1] - 1, min(FEATURES, flat.shape[1])).astype(int)]
    kept = jnp.where(trajectory.mask.reshape(rows, 1), chosen, 0)
    kept = jnp.pad(kept, ((0, 0), (0, FEATURES - kept.shape[1])))
    return jnp.concatenate([jnp.sum(trajectory.mask)[None].astype(float), kept.sum(axis=0), (kept**2).sum(axis=0)])
