"""What workers share: one block of memory with the parameters, the optimiser's statistics and every counter. No locks.

Parameters, target copy and statistics are *added to in place* by everyone (Niu et al. 2011, "Hogwild!"): an assignment
of whole arrays would erase what others wrote meanwhile. Everything else has one writer for each row, its worker, so
that no count is ever lost; sums over the rows are the run's.
"""

import ctypes
import multiprocessing
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

STALENESS_BINS = (64, 1024)
"""At least and at most so many bins of staleness, between them four for each worker: W − 1 is its mean. The last bin
holds everything from there on."""
SHARES = ("window", "acting", "gradient", "applying", "waiting")
"""Where a worker's seconds go. ``window``: acting and gradient in one XLA call."""
COUNTED = ("steps", "updates", "staleness", "seconds", "episodes", "metrics", "seen")
"""The fields that only grow."""
LINE = 64
"""Fields begin at a cache line."""


class Layout(NamedTuple):
    """The sizes of a :class:`Board`."""

    workers: int
    params: int
    """Numbers in θ, normaliser included."""
    opt: int
    """Numbers in the optimiser's state."""
    target: int
    """As ``params`` where there is a target copy, else 0."""
    normal: int
    """Numbers in the normaliser's statistics, else 0."""
    metrics: int
    features: int
    """Numbers of an observation whose moments are kept, to compare what workers see."""
    shared_statistics: bool = True
    """One optimiser state for all, as in the paper; else one per worker."""
    dtype: str = "float32"

    def fields(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """``name -> (dtype, shape)``."""
        n, real = self.workers, np.dtype(self.dtype)
        fewest, most = STALENESS_BINS
        return {
            "theta": (real, (self.params,)),
            "target": (real, (self.target,)),
            "opt": (real, (1 if self.shared_statistics else n, self.opt)),
            "normal": (real, (n, self.normal)),
            "control": (np.int64, (8,)),
            "version": (np.int64, (n,)),
            "adding": (np.int64, (n,)),
            "ready": (np.int64, (n,)),
            "lived": (np.int64, (n,)),
            "steps": (np.int64, (n,)),
            "updates": (np.int64, (n,)),
            "staleness": (np.int64, (n, min(max(fewest, 4 * n), most))),
            "beat": (np.float64, (n,)),
            "seconds": (np.float64, (n, len(SHARES))),
            "episodes": (np.float64, (n, 3)),
            "metrics": (np.float64, (n, self.metrics)),
            "seen": (np.float64, (n, 1 + 2 * self.features)),
        }

    def offsets(self) -> dict[str, int]:
        """Where each field begins, in bytes; ``""``: the size of the block."""
        at, found = 0, {}
        for name, (dtype, shape) in self.fields().items():
            found[name] = at
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            at += -(-size // LINE) * LINE
        return found | {"": at}


STOP, HOLD, GOAL, TURN, RENEWED, STEPS_BEFORE, UPDATES_BEFORE = range(7)
"""Cells of ``control``."""


class Board:
    """The block, as named NumPy views. Made once by the main process and sent to workers as they start; the memory has
    no name that could be left behind.

    Args:
        layout: its sizes.
        block: the memory; None: new, all zeros.
    """

    theta: np.ndarray
    target: np.ndarray
    opt: np.ndarray
    normal: np.ndarray
    control: np.ndarray
    version: np.ndarray
    adding: np.ndarray
    ready: np.ndarray
    lived: np.ndarray
    """Windows of the worker that has this place now: a replacement begins at zero."""
    steps: np.ndarray
    updates: np.ndarray
    staleness: np.ndarray
    beat: np.ndarray
    seconds: np.ndarray
    episodes: np.ndarray
    metrics: np.ndarray
    seen: np.ndarray

    def __init__(self, layout: Layout, block: Any = None) -> None:
        offsets = layout.offsets()
        self.layout = layout
        self.block: Any = block
        if block is None:
            self.block = multiprocessing.get_context("spawn").RawArray(ctypes.c_byte, offsets[""])
        for name, (dtype, shape) in layout.fields().items():
            count = int(np.prod(shape))
            view = np.frombuffer(self.block, dtype, count, offsets[name]).reshape(shape)
            setattr(self, name, view)

    def __reduce__(self) -> tuple:
        return Board, (self.layout, self.block)

    # Counters

    def total_steps(self) -> int:
        """Environment steps learned from, those before this start included."""
        return int(self.control[STEPS_BEFORE] + self.steps.sum())

    def total_updates(self) -> int:
        return int(self.control[UPDATES_BEFORE] + self.updates.sum())

    # Parameters

    def statistics(self, worker: int) -> np.ndarray:
        """The optimiser's state that this worker uses: a view."""
        return self.opt[0 if self.layout.shared_statistics else worker]

    def add(self, worker: int, delta: np.ndarray, opt_delta: np.ndarray) -> None:
        """θ ← θ + Δθ and the same for the statistics, in place, without a lock."""
        self.theta += delta
        statistics = self.statistics(worker)
        statistics += opt_delta

    def bounded(self, worker: int, opt_delta: np.ndarray, before: np.ndarray) -> np.ndarray:
        """What is to be added to statistics that others have changed since the copy ``before``: the same, but for
        numbers that would change their sign by the sum of what everyone adds, and by no one's own update.

        A mean square falls by a share of what it was at the copy. Where others have let it fall far since, that share
        may be more than all that is left, and the root of a negative number is none. Such a number falls by that share
        of what it is *now*.
        """
        now = self.statistics(worker)
        crossing = np.flatnonzero(before * (now + opt_delta) < 0)
        if not crossing.size:
            return opt_delta
        then, present = before[crossing], now[crossing]
        kept = (then + opt_delta[crossing]) / then
        share = (kept >= 0) & (then * present > 0)
        safe = opt_delta.copy()
        safe[crossing[share]] = (present * (kept - 1))[share]
        return safe

    def renew_target(self, kind: str, every: int, tau: float) -> None:
        """The target copy after an update: everything once ``every`` updates (``periodic``), or a little each time
        (``polyak``)."""
        if kind == "polyak":
            self.target += tau * (self.theta - self.target)
        elif kind == "periodic" and self.total_updates() // every > self.control[RENEWED]:
            self.control[RENEWED] = self.total_updates() // every
            self.target[:] = self.theta

    def enter(self, worker: int, pause: Callable[[], None]) -> None:
        """Before adding: wait while somebody takes a consistent copy."""
        while True:
            self.adding[worker] = 1
            if not self.control[HOLD]:
                return
            self.adding[worker] = 0
            pause()

    def leave(self, worker: int) -> None:
        """After adding and counting."""
        self.adding[worker] = 0

    def consistent(self, names: tuple[str, ...], timeout: float = 5.0) -> dict[str, np.ndarray]:
        """Copies of fields between two updates, never in the middle of one: whoever is adding ends, and nobody else
        begins. It takes well under a millisecond. A worker that does not end in time is dead or stopped, and nobody
        waits for it."""
        self.control[HOLD] = 1
        try:
            give_up = time.monotonic() + timeout
            while self.adding.any() and time.monotonic() < give_up:
                time.sleep(2e-5)
            return {name: self.read_normal() if name == "normal" else getattr(self, name).copy() for name in names}
        finally:
            self.control[HOLD] = 0

    # A worker's own rows

    def hand_over(self, worker: int) -> None:
        """A worker is gone, and another one takes its place: whatever was half done is closed."""
        self.adding[worker] = self.lived[worker] = self.beat[worker] = 0
        self.version[worker] += self.version[worker] % 2

    def write_normal(self, worker: int, values: np.ndarray) -> None:
        """A worker's own statistics; the version is odd while they are written."""
        self.version[worker] += 1
        self.normal[worker] = values
        self.version[worker] += 1

    def read_normal(self) -> np.ndarray:
        """Every worker's statistics, each whole."""
        rows = self.normal.copy()
        for worker in range(self.layout.workers):
            for _ in range(1000):
                before = int(self.version[worker])
                rows[worker] = self.normal[worker]
                if before % 2 == 0 and before == int(self.version[worker]):
                    break
            else:  # its worker died while it wrote: nobody can tell what it meant
                rows[worker] = 0
        return rows
