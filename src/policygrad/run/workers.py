"""From a recipe with ``workers`` to a run: the same state and the same interface as in :mod:`policygrad.run.host`,
while workers learn in processes or threads of their own."""

import os
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from policygrad.collect.host import Clock
from policygrad.envs.worker import first_line
from policygrad.learn.learner import Learner
from policygrad.parallel.board import COUNTED, GOAL, RENEWED, SHARES, STEPS_BEFORE, UPDATES_BEFORE, Board
from policygrad.parallel.hogwild import Crew, Rules, entropy_coefficient
from policygrad.parallel.player import Player, make_player
from policygrad.run.build import KEPT, worker_parts
from policygrad.run.devices import answer_at_once
from policygrad.run.host import HostProgram, host_collector
from policygrad.run.program import Program, RunState, Stats
from policygrad.run.recipes import Recipe, RecipeError

LOOK = 0.002
"""Seconds between two looks at the workers' counters."""


kept_player = lru_cache(KEPT)(make_player)
"""In a pure world: made once for the same learner and collector."""


@dataclass
class AsyncProgram:
    """A recipe made executable by many workers. See :class:`policygrad.run.host.HostProgram`."""

    recipe: Recipe
    inner: Program | HostProgram
    """The synchronous program of the same recipe: its environment, learner and evaluation."""
    crew: Crew
    player: Player
    evaluate: Callable[[RunState], np.ndarray]
    groups: int = 1
    starting: float = 0.0
    """Seconds until the first worker had learned from its first window: imports, environments, compiling."""
    _before: dict[str, np.ndarray] = field(default_factory=dict)
    _log: dict[str, Any] = field(default_factory=dict)
    _looked: bool = False
    _clock: float = 0.0

    @property
    def raw_env(self) -> Any:
        return self.inner.raw_env

    @property
    def learner(self) -> Any:
        return self.inner.learner

    @property
    def make_env(self) -> Any:
        """``(num_envs, training) -> HostEnv``; None in a pure world."""
        return getattr(self.inner, "make_env", None)

    @property
    def board(self) -> Board:
        return self.crew.board

    def model(self, state: RunState, seed: int = 0) -> Any:
        return self.learner.model(state.learner)

    def saved(self, state: RunState) -> RunState:
        """What a file can hold: everything but the workers' own environments. A loaded run goes on with new episodes,
        and with any number of workers."""
        return state._replace(collector=())

    def like(self, keys: Array) -> RunState:
        return self.saved(jax.eval_shape(self.fresh, keys))

    def fresh(self, key: Array) -> RunState:
        model_key, _, key = jax.random.split(key, 3)
        return RunState(self.learner.init(model_key), (), key, jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32))

    def init(self, key: Array) -> RunState:
        return self.saved(self.inner.init(key)) if isinstance(self.inner, Program) else jax.jit(self.fresh)(key)

    def advance(self, state: RunState, steps: Any, stop: Callable[[], bool] = lambda: False) -> tuple[RunState, Stats]:
        """Let the workers go on until there are that many environment steps, or ``stop()`` says so. They do not wait
        while the result is evaluated and saved, but in deterministic runs."""
        self.board.control[GOAL] = int(steps) if self.recipe.deterministic else self.recipe.total_timesteps
        if not self.crew.hands:  # whose program is compiled begins at once, and stops at the goal
            self.begin(state)
        while self.board.total_steps() < int(steps) and not stop():
            if not self.board.updates.any():
                self.starting = time.monotonic() - self._clock
            self.crew.check()
            time.sleep(LOOK)
        if self.board.total_steps() >= self.recipe.total_timesteps or stop():
            self.crew.stop()
        began, looked = time.monotonic(), self.look(state)
        if not self._looked:  # the first look compiles here
            self._looked, self.starting = True, self.starting + time.monotonic() - began
        return looked

    def begin(self, state: RunState) -> None:
        """Put a state on the board, and start the workers."""
        vectors = self.player.start(state.learner)
        self.board.theta[:], self.board.target[:] = vectors["theta"], vectors["target"]
        self.board.opt[:] = vectors["opt"]
        self.board.normal[:] = 0  # what was seen so far is in θ
        self.board.control[STEPS_BEFORE] = int(state.env_steps) - int(self.board.steps.sum())
        self.board.control[UPDATES_BEFORE] = int(state.learner.updates) - int(self.board.updates.sum())
        self.board.control[RENEWED] = self.board.total_updates() // self.recipe.target_every
        self._before = {name: getattr(self.board, name).copy() for name in COUNTED}
        self._clock = time.monotonic()
        self.crew.start()

    def look(self, state: RunState) -> tuple[RunState, Stats]:
        """A consistent copy of everything, and what happened since the last one."""
        board, names = self.board, ("theta", "target", "opt", "normal", *COUNTED)
        now = board.consistent(names)
        if self.crew.hands and now["steps"].sum() + board.control[STEPS_BEFORE] >= self.recipe.total_timesteps:
            self.crew.stop()  # the budget was spent meanwhile, and whoever was at it still adds the window at hand
            now = board.consistent(names)
        if board.layout.normal:
            now["theta"] = np.asarray(self.player.merge(now["theta"], now["normal"]))
        now["opt"] = now["opt"].mean(axis=0)
        learner = self.player.state(state.learner, now)
        steps = int(now["steps"].sum() + board.control[STEPS_BEFORE])
        updates = int(now["updates"].sum() + board.control[UPDATES_BEFORE])
        counters = (jnp.int32(updates), jnp.int32(updates), jnp.int32(steps))
        learner = learner._replace(gradient_steps=counters[0], updates=counters[1], rows=counters[2])
        since = {name: now[name] - self._before[name] for name in COUNTED}
        self._before, elapsed = {name: now[name] for name in COUNTED}, time.monotonic() - self._clock
        self._clock += elapsed
        self._log = summary_of(since, max(elapsed, 1e-9), sum(self.crew.replaced))
        env_steps: Any = np.asarray(steps, np.int32)
        first_bad = state.first_bad if np.isfinite(now["theta"].sum()) else state.env_steps
        after = state._replace(learner=learner, env_steps=env_steps, first_bad=first_bad)
        return after, stats_of(since, self.player.names)

    def watched(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        """``stop``, for a long evaluation: whoever asks also looks after the workers, now and then."""
        last = [time.monotonic()]

        def ask() -> bool:
            if time.monotonic() - last[0] > 1.0 and self.crew.hands:
                last[0] = time.monotonic()
                self.crew.check()
            return stop()

        return ask

    def shares(self) -> dict[str, float]:
        """For a log row: where the workers' time went, and how stale their gradients were."""
        return self._log

    def staleness(self) -> np.ndarray:
        """``[bins]``: how many gradients had so many updates by others between copy and application."""
        return self.board.staleness.sum(axis=0)

    def words(self) -> str:
        """The whole run in a line: where the workers' time went, how stale gradients were, who was replaced."""
        spent, bins, updates = self.board.seconds.sum(axis=0), self.staleness(), self.board.updates.sum()
        shares = [f"{name} {spent[i] / spent.sum():.0%}" for i, name in enumerate(SHARES) if spent[i] > 0]
        stale, late = mean_and_p95(bins)
        replaced = [f"{sum(self.crew.replaced)} replaced"] if any(self.crew.replaced) else []
        return ", ".join(
            [f"{updates:,} updates", *shares, f"staleness {stale:.1f} (95 % at most {late:.0f})", *replaced]
        )

    def report(self) -> dict[str, Any]:
        """Every worker by itself since this start, for ``workers.json`` in the run's folder."""
        board = self.board
        spent = board.seconds / np.maximum(board.seconds.sum(axis=1, keepdims=True), 1e-9)
        return {
            "steps_before": int(board.control[STEPS_BEFORE]),
            "updates": board.updates.tolist(),
            "steps": board.steps.tolist(),
            "replaced": self.crew.replaced,
            "staleness": self.staleness().tolist(),
            "staleness_bins": "updates by others between copy and application; the last bin and beyond",
            "shares": [dict(zip(SHARES, row.tolist())) for row in spent],
            "ent_coef": [entropy_coefficient(self.crew.rules, worker) for worker in range(board.layout.workers)],
        }

    def close(self) -> None:
        """No worker survives."""
        self.crew.stop(patience=1.0)
        self.inner.close()


def make_async_program(
    recipe: Recipe, env: Any, model: Any, inner: Program | HostProgram, evaluate: Callable[[RunState], np.ndarray]
) -> AsyncProgram:
    """The program of a recipe with workers.

    Args:
        env: an id or an object; a process needs one that can be sent.
        inner: the synchronous program.
        evaluate: its evaluation.
    """
    threads = recipe.engine == "threads" or (recipe.engine == "auto" and isinstance(inner, Program))
    answer_at_once()
    player = player_of(recipe, *parts(recipe, inner, None))
    rules = Rules(
        recipe.seed,
        recipe.ent_coef,
        recipe.ent_spread,
        recipe.deterministic,
        recipe.target_copy,
        recipe.target_every,
        recipe.target_tau,
        recipe.worker_timeout,
        recipe.max_restarts,
    )
    build: Any = Sent(recipe, env, model)
    if threads:
        build = (lambda beat: player) if isinstance(inner, Program) else Threaded(recipe, inner)
    else:
        require_sendable(build)
        os.environ.setdefault("PJRT_NPROC", "1")  # processes inherit it: a core and an XLA thread for each
    crew = Crew(build, Board(player.layout), rules, threads=threads, tell=tell)
    return AsyncProgram(recipe, inner, crew, player, evaluate)


def player_of(recipe: Recipe, learner: Learner, collector: Any) -> Player:
    r = recipe
    how: dict[str, Any] = {"shared_statistics": r.shared_statistics, "clip_reward": r.clip_reward}
    return (kept_player if collector.pure else make_player)(learner, collector, workers=r.workers, **how)


def parts(recipe: Recipe, inner: Program | HostProgram, beat: Callable[[], None] | None) -> tuple[Any, Any]:
    """``(learner, collector)`` of a worker; on the host with environments of its own, or, without ``beat``, with those
    of the program, which nobody steps."""
    if isinstance(inner, Program):
        return inner.learner, inner.collector
    env = inner.raw_env if beat is None else inner.make_env(recipe.n_envs, True)
    return inner.learner, host_collector(recipe, env, Clock() if beat is None else Beating(beat))


class Beating(Clock):
    """A clock that shows with every step that its worker lives."""

    def __init__(self, beat: Callable[[], None]) -> None:
        super().__init__()
        self.beat = beat

    def add(self, what: str, since: float) -> float:
        self.beat()
        return super().add(what, since)


@dataclass
class Threaded:
    """Makes the player of a thread on the host: environments of its own."""

    recipe: Recipe
    inner: HostProgram

    def __call__(self, beat: Callable[[], None]) -> Player:
        return player_of(self.recipe, *parts(self.recipe, self.inner, beat))


@dataclass
class Sent:
    """Makes the player of a process: what is sent there, and unpacked by it."""

    recipe: Recipe
    env: Any
    model: Any

    def __call__(self, beat: Callable[[], None]) -> Player:
        return player_of(self.recipe, *worker_parts(self.recipe, self.env, self.model, Beating(beat)))


def require_sendable(sent: Sent) -> None:
    """A process gets its environment and model by pickle, from this process and no file."""
    for what in ("env", "model"):
        try:
            pickle.dumps(getattr(sent, what))
        except Exception as error:
            raise RecipeError(
                f"this {what} cannot be sent to a worker process ({first_line(error)}): "
                f"define it with def or class at the top of a module, or set engine=threads"
            ) from None


def tell(text: str) -> None:
    print(f"policygrad: {text}", file=sys.stderr, flush=True)


def stats_of(since: dict[str, np.ndarray], names: tuple[str, ...]) -> Stats:
    """The sums that :func:`policygrad.run.program.means` divides."""
    ret, length, episodes = since["episodes"].sum(axis=0)
    sums: dict[str, Any] = {"ret": ret, "length": length, "episodes": episodes, "updates": since["updates"].sum()}
    metrics = since["metrics"].sum(axis=0)
    return sums | {f"train/{name}": metrics[i] for i, name in enumerate(names)}


def summary_of(since: dict[str, np.ndarray], seconds: float, replaced: int) -> dict[str, float]:
    """What a log row says about asynchrony."""
    stale, late = mean_and_p95(since["staleness"].sum(axis=0))
    spent = since["seconds"].sum(axis=0)
    per_worker = since["updates"] / seconds
    row = {
        "async/staleness_mean": stale,
        "async/staleness_p95": late,
        "async/updates_per_second": float(per_worker.sum()),
        "async/slowest_worker": float(per_worker.min() / max(per_worker.mean(), 1e-9)),
        "async/diversity": diversity(since["seen"]),
        "async/replaced": float(replaced),
    }
    return row | {f"time/share_{name}": float(spent[i] / max(spent.sum(), 1e-9)) for i, name in enumerate(SHARES)}


def mean_and_p95(bins: np.ndarray) -> tuple[float, float]:
    """Of a histogram of whole numbers from 0 on; zeros where it is empty."""
    total = max(1, bins.sum())
    return float(bins @ np.arange(len(bins)) / total), float(np.searchsorted(np.cumsum(bins), 0.95 * total))


def diversity(seen: np.ndarray) -> float:
    """η² of what workers saw: the share of the variance of their observations that lies *between* workers, mean over
    features. 0: all saw the same; 1: each its own.

    Args:
        seen: ``[W, 1 + 2F]``: rows, sums, sums of squares.
    """
    seen = seen[seen[:, 0] > 0]
    if len(seen) < 2:
        return float("nan")
    n, sums, squares = seen[:, :1], *np.split(seen[:, 1:], 2, axis=1)
    mean = sums.sum(axis=0) / n.sum()
    total = squares.sum(axis=0) / n.sum() - mean**2
    between = (n * (sums / n - mean) ** 2).sum(axis=0) / n.sum()
    varies = total > 1e-12
    return float((between[varies] / total[varies]).mean()) if varies.any() else float("nan")
