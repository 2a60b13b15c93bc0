"""A3C (Mnih et al. 2016): workers with environments of their own, one set of parameters, no locks.

Each worker takes a fixed local copy of θ, plays ``n_steps`` with it, computes *this window's* gradient at that copy,
and adds its step to the shared θ in place (Hogwild; Niu et al. 2011). Meanwhile others have added theirs: the number of
their updates between copy and addition is the gradient's staleness, and it is counted.

:func:`work` is a worker, wherever it runs; :class:`Crew` starts workers as processes or threads, watches them, replaces
those that fail, and lets none survive the main process.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import jax
import numpy as np

from policygrad.envs import worker as env_worker
from policygrad.envs.worker import first_line
from policygrad.parallel.board import GOAL, SHARES, STOP, TURN, UPDATES_BEFORE, Board
from policygrad.parallel.player import Player, Window

PAUSE = 2e-5
"""Seconds between two looks at a flag."""
STARTING = 300.0
"""Seconds that a worker may take for its first window: imports, environments, compiling."""
ASLEEP = 5.0
"""Seconds without a look after workers beyond which it was not they who slept."""
DEATH_OF_PARENT = 1
"""Linux: a process can ask for a signal at that moment."""


class WorkerError(RuntimeError):
    """Workers failed more often than they are replaced. One sentence, with the worker's number and the cause."""


class NotFinite(ArithmeticError):
    """A worker's window has a reward or a gradient that is not finite, or its step is not; it was not applied."""


class Rules(NamedTuple):
    """What all workers of a run agree on. Plain values, which can be sent."""

    seed: int
    ent_coef: float
    ent_spread: float = 1.0
    """Each worker's β is drawn log-uniformly between ``ent_coef / ent_spread`` and ``ent_coef · ent_spread``."""
    deterministic: bool = False
    """Workers take turns: the same bits every time, at a constant staleness of W − 1."""
    target_copy: str = "none"
    target_every: int = 1
    target_tau: float = 0.0
    timeout: float = 30.0
    """Seconds without a sign of life after which a worker is taken for hung."""
    replacements: int = 3
    """How often one worker is replaced."""


def work(worker: int, player: Player, board: Board, rules: Rules, life: int = 0) -> None:
    """One worker, until the board says stop.

    Args:
        life: how often it was replaced before; another life, and a resumed run, have other random numbers.

    Raises:
        NotFinite: of a window that is not applied.
    """
    before = max(0, int(board.control[UPDATES_BEFORE]))
    collect_key, key = worker_keys(rules.seed, worker, life + before)
    ent_coef = entropy_coefficient(rules, worker)
    stopwatch = Stopwatch(board, worker)
    wait = waiter(board, worker)
    theta, target, copied, rows = copy(worker, player, board)
    local = player.begin(theta, collect_key, key)
    if board.layout.normal:  # a replaced worker goes on with what its place has seen
        local = local._replace(normal=board.read_normal()[worker])
    player.step(board.statistics(worker).copy(), np.zeros_like(theta), rows)  # compile it before statistics grow old
    board.ready[worker] = 1
    while not board.control[STOP]:
        stopwatch.lap()
        local, window = player.play(theta, target, rows, ent_coef, local, stopwatch)
        stopwatch("window" if stopwatch.laps == 0 else "gradient")
        if not window.finite:
            raise NotFinite("a reward or a gradient was not finite")
        if rules.deterministic and not my_turn(worker, board, wait):
            return
        if board.total_steps() >= board.control[GOAL]:  # the budget is spent: this window comes too late
            board.control[STOP] = 1
            return
        stopwatch("waiting")
        statistics, before = board.statistics(worker).copy(), board.total_updates()
        delta, opt_delta = map(np.asarray, player.step(statistics, window.grads, board.total_steps()))
        if not np.isfinite(delta.sum()):
            raise NotFinite("the step of a finite gradient was not finite")
        stopwatch("applying")
        board.enter(worker, wait)
        stopwatch("waiting")
        if board.total_updates() > before:
            opt_delta = board.bounded(worker, opt_delta, statistics)
        board.add(worker, delta, opt_delta)
        stale = board.total_updates() - copied
        count(worker, board, window, stale)
        board.renew_target(rules.target_copy, rules.target_every, rules.target_tau)
        board.leave(worker)
        theta, target, copied, rows = copy(worker, player, board)
        stopwatch("applying")
        if rules.deterministic:
            board.control[TURN] += 1


def copy(worker: int, player: Player, board: Board) -> tuple[Any, Any, int, int]:
    """A fixed local copy: ``(θ with everybody's normaliser merged in, target copy, updates so far, steps so far)``."""
    copied, rows = board.total_updates(), board.total_steps()
    theta, target = board.theta.copy(), board.target.copy()
    if board.layout.normal:
        theta = np.asarray(player.merge(theta, board.read_normal()))
    return theta, target, copied, rows


