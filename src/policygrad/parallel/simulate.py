"""What many workers would do: a discrete-event simulation of windows, updates and the traffic of parameters.

Every worker copies θ, plays a window and hands it in; the update is applied, and the worker copies θ again. Three ways
to do so are three settings of one :class:`System`:

- :func:`shared_memory` (Hogwild): no queue, but only so many cores, which slow each other down;
- :func:`parameter_server` (A3C on many machines): gradients travel to shards, each of which handles one at a time;
- :func:`one_learner` (IMPALA): trajectories travel to one learner, and a worker plays on meanwhile.

:func:`simulate` forecasts; :func:`ceiling` and :func:`saturation` are the closed forms that bound it; :func:`fit` and
:func:`compare` hold it against measurements.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

import numpy as np

BLOCK = 4096
"""Durations drawn at a time."""
CYCLES = 4
"""So often each worker plays in a forecast. The first half is warm-up."""
LEAST = 6000
"""Updates of a forecast, at least."""
COPIED, PLAYED, ARRIVED, APPLIED = range(4)
"""Events: θ is at its worker; a window is played; it is at the servers; it is applied."""


class Times(NamedTuple):
    """How long something takes."""

    mean: float = 0.0
    """Seconds."""
    spread: float = 0.0
    """Standard deviation over mean. 0: always the mean; 1: exponential; in general a gamma distribution."""
    sample: tuple[float, ...] = ()
    """Measured durations, drawn with replacement in place of the gamma distribution, scaled to ``mean``."""

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """``[n]`` seconds."""
        if self.spread == 0 or self.mean == 0:
            return np.full(n, self.mean)
        if self.sample:
            return rng.choice(self.sample, n) * (self.mean / np.mean(self.sample))
        return rng.gamma(self.spread**-2, self.mean * self.spread**2, n)


INSTANT = Times()


def measured_times(seconds: Sequence[float]) -> Times:
    """The empirical distribution of these durations."""
    return Times(float(np.mean(seconds)), float(np.std(seconds) / np.mean(seconds)), tuple(map(float, seconds)))


@dataclass(frozen=True)
class System:
    """Workers around one set of parameters."""

    play: Times
    """A worker's own seconds for a window; where it sends gradients, the gradient is among them."""
    transfer: Times = INSTANT
    """Seconds of one way between worker and servers."""
    service: Times = INSTANT
    """A server's seconds for one update of the whole vector. One at a time, first come, first served."""
    message: float = 0.0
    """Seconds that every shard needs for every update besides, however small its slice."""
    shards: int = 1
    """Servers, each with an equal slice of θ. An update is applied when the last of them has added its slice."""
    cores: int | None = None
    """Cores for all workers together; None: one for each."""
    contention: float = 0.0
    """σ: of n workers that run at once on one machine each takes 1 + σ(n − 1) times as long (Amdahl 1967; the first
    term of Gunther's law): caches, memory, clock rate, a common lock."""
    plays_on: bool = False
    """Whether a worker plays its next window while one is under way (with the parameters that it has by then), or waits
    for the answer."""
    rows: float = 1.0
    """Environment steps of a window."""

    def seconds(self, workers: int) -> float:
        """Mean time of play where so many work: ``play · (1 + σ(n − 1))``, n = min(workers, cores)."""
        running = 1 if self.cores is None else min(workers, self.cores)
        return self.play.mean * (1 + self.contention * (running - 1))

    @property
    def slice(self) -> float:
        """Mean seconds of one shard for its part of one update."""
        return self.message + self.service.mean / self.shards


def shared_memory(play: Times, cores: int, *, contention: float = 0.0, rows: float = 1.0) -> System:
    """Hogwild on one machine. Adding and copying are part of ``play``: nobody waits for anybody."""
    return System(play, cores=cores, contention=contention, rows=rows)


def parameter_server(
    play: Times, transfer: Times, service: Times, *, message: float = 0.0, shards: int = 1, rows: float = 1.0
) -> System:
    """Workers, each with a core of its own, send gradients; the answer is the parameters with that gradient in."""
    return System(play, transfer, service, message, shards, rows=rows)


def one_learner(play: Times, transfer: Times, service: Times, *, message: float = 0.0, rows: float = 1.0) -> System:
    """Workers, each with a core of its own, send trajectories and play on, with one window under way.

    Args:
        play: without the gradient.
        service: the learner's gradient and step, for one window.
    """
    return System(play, transfer, service, message, plays_on=True, rows=rows)


# Closed forms


def rate_of_one(system: System, workers: int = 1) -> float:
    """Updates per second of a worker that never waits for a core or in a queue: one for each round trip, or, if it
    plays on, one for each window or message, whichever takes longer."""
    play, message = system.seconds(workers), 2 * system.transfer.mean + system.slice
    return 1 / (max(play, message) if system.plays_on else play + message)


