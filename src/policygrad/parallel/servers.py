"""Where the parameters lie when workers are on many machines: in shards that add up gradients, or with one learner that
is sent trajectories. Plain objects, one call at a time: :mod:`policygrad.parallel.ray` makes actors of them.

Back-pressure: a worker has one window under way and gets its next parameters as the answer to it. What is too stale
when it arrives is dropped and counted, never queued.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from policygrad.learn.learner import Learner, LearnerState
from policygrad.parallel.board import COUNTED, Board, Layout
from policygrad.parallel.hogwild import NotFinite, Rules, count, entropy_coefficient
from policygrad.parallel.player import Player, Window
from policygrad.parallel.sampler import Sample, Sampler
from policygrad.types import Trajectory

LONG = 1.0
"""Seconds of an update beyond which workers are not blamed for their silence."""


class Terms(NamedTuple):
    """What all sides of a run agree on. Plain values, which can be sent."""

    rules: Rules
    layout: Layout
    mode: str = "gradients"
    """``gradients``: workers send them (A3C; Mnih et al. 2016). ``trajectories``: workers send whole windows, and the
    learner corrects their staleness (IMPALA; Espeholt et al. 2018)."""
    shards: int = 1
    max_staleness: int | None = None
    """Updates by others between copy and arrival beyond which a window is dropped; None: none is."""
    max_grad_norm: float | None = None
    goal: int = 2**31 - 1
    """Environment steps to learn from: windows that come later are too late."""


class Make(Protocol):
    """Makes the parts of a run where they are needed. It is sent there."""

    def __call__(self, beat: Callable[[], None]) -> Player:
        """A worker that sends gradients. ``beat()`` is its sign of life."""

    def sampler(self, beat: Callable[[], None]) -> Sampler:
        """A worker that sends trajectories."""

    def learner(self) -> Learner:
        """The learner alone."""

    def shard(self, size: int) -> Learner:
        """A learner whose model is a :class:`Slice` of ``size`` numbers, and which does not clip."""


class Slice(eqx.Module):
    """Some of the numbers of θ, as a model. An optimiser that works element by element, as RMSProp and Adam do, needs
    to know no more."""

    numbers: Float[Array, "n"]

    def initial(self) -> None:
        return None


class Answer(NamedTuple):
    """What a worker gets for a window: with which parameters to play the next one."""

    version: int
    """Updates of this server so far."""
    theta: np.ndarray
    target: np.ndarray
    rows: int
    """Environment steps learned from."""
    normal: np.ndarray
    """``[W, S]``: every worker's normaliser statistics, where workers keep them."""
    stop: bool


class Verdict(NamedTuple):
    """What the first server decided about a window: all shards follow its one clock."""

    taken: bool
    rows: int
    """Environment steps learned from before it."""


class Start(NamedTuple):
    """With what a server begins."""

    theta: np.ndarray
    target: np.ndarray
    opt: np.ndarray
    updates: int
    rows: int
    counts: dict[str, np.ndarray] | None = None
    """The counters to go on from; None: another server keeps them."""