def count(worker: int, board: Board, window: Window, stale: int) -> None:
    """Book one update. Every cell has this worker as its only writer."""
    board.staleness[worker, min(max(stale, 0), board.staleness.shape[1] - 1)] += 1
    board.episodes[worker] += window.episodes
    board.metrics[worker] += window.metrics
    board.seen[worker] += window.seen
    if board.layout.normal:
        board.write_normal(worker, window.normal)
    board.steps[worker] += int(window.rows)
    board.updates[worker] += 1
    board.lived[worker] += 1


def my_turn(worker: int, board: Board, wait: Callable[[], None]) -> bool:
    """Wait until everyone has a copy, those before have applied, and the goal allows more. False: stop."""
    n = board.layout.workers
    while not board.control[STOP]:
        ours = board.control[TURN] % n == worker and bool(board.ready.all())
        if ours and board.total_steps() < board.control[GOAL]:
            return True
        wait()
    return False


def waiter(board: Board, worker: int) -> Callable[[], None]:
    """A short sleep with a sign of life."""

    def wait() -> None:
        board.beat[worker] = time.monotonic()
        time.sleep(PAUSE)

    return wait


def worker_keys(seed: int, worker: int, life: int = 0) -> tuple[Any, Any]:
    """``(collect_key, key)``: the first worker's are those of the synchronous run with that seed."""
    key = jax.random.key(seed)
    if worker or life:
        key = jax.random.fold_in(jax.random.fold_in(key, worker), life)
    _, collect_key, key = jax.random.split(key, 3)
    return collect_key, key


def entropy_coefficient(rules: Rules, worker: int) -> float:
    """β of one worker: different workers explore differently."""
    place = np.random.default_rng([rules.seed, worker]).uniform(-1, 1)
    return float(rules.ent_coef * rules.ent_spread**place)


class Stopwatch:
    """Books a worker's seconds, and shows that it lives."""

    def __init__(self, board: Board, worker: int) -> None:
        self.board, self.worker, self.places = board, worker, {name: i for i, name in enumerate(SHARES)}
        self.laps = 0
        self.since = time.perf_counter()
        board.beat[worker] = time.monotonic()

    def lap(self) -> None:
        """A new window begins."""
        self.laps = 0

    def __call__(self, what: str) -> None:
        now = time.perf_counter()
        if self.board.lived[self.worker]:  # the first window compiles
            self.board.seconds[self.worker, self.places[what]] += now - self.since
        self.since, self.laps = now, self.laps + 1
        self.board.beat[self.worker] = time.monotonic()


# A worker as a process


def enter(build: Callable[..., Player], worker: int, board: Board, rules: Rules, life: int, pipe: Connection) -> None:
    """The main function of a worker's process. ``build(beat)`` makes the player; ``beat()`` is a sign of life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the main process decides
    leave_with_parent()
    try:
        work(worker, build(beater(board, worker)), board, rules, life)
    except BaseException as error:
        pipe.send(reason(error))
        raise SystemExit(1) from None


def leave_with_parent() -> None:
    """End this process as soon as its parent is gone, whatever it is doing. A thread waits for that; on Linux the
    system ends it too where C code keeps Python's lock, and no thread can."""
    parent = multiprocessing.parent_process()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_OF_PARENT, signal.SIGKILL)
        if parent is not None and os.getppid() != parent.pid:  # it is gone already
            os._exit(1)

    def watch() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def beater(board: Board, worker: int) -> Callable[[], None]:
    def beat() -> None:
        board.beat[worker] = time.monotonic()

    return beat


def reason(error: BaseException) -> str:
    """``ZeroDivisionError: division by zero``; our own errors are sentences already."""
    return first_line(error) if type(error).__module__.startswith("policygrad") else env_worker.reason(error)


class Hand(NamedTuple):
    """One worker as the crew sees it."""

    handle: Any
    """A process or a thread."""
    pipe: Connection | None
    """Its last words; None of a thread, whose words lie in ``said``."""
    said: list[str]
    life: int
    since: float