def ceiling(system: System, workers: int) -> float:
    """No more updates per second than this (the asymptotic bounds of a closed network; Denning & Buzen 1978):

        min( W · rate of one,  cores / play,  1 / slice )

    Met exactly where all times are constant.
    """
    by_cores = math.inf if system.cores is None else system.cores / system.seconds(workers)
    by_servers = 1 / system.slice if system.slice else math.inf
    return min(workers * rate_of_one(system, workers), by_cores, by_servers)


def saturation(system: System) -> float:
    """The number of workers where the bounds cross; more of them add staleness and little else. For gradients,
    trajectories and shared memory:

        W* = (play + 2 transfer + slice) / slice,    max(play, 2 transfer + slice) / slice,    cores
    """
    by_servers = 1 / (system.slice * rate_of_one(system)) if system.slice else math.inf
    by_cores = math.inf if system.cores is None else system.cores
    return min(by_servers, by_cores)


# The simulation


class Forecast(NamedTuple):
    """Over the second half of a simulation."""

    workers: int
    updates_per_second: float
    steps_per_second: float
    staleness_mean: float
    """Updates between copy and application. Every update ages all open copies but its own by one, so the mean is the
    number of open copies minus 1: W − 1, and 2W − 1 where workers play on."""
    staleness_p95: float
    queue: float
    """Windows at the servers, waiting or served; mean over time. Little's law: ``updates_per_second · sojourn``."""
    sojourn: float
    """Seconds of a window there."""
    busy: float
    """Share of the time that a server works: ``updates_per_second · slice``."""


def simulate(system: System, workers: int, *, updates: int | None = None, seed: int = 0) -> Forecast:
    """Forecast what ``workers`` workers do.

        copy θ  →  transfer  →  [core]  play  →  transfer  →  [servers]  service  →  applied: copy θ ...

    Args:
        updates: to be simulated; default: four for each worker and at least 6000. The first half is warm-up.
        seed: the same seed, the same forecast.
    """
    total = max(LEAST, CYCLES * workers) if updates is None else updates
    return World(system, workers, np.random.default_rng(seed)).run(total)


def endless(times: Times, rng: np.random.Generator) -> Iterator[float]:
    """Independent durations, drawn in blocks."""
    while True:
        yield from times.draw(rng, BLOCK).tolist()