class Server:
    """What a shard and a learner have in common: a version, and, with the first of them, the run's counters.

    Args:
        terms: of the run.
        start: where to begin.
    """

    def __init__(self, terms: Terms, start: Start) -> None:
        self.terms, self.version, self.stop = terms, 0, False
        self.board = Board(terms.layout._replace(params=0, opt=0, target=0))
        for name, values in (start.counts or {}).items():
            getattr(self.board, name)[:] = values
        workers = terms.layout.workers
        self.dropped = np.zeros(workers, int)
        self.lives, self.played = np.full(workers, -1), np.zeros(workers, bool)
        self.nodes = [""] * workers

    # What workers call

    def hello(self, worker: int, life: int, node: str) -> Answer:
        """A worker begins, on that machine."""
        self.lives[worker], self.played[worker], self.nodes[worker] = life, False, node
        self.beat(worker)
        return self.answer()

    def beat(self, worker: int) -> None:
        """A sign of life."""
        self.board.beat[worker] = time.monotonic()

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Nobody can be heard meanwhile. Where that takes long, as it does once to compile, it is no silence."""
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self.board.beat += took if took > LONG else 0.0

    def answer(self) -> Answer:
        theta, target, rows = self.parameters()
        return Answer(self.version, theta, target, rows, self.board.normal.copy(), self.stop)

    def takes(self, worker: int, version: int) -> bool:
        """Whether a window that was played with ``version`` is still wanted. One that is too stale is counted."""
        self.beat(worker)
        self.played[worker] = True
        self.stop = self.stop or int(self.state.rows) >= self.terms.goal
        if self.stop:
            return False
        limit = self.terms.max_staleness
        if limit is None or self.version - version <= limit:
            return True
        self.dropped[worker] += 1
        return False

    def book(self, worker: int, version: int, window: Window, seconds: np.ndarray) -> None:
        """Count an update that was just made with a worker's window."""
        count(worker, self.board, window, self.version - 1 - version)
        self.board.seconds[worker] += seconds

    # What the main process calls

    def halt(self) -> None:
        """Every worker stops at its next answer."""
        self.stop = True

    def alive(self) -> bool:
        """An answer is enough."""
        return True

    def counts(self) -> dict[str, Any]:
        """The counters, and how every worker is."""
        silent = np.where(self.lives >= 0, time.monotonic() - self.board.beat, 0.0)
        health = {"lives": self.lives, "played": self.played, "silent": silent, "dropped": self.dropped}
        return (
            {name: getattr(self.board, name).copy() for name in COUNTED}
            | health
            | {"nodes": list(self.nodes), "stop": self.stop}
        )

    def look(self) -> dict[str, Any]:
        """Everything, between two updates."""
        theta, target, _ = self.parameters()
        normal = self.board.normal.copy()
        return {"theta": theta, "target": target, "opt": self.statistics(), "normal": normal} | self.counts()

    def parameters(self) -> tuple[np.ndarray, np.ndarray, int]:
        """``(θ, target copy, rows)``"""
        state = self.state
        target = np.zeros(0, np.float32) if state.target is None else flat(state.target)
        return flat(state.params), target, int(state.rows)

    def statistics(self) -> np.ndarray:
        """The optimiser's state."""
        return flat(self.state.opt_state)

    state: LearnerState


class Shard(Server):
    """A slice of the parameters with its own optimiser: it applies gradients in the order in which they arrive. Each of
    several shards has its own order, as in Downpour SGD (Dean et al. 2012). The first one decides which windows are
    taken, and how far the learning rate has fallen for each; the others follow."""

    def __init__(self, make: Make, terms: Terms, start: Start) -> None:
        super().__init__(terms, start)
        learner = make.shard(len(start.theta))
        self.state = begin(learner, start)
        self.apply = jax.jit(lambda state, grads, rows: applied(learner, state, grads, rows))

    def push(
        self, worker: int, version: int, grads: np.ndarray, report: tuple[Window, np.ndarray]
    ) -> tuple[Verdict, Answer]:
        """A window's gradient at the parameters of ``version``, its global norm clipped already. For the first shard.

        Args:
            report: the window without its gradient, and the worker's seconds.
        """
        rows = int(report[0].rows)
        verdict = Verdict(self.takes(worker, version), int(self.state.rows))
        answer = self.follow(grads, rows, verdict)
        if verdict.taken:
            self.book(worker, version, *report)
        return verdict, answer

    def follow(self, grads: np.ndarray, rows: int, verdict: Verdict) -> Answer:
        """This slice of a window's gradient, as the first shard decided. For all others."""
        if verdict.taken:
            with self.learning():
                now = self.state._replace(rows=jnp.int32(verdict.rows))
                self.state = self.apply(now, Slice(jnp.asarray(grads)), rows)
            self.version += 1
        return self.answer()