@contextmanager
def deaf() -> Iterator[None]:
    """A process that starts inside does not hear Ctrl-C, from its first moment: the main process decides, which hears
    it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # starting it inside would end the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Crew:
    """All workers of a run.

    Args:
        build: ``beat -> Player``; for processes it must be importable, with its arguments sendable.
        board: what they share.
        threads: in this process. It suits worlds that let go of Python's lock: pure ones, and games in C++.
        tell: gets a sentence for every worker that failed and was replaced.

    Raises:
        WorkerError: by :meth:`check`, where a worker failed once too often, or cannot be replaced.
    """

    def __init__(
        self,
        build: Callable[..., Player],
        board: Board,
        rules: Rules,
        *,
        threads: bool,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.build, self.board, self.rules, self.threads, self.tell = build, board, rules, threads, tell
        self.hands: list[Hand] = []
        self.replaced = [0] * board.layout.workers
        self.looked = self.awake = time.monotonic()
        """When :meth:`check` was last called, and since when it has been called all the time."""

    def start(self) -> None:
        self.board.control[STOP] = 0
        self.board.ready[:] = 0
        self.hands = [self.hire(worker, self.replaced[worker]) for worker in range(self.board.layout.workers)]

    def hire(self, worker: int, life: int) -> Hand:
        said: list[str] = []
        self.board.hand_over(worker)
        if self.threads:
            thread = threading.Thread(target=self.thread, args=(worker, life, said), daemon=True)
            thread.start()
            return Hand(thread, None, said, life, time.monotonic())
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        args = (self.build, worker, self.board, self.rules, life, theirs)
        process = context.Process(target=enter, args=args, daemon=True, name=f"policygrad-worker-{worker}")
        with deaf():
            process.start()
        theirs.close()
        return Hand(process, ours, said, life, time.monotonic())

    def thread(self, worker: int, life: int, said: list[str]) -> None:
        try:
            work(worker, self.build(beater(self.board, worker)), self.board, self.rules, life)
        except BaseException as error:
            said.append(reason(error))

    def check(self) -> None:
        """Look after every worker once: who died, raised or hangs is reported and replaced. Nobody hangs because this
        process was stopped itself (Ctrl-Z, a laptop that sleeps), or did something long."""
        now = time.monotonic()
        self.awake, self.looked = now if now - self.looked > ASLEEP else self.awake, now
        for worker, hand in enumerate(self.hands):
            cause = self.failure(worker, hand)
            if cause is None:
                continue
            self.board.adding[worker] = 0
            if self.rules.deterministic:
                raise WorkerError(f"worker {worker} {cause}; in a deterministic run nobody can take its place")
            if hand.handle.is_alive() and self.threads:
                raise WorkerError(f"worker {worker} {cause}; a thread cannot be stopped: use engine=processes")
            if self.never_began(worker, hand):
                raise WorkerError(
                    f"worker {worker} {cause} before it began: if this is a script of yours, "
                    "put what starts the run under `if __name__ == '__main__':`"
                )
            if self.replaced[worker] >= self.rules.replacements:
                raise WorkerError(f"worker {worker} {cause}; it was replaced {self.replaced[worker]} times before")
            self.replaced[worker] += 1
            self.end(hand)
            self.tell(f"worker {worker} {cause}: replaced ({self.replaced[worker]} of {self.rules.replacements})")
            self.hands[worker] = self.hire(worker, self.replaced[worker])

    def failure(self, worker: int, hand: Hand) -> str | None:
        """What is wrong with a worker, in words; None: nothing."""
        if not hand.handle.is_alive():
            return None if self.board.control[STOP] else self.last_words(hand)
        beat, now = float(self.board.beat[worker]), time.monotonic()
        since, limit = (hand.since, STARTING) if beat == 0 else (beat, self.limit(worker))
        silent = now - max(since, self.awake)
        return f"hangs: no sign of life for {silent:.0f} s" if silent > limit else None

    def never_began(self, worker: int, hand: Hand) -> bool:
        """Whether its process ended by itself, without a word, before :func:`enter`: another one would do the same."""
        code = getattr(hand.handle, "exitcode", None) or 0
        return code > 0 and not hand.said and self.board.beat[worker] == 0

    def limit(self, worker: int) -> float:
        """The first window compiles, and may take as long as a start."""
        return self.rules.timeout if self.board.lived[worker] else STARTING

    def last_words(self, hand: Hand) -> str:
        if hand.pipe is not None and hand.pipe.poll():
            with suppress(EOFError):
                hand.said.append(hand.pipe.recv())
        if hand.said:
            return f"failed: {hand.said[-1]}"
        code = getattr(hand.handle, "exitcode", None)
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended by itself (exit code {code})"

    def end(self, hand: Hand) -> None:
        """Stop one worker, by force if need be."""
        if self.threads:
            return
        if hand.handle.is_alive():
            hand.handle.kill()
        hand.handle.join(5)
        if hand.pipe is not None:
            hand.pipe.close()

    def stop(self, patience: float = 10.0) -> None:
        """Everybody ends after the window at hand; processes that do not are killed."""
        self.board.control[STOP] = 1
        until = time.monotonic() + patience
        for hand in self.hands:
            hand.handle.join(max(0.0, until - time.monotonic()))
        for hand in self.hands:
            self.end(hand)
        self.hands = []

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(patience=0.5 if sys.exc_info()[0] else 10.0)