class World:
    """The state of a simulation: workers, cores, servers, and a heap of events ``(time, order, kind, worker, θ)``; θ
    stands for the number of updates in the copy that the window is played with."""

    def __init__(self, system: System, workers: int, rng: np.random.Generator) -> None:
        self.system, self.workers = system, workers
        self.play = endless(system.play._replace(mean=system.seconds(workers)), rng)
        self.transfer = endless(system.transfer, rng)
        self.service = endless(system.service._replace(mean=system.slice), rng)
        self.free_cores = workers if system.cores is None else system.cores
        self.wants_core: deque[tuple[int, int]] = deque()
        self.free_at = [0.0] * system.shards
        self.arrivals: deque[float] = deque()
        self.version, self.order = 0, 0
        self.area, self.since, self.worked = 0.0, 0.0, 0.0
        self.events: list[tuple[float, int, int, int, int]] = []
        self.log: list[tuple[float, ...]] = []
        self.busy, self.underway = [False] * workers, [False] * workers
        self.copies: list[deque[int]] = [deque([0] if system.plays_on else []) for _ in range(workers)]
        self.held: list[int | None] = [None] * workers
        for worker, head_start in enumerate(rng.uniform(0, system.seconds(workers), workers).tolist()):
            self.push(head_start, COPIED, worker, 0)

    def run(self, updates: int) -> Forecast:
        handle = {COPIED: self.copied, PLAYED: self.played, ARRIVED: self.arrived, APPLIED: self.applied}
        while self.version < updates:
            now, _, kind, worker, theta = heapq.heappop(self.events)
            handle[kind](now, worker, theta)
        return self.forecast()

    def push(self, time: float, kind: int, worker: int, theta: int) -> None:
        self.order += 1  # among equals: first come, first served
        heapq.heappush(self.events, (time, self.order, kind, worker, theta))

    def copied(self, now: float, worker: int, theta: int) -> None:
        """θ is here: the answer to the window under way, if there was one."""
        self.copies[worker].append(theta)
        self.underway[worker] = False
        self.go_on(now, worker)

    def played(self, now: float, worker: int, theta: int) -> None:
        self.free_cores += 1
        self.busy[worker] = False
        self.held[worker] = theta
        self.begin(now)
        self.go_on(now, worker)

    def go_on(self, now: float, worker: int) -> None:
        """Send what is played if nothing is under way; then play on if there are parameters."""
        held = self.held[worker]
        if held is not None and not self.underway[worker]:
            self.held[worker], self.underway[worker] = None, True
            self.push(now + next(self.transfer), ARRIVED, worker, held)
        if self.held[worker] is None and not self.busy[worker] and self.copies[worker]:
            self.busy[worker] = True
            self.wants_core.append((worker, self.copies[worker].popleft()))
            self.begin(now)

    def begin(self, now: float) -> None:
        """Whoever waited longest plays, if there is a core."""
        if self.free_cores and self.wants_core:
            self.free_cores -= 1
            self.push(now + next(self.play), PLAYED, *self.wants_core.popleft())

    def arrived(self, now: float, worker: int, theta: int) -> None:
        """Every shard queues its slice."""
        self.count(now)
        self.arrivals.append(now)
        for shard, free in enumerate(self.free_at):
            seconds = next(self.service)
            self.worked += seconds
            self.free_at[shard] = max(now, free) + seconds
        self.push(max(self.free_at), APPLIED, worker, theta)

    def applied(self, now: float, worker: int, theta: int) -> None:
        self.count(now)
        sojourn = now - self.arrivals.popleft()  # applied in the order of arrival
        self.log.append((now, self.version - theta, sojourn, self.area, self.worked))
        self.version += 1
        self.push(now + next(self.transfer), COPIED, worker, self.version)

    def count(self, now: float) -> None:
        """Integrate the number of windows at the servers over time."""
        self.area += len(self.arrivals) * (now - self.since)
        self.since = now

    def forecast(self) -> Forecast:
        rows = np.array(self.log[len(self.log) // 2 - 1 :])
        seconds, _, _, area, worked = rows[-1] - rows[0]
        _, staleness, sojourn, _, _ = rows[1:].T
        rate = (len(rows) - 1) / seconds
        return Forecast(
            workers=self.workers,
            updates_per_second=float(rate),
            steps_per_second=float(rate * self.system.rows),
            staleness_mean=float(staleness.mean()),
            staleness_p95=float(np.quantile(staleness, 0.95)),
            queue=float(area / seconds),
            sojourn=float(sojourn.mean()),
            busy=float(worked / seconds / self.system.shards),
        )


# Measurements


class Measured(NamedTuple):
    """One measurement of a real system."""

    workers: int
    updates_per_second: float


class Compared(NamedTuple):
    """One number of workers: measured (the median) and predicted."""

    workers: int
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted / self.measured - 1


def fit(system: System, measurements: Sequence[Measured], *, seed: int = 0) -> System:
    """The system that explains these measurements.

    One worker alone says how long a round trip takes: what neither play nor service explains is transfer, or, where
    nothing is transferred (shared memory), play. More workers say how much they slow each other down: σ is the one with
    which predicted and measured rates agree on (geometric) average. Where workers are quicker together than apart, σ is
    0, and play is what makes all rates, that of one worker too, agree on average.

    Args:
        system: times that were measured apart; σ is not read.
        measurements: with one worker, and with more.
    """
    rates = medians(measurements)
    if 1 not in rates:
        raise ValueError("a fit needs a measurement with one worker: add one")
    system = replace(system, contention=0.0)
    missing = 1 / rates.pop(1) - 1 / rate_of_one(system)
    if system.slice:
        half = max(0.0, system.transfer.mean + missing / 2)
        system = replace(system, transfer=system.transfer._replace(mean=half))
    else:
        system = replace(system, play=system.play._replace(mean=system.play.mean + missing))

    def surplus(contention: float) -> float:
        """Mean log of predicted over measured; falls with σ."""
        tried = replace(system, contention=contention)
        return sum(math.log(simulate(tried, n, seed=seed).updates_per_second / rate) for n, rate in rates.items())

    low, high = 0.0, 1.0
    if not rates or system.cores is None:
        return system
    if (lack := -surplus(low)) >= 0:
        quicker = math.exp(lack / (len(rates) + 1))
        return replace(system, play=system.play._replace(mean=system.play.mean / quicker))
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if surplus(middle) > 0 else (low, middle)
    return replace(system, contention=(low + high) / 2)


def compare(system: System, measurements: Sequence[Measured], *, seed: int = 0) -> list[Compared]:
    """Predictions beside measurements that :func:`fit` has not seen."""
    rates = medians(measurements)
    return [Compared(n, rate, simulate(system, n, seed=seed).updates_per_second) for n, rate in rates.items()]


def agrees(compared: Sequence[Compared], tolerance: float = 0.1) -> bool:
    """Whether every prediction is within ``tolerance`` of its measurement."""
    return bool(compared) and all(abs(row.error) <= tolerance for row in compared)


def medians(measurements: Sequence[Measured]) -> dict[int, float]:
    """``{workers: updates per second}``, in order."""
    numbers = sorted({row.workers for row in measurements})
    return {n: median(row.updates_per_second for row in measurements if row.workers == n) for n in numbers}