class Central(Server):
    """A learner that is sent trajectories: V-trace makes up for the difference between π, its policy now, and μ, the
    one that acted (Espeholt et al. 2018)."""

    def __init__(self, make: Make, terms: Terms, start: Start) -> None:
        super().__init__(terms, start)
        learner = make.learner()
        self.state = begin(learner, start)
        self.returns = [self.state.ret] * terms.layout.workers
        self.coefficients = [entropy_coefficient(terms.rules, worker) for worker in range(terms.layout.workers)]
        self.key = jax.random.fold_in(jax.random.key(terms.rules.seed), start.updates)
        self.learn = jax.jit(lambda *args: learned(learner, *args))

    def push(self, worker: int, version: int, sample: Sample, seconds: np.ndarray) -> Answer:
        """A window, played with the parameters of ``version``.

        Raises:
            NotFinite: of a window that is not learned from.
        """
        if self.takes(worker, version):
            local = self.coefficients[worker], self.returns[worker]
            with self.learning():
                state, metrics, rows, finite = jax.block_until_ready(
                    self.learn(self.state, sample.trajectory, self.key, self.version, *local)
                )
            if not finite:
                raise NotFinite("a reward or a gradient was not finite")
            self.state, self.returns[worker] = state, state.ret
            self.version += 1
            window = Window(None, rows, finite, sample.episodes, np.asarray(metrics), sample.seen, 0.0)
            self.book(worker, version, window, seconds)
        return self.answer()


def begin(learner: Learner, start: Start) -> LearnerState:
    """A learner's state with the vectors of ``start`` put in."""
    blank = learner.init(jax.random.key(0))
    _, unravel = ravel_pytree(blank.params)
    _, unravel_opt = ravel_pytree(blank.opt_state)
    return blank._replace(
        params=unravel(jnp.array(start.theta)),
        target=None if blank.target is None else unravel(jnp.array(start.target)),
        opt_state=unravel_opt(jnp.array(start.opt)),
        updates=jnp.int32(start.updates),
        rows=jnp.int32(start.rows),
    )


def applied(learner: Learner, state: LearnerState, grads: Slice, rows: Any) -> LearnerState:
    """One step with a gradient from elsewhere: that of every other preset, on a slice."""
    new = learner.apply(state, grads)
    return learner.renew(new._replace(updates=state.updates + 1, rows=state.rows + rows))


def learned(
    learner: Learner, state: LearnerState, trajectory: Trajectory, key: Array, version: Any, ent_coef: Any, ret: Any
) -> tuple[LearnerState, Array, Array, Array]:
    """One update with a window from elsewhere: ``(state, metrics, rows, finite)``."""
    theirs = state._replace(hyper=state.hyper._replace(ent_coef=ent_coef), ret=ret)
    new, metrics = learner.update(theirs, trajectory, jax.random.fold_in(key, version))
    finite = jnp.isfinite(jnp.sum(trajectory.reward)) & jnp.isfinite(metrics["grad_norm"])
    vector = jnp.stack([metrics[name] for name in learner.metrics])
    return new._replace(hyper=state.hyper), vector, jnp.sum(trajectory.mask, dtype=jnp.int32), finite


def flat(tree: Any) -> np.ndarray:
    return np.asarray(ravel_pytree(tree)[0])


# Slices


def edges(size: int, shards: int) -> list[tuple[int, int]]:
    """``[(first, end), ...]`` of equal slices of a vector, up to one number."""
    at = np.linspace(0, size, shards + 1).astype(int).tolist()
    return list(pairwise(at))


def opt_shapes(make: Make, size: int) -> list[tuple[int, ...]]:
    """The shapes of the optimiser's arrays for ``size`` parameters: one number for each, or one for all (Adam's
    count)."""
    state = jax.eval_shape(lambda: make.shard(size).init(jax.random.key(0)).opt_state)
    return [leaf.shape for leaf in jax.tree.leaves(state)]


def cut_opt(opt: np.ndarray, shapes: list[tuple[int, ...]], first: int, end: int) -> np.ndarray:
    """A slice's share of the optimiser's flat state."""
    leaves = np.split(opt, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]) if shapes else []
    return np.concatenate([opt[:0], *(leaf[first:end] if shape else leaf for leaf, shape in zip(leaves, shapes))])


def join_opt(parts: list[np.ndarray], shapes: list[tuple[int, ...]], sizes: list[int]) -> np.ndarray:
    """The inverse of :func:`cut_opt` over all slices."""
    cut = [np.split(part, np.cumsum([n if shape else 1 for shape in shapes])[:-1]) for part, n in zip(parts, sizes)]
    leaves = [np.concatenate([c[i] for c in cut]) if shape else cut[0][i] for i, shape in enumerate(shapes)]
    return np.concatenate([parts[0][:0], *leaves])
