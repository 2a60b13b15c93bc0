"""The same worker as a Ray actor: on this machine, or on all machines of a cluster.

Each worker calls the :mod:`servers <policygrad.parallel.servers>` itself; the main process only watches. Ray finds a
CPU for every worker: those that have none yet wait, and start as soon as a machine joins. Workers that die, raise or
hang are replaced on whatever machines remain. Servers lie on the machine where the run was started.
"""

import logging
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np

from policygrad.parallel.board import COUNTED, STOP, Board, Layout
from policygrad.parallel.hogwild import (
    STARTING,
    NotFinite,
    Stopwatch,
    WorkerError,
    entropy_coefficient,
    reason,
    worker_keys,
)
from policygrad.parallel.player import Player
from policygrad.parallel.sampler import Sampler
from policygrad.parallel.servers import (
    Answer,
    Central,
    Make,
    Shard,
    Start,
    Terms,
    cut_opt,
    edges,
    join_opt,
    opt_shapes,
)

LOOK = 0.05
"""Seconds between two looks at the workers."""
BEAT = 1.0
"""Seconds between two signs of life."""
PATIENCE = 30.0
"""Seconds after which it is said that workers wait for a CPU."""
ENVIRONMENT = {"PJRT_NPROC": "1"}
"""One XLA thread for each actor: set before JAX is imported there."""

ALONE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""For Ray on this machine alone: it tells nobody, and workers do not stand back behind everything else."""


# What an actor does


class Worker:
    """One worker, until the servers say stop."""

    def run(self, worker: int, life: int, make: Make, terms: Terms, servers: list[Any]) -> None:
        """See :func:`policygrad.parallel.hogwild.work`.

        Raises:
            NotFinite: of a window that was not applied.
        """
        ray = imported()
        node = ray.get_runtime_context().get_node_id()
        answers = ray.get([server.hello.remote(worker, life, node) for server in servers])
        beat = beater(worker, servers[0])
        if terms.mode == "gradients":
            send_gradients(worker, life, make(beat), terms, servers, answers)
        else:
            send_trajectories(worker, life, make.sampler(beat), terms, servers[0], answers[0])


def send_gradients(
    worker: int, life: int, player: Player, terms: Terms, servers: list[Any], answers: list[Answer]
) -> None:
    """A3C: play a window with a fixed copy of θ, send its gradient, and take the answer as the next copy."""
    ray, rules, layout = imported(), terms.rules, terms.layout
    cuts, ent_coef = edges(layout.params, len(servers)), entropy_coefficient(rules, worker)
    own = Board(layout._replace(workers=1, params=0, opt=0, target=0))
    stopwatch = Stopwatch(own, 0)
    local = player.begin(joined(answers).theta, *keys_of(rules.seed, worker, life, answers[0]))
    if layout.normal:  # a replaced worker goes on with what its place has seen
        seen: Any = np.array(answers[0].normal[worker])
        local = local._replace(normal=seen)
    while not answers[0].stop:
        now = joined(answers)
        theta = np.asarray(player.merge(now.theta, now.normal)) if layout.normal else now.theta
        stopwatch.lap()
        local, window = player.play(theta, now.target, now.rows, ent_coef, local, stopwatch)
        stopwatch("window" if stopwatch.laps == 0 else "gradient")
        if not window.finite:
            raise NotFinite("a reward or a gradient was not finite")
        grads = clipped(window.grads, terms.max_grad_norm)
        report = window._replace(grads=None), own.seconds[0].copy()
        own.seconds[0] = 0
        parts = [grads[first:end] for first, end in cuts]
        push = servers[0].push.options(num_returns=2)
        verdict, answer = push.remote(worker, answers[0].version, parts[0], report)
        others = [server.follow.remote(part, int(window.rows), verdict) for server, part in zip(servers[1:], parts[1:])]
        answers = ray.get([answer, *others])
        stopwatch("applying")
        own.updates[0] += 1
        own.lived[0] += 1


def send_trajectories(worker: int, life: int, sampler: Sampler, terms: Terms, server: Any, answer: Answer) -> None:
    """IMPALA: play a window while the one before is under way to the learner."""
    ray = imported()
    own = Board(terms.layout._replace(workers=1, params=0, opt=0, target=0))
    stopwatch, sent = Stopwatch(own, 0), None
    local = sampler.begin(answer.theta, *keys_of(terms.rules.seed, worker, life, answer))
    while not answer.stop:
        version = answer.version
        local, sample = sampler.play(answer.theta, local)
        stopwatch("acting")
        if sent is not None:
            answer = ray.get(sent)
        stopwatch("waiting")
        seconds = own.seconds[0].copy()
        own.seconds[0] = 0
        sent = server.push.remote(worker, version, sample, seconds)
        own.updates[0] += 1
        own.lived[0] += 1


def keys_of(seed: int, worker: int, life: int, answer: Answer) -> tuple[Any, Any]:
    """Those of :func:`worker_keys`; a resumed run, which begins with steps behind it, has others than the first one."""
    return worker_keys(seed, worker, life + int(answer.rows))


def joined(answers: list[Answer]) -> Answer:
    """The answers of all shards as one: the first with all slices of θ and of the target copy."""
    if len(answers) == 1:
        return answers[0]
    theta, target = (np.concatenate([getattr(answer, name) for answer in answers]) for name in ("theta", "target"))
    return answers[0]._replace(theta=theta, target=target)


def clipped(grads: np.ndarray, bound: float | None) -> np.ndarray:
    """The gradient with its global norm bounded: before it is cut into slices, none of which knows the others."""
    if bound is None:
        return grads
    return grads * np.float32(min(1.0, bound / (float(np.linalg.norm(grads)) + 1e-6)))


def beater(worker: int, server: Any) -> Callable[[], None]:
    """A sign of life, sent at most once a second."""
    last = [time.monotonic()]

    def beat() -> None:
        if time.monotonic() - last[0] > BEAT:
            last[0] = time.monotonic()
            server.beat.remote(worker)

    return beat


# Ray itself


def imported() -> Any:
    """The package.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ImportError("engine=ray needs the package ray: pip install 'policygrad[ray]'") from None
    return ray


def connect(address: str, workers: int) -> bool:
    """Join the cluster at ``address``, or start Ray on this machine alone (``""``), with a CPU for every worker.

    Returns:
        whether it was this call that did; Ray may be running in this process already.

    Raises:
        WorkerError: no cluster answers there, or this process is connected to another one.
    """
    ray = imported()
    if ray.is_initialized():
        here = ray.get_runtime_context().gcs_address
        if is_place(address) and not same_place(address, here):
            raise WorkerError(
                f"this process is connected to the Ray cluster at {here}, not to address={address!r}: "
                "call ray.shutdown() first, or drop address"
            )
        return False
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    with own_signals(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # Ray's processes are other programs
        if address in ("", "local"):
            for name, value in ALONE.items():
                os.environ.setdefault(name, value)
            cpus = max(workers, os.cpu_count() or 1)
            ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
            return True
        try:
            knock(address)
            ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise WorkerError(
                f"no Ray cluster answers at address={address!r} ({first_line(error)}): "
                "start one with `ray start --head`, or drop address to use this machine alone"
            ) from None
    return True


def knock(address: str) -> None:
    """Whether anybody is at ``host:port``: Ray itself asks for minutes.

    Raises:
        OSError: nobody is.
    """
    if is_place(address):
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()


def is_place(address: str) -> bool:
    """Whether it is ``host:port``, rather than a word such as ``auto`` or an address of a Ray client."""
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdigit() and "://" not in address


def same_place(address: str, other: str) -> bool:
    """Whether both name the same port of the same machine; this machine has many names."""
    (host, _, port), (other_host, _, other_port) = address.rpartition(":"), other.rpartition(":")
    ours = {host, other_host} & {"localhost", "127.0.0.1", "::1", "[::1]"}
    return port == other_port and (host == other_host or bool(ours))


@contextmanager
def own_signals() -> Iterator[None]:
    """Ray takes the signals of the main process; afterwards they are as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


# The main process


class Hand(NamedTuple):
    """One worker as the crew sees it."""

    actor: Any
    run: Any
    """The future of :meth:`Worker.run`."""
    life: int


class Mirror(Board):
    """The board of a run whose parameters and counters are elsewhere: ``consistent`` fetches them first."""

    def __init__(self, layout: Layout, fetch: Callable[[], None]) -> None:
        super().__init__(layout)
        self.fetch = fetch

    def consistent(self, names: tuple[str, ...], timeout: float = 5.0) -> dict[str, np.ndarray]:
        """Copies of fields. Each slice of the parameters lies between two updates; with several shards, slices may
        differ by the windows that are under way."""
        self.fetch()
        return {name: getattr(self, name).copy() for name in names}


class RayCrew:
    """All workers of a run and the servers that they talk to. See :class:`policygrad.parallel.hogwild.Crew`.

    Args:
        make: makes a worker's parts; it must be sendable.
        address: of a cluster, such as ``auto``; ``""``: this machine alone.
        tell: gets a sentence for every worker that failed and was replaced.

    Raises:
        WorkerError: by :meth:`check`, where a worker failed once too often, or a server is gone.
    """

    def __init__(
        self, make: Make, terms: Terms, *, address: str = "", tell: Callable[[str], None] = lambda text: None
    ) -> None:
        self.make, self.terms, self.address, self.tell = make, terms, address, tell
        self.rules = terms.rules
        self.board = Mirror(terms.layout, self.fetch)
        self.shapes = opt_shapes(make, terms.layout.params)
        self.hands: list[Hand] = []
        self.servers: list[Any] = []
        self.replaced = [0] * terms.layout.workers
        self.lost = 0
        """Replacements because a machine was lost; all others count in ``replaced``."""
        self.dropped = 0
        """Windows that were too stale."""
        self.running = 0
        """Workers that have a CPU."""
        self.ours = False
        self.sent: Any = None
        self._suspected: list[tuple[int, str, float]] = []
        self._lives = [0] * terms.layout.workers
        self._changed = 0.0

    def start(self) -> None:
        """Servers with what is on the board, then workers."""
        self.ours = connect(self.address, self.terms.layout.workers) or self.ours
        self.board.control[STOP] = 0
        self.sent = self.send()
        self.servers = [self.open(i, *edge) for i, edge in enumerate(self.edges())]
        self.hands = [self.hire(worker) for worker in range(self.terms.layout.workers)]

    def send(self) -> Any:
        """``make``, put once where every actor can get it."""
        try:
            return imported().put(self.make)
        except Exception as error:
            raise WorkerError(
                f"the environment or model cannot be sent to other machines ({first_line(error)}): "
                "define it at the top of a module, and make there what holds files, locks or windows"
            ) from None

    def edges(self) -> list[tuple[int, int]]:
        return edges(self.terms.layout.params, self.terms.shards)

    def open(self, index: int, first: int, end: int) -> Any:
        """A server as an actor on this machine. It takes no CPU from the workers' count."""
        ray = imported()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        board, steps, updates = self.board, self.board.total_steps(), self.board.total_updates()
        counts = {name: getattr(board, name).copy() for name in COUNTED} if index == 0 else None
        opt = cut_opt(board.opt[0], self.shapes, first, end)
        start = Start(board.theta[first:end].copy(), board.target[first:end].copy(), opt, updates, steps, counts)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        server = Shard if self.terms.mode == "gradients" else Central
        how = {"num_cpus": 0, "scheduling_strategy": here, "runtime_env": {"env_vars": ENVIRONMENT}}
        return ray.remote(server).options(**how).remote(self.sent, self.terms, start)

    def hire(self, worker: int) -> Hand:
        """A worker as an actor, wherever there is a CPU. Until there is one it waits, and asks an autoscaler for it."""
        ray, life = imported(), self._lives[worker]
        self._lives[worker] += 1
        self._changed = time.monotonic()
        actor = ray.remote(Worker).options(num_cpus=1, runtime_env={"env_vars": ENVIRONMENT}).remote()
        return Hand(actor, actor.run.remote(worker, life, self.sent, self.terms, self.servers), life)

    def check(self) -> None:
        """Look after every worker once: who died, raised or hangs is reported and replaced."""
        ray = imported()
        runs = {hand.run: worker for worker, hand in enumerate(self.hands)}
        ended, _ = ray.wait(list(runs), timeout=LOOK)
        asked = time.monotonic()
        health = self.count()
        queued = time.monotonic() - asked  # the queue before the server; whoever stands in it cannot be heard either
        if ended and not health["stop"]:
            self.ask([server.alive.remote() for server in self.servers])  # it may be a server that its worker missed
            worker = runs[ended[0]]
            self.replace(worker, *self.last_words(self.hands[worker], health["nodes"][worker]))
        self.forgive()
        here = health["lives"] == [hand.life for hand in self.hands]
        limits = np.where(health["played"], self.rules.timeout, STARTING) + queued
        for worker in np.flatnonzero(here & (health["silent"] > limits)).tolist():
            self.replace(worker, f"hangs: no sign of life for {health['silent'][worker]:.0f} s")
        self.say_who_waits(int(here.sum()))

    def replace(self, worker: int, cause: str, node: str = "", blameless: bool = False) -> None:
        """Another worker in its place. Only what may be the worker's own fault counts.

        Args:
            node: the machine that may be to blame, if it turns out to be lost: Ray knows that only seconds later.
        """
        limit = self.rules.replacements
        if not blameless and self.replaced[worker] >= limit:
            raise WorkerError(f"worker {worker} {cause}; it was replaced {self.replaced[worker]} times before")
        self.replaced[worker] += not blameless
        self.lost += blameless
        if node and not blameless:
            self._suspected.append((worker, node, time.monotonic()))
        imported().kill(self.hands[worker].actor)
        which = "" if blameless else f" ({self.replaced[worker]} of {limit})"
        self.tell(f"worker {worker} {cause}: replaced{which}")
        self.hands[worker] = self.hire(worker)

    def forgive(self) -> None:
        """A worker that died with its machine is not to blame."""
        alive = living_nodes() if self._suspected else set()
        for suspicion in self._suspected.copy():
            worker, node, since = suspicion
            if node not in alive or time.monotonic() - since > PATIENCE:
                self._suspected.remove(suspicion)
            if node not in alive:
                self.replaced[worker] -= 1
                self.lost += 1
                self.tell(f"worker {worker} had died because its machine was lost: that does not count")

    def last_words(self, hand: Hand, node: str) -> tuple[str, str, bool]:
        """Why a worker ended, the machine that may be to blame, and whether it certainly is."""
        ray = imported()
        try:
            ray.get(hand.run)
        except ray.exceptions.RayActorError as error:
            lost = "node has died" in str(error) or (bool(node) and node not in living_nodes())
            return ("lost its machine" if lost else f"died: {died(error)}"), node, lost
        except ray.exceptions.RayError as error:
            return f"failed: {reason(root(error))}", "", False
        return "ended by itself", "", False

    def say_who_waits(self, running: int) -> None:
        """Once after every change."""
        if running != self.running:
            self.running, self._changed = running, time.monotonic()
        n = self.terms.layout.workers
        if running < n and time.monotonic() - self._changed > PATIENCE:
            self._changed = float("inf")
            self.tell(f"{running} of {n} workers are running; the others start as soon as there are CPUs for them")

    # What the servers know

    def ask(self, futures: list[Any]) -> list[Any]:
        """Their answers.

        Raises:
            WorkerError: one of them is gone, and the parameters with it.
        """
        ray = imported()
        try:
            return ray.get(futures)
        except ray.exceptions.RayActorError as error:
            raise WorkerError(
                f"a server with parameters died: {died(error)}; go on from the last checkpoint, with --resume"
            ) from None
        except ray.exceptions.RayError as error:
            raise WorkerError(f"a server with parameters failed: {reason(root(error))}") from None

    def count(self) -> dict[str, Any]:
        """Counters, into the board; and how the workers are."""
        (now,) = self.ask([self.servers[0].counts.remote()])
        self.write(now)
        return now

    def write(self, now: dict[str, Any]) -> None:
        for name in COUNTED:
            getattr(self.board, name)[:] = now[name]
        self.dropped = int(now["dropped"].sum())

    def fetch(self) -> None:
        """Everything, into the board. Without servers it holds everything already."""
        if not self.servers:
            return
        looks = self.ask([server.look.remote() for server in self.servers])
        self.write(looks[0])
        self.board.normal[:] = looks[0]["normal"]
        self.board.theta[:] = np.concatenate([look["theta"] for look in looks])
        self.board.target[:] = np.concatenate([look["target"] for look in looks])
        self.board.opt[0] = join_opt(
            [look["opt"] for look in looks], self.shapes, [end - first for first, end in self.edges()]
        )

    # The end

    def stop(self, patience: float = 10.0) -> None:
        """Everybody ends after the window at hand; workers that do not are killed. The board keeps the last state."""
        if not self.servers:
            return
        ray = imported()
        self.board.control[STOP] = 1
        with suppress(WorkerError):
            self.ask([server.halt.remote() for server in self.servers])
            lives = self.count()["lives"]
            begun = [hand.run for worker, hand in enumerate(self.hands) if lives[worker] == hand.life]
            if begun:
                ray.wait(begun, num_returns=len(begun), timeout=patience)
            self.fetch()
        for actor in [*(hand.actor for hand in self.hands), *self.servers]:
            ray.kill(actor)
        self.hands, self.servers = [], []

    def close(self) -> None:
        """Leave the cluster; Ray itself ends where this crew started it."""
        self.stop(patience=1.0)
        if self.ours:
            imported().shutdown()
            self.ours = False


def living_nodes() -> set[str]:
    return {node["NodeID"] for node in imported().nodes() if node["Alive"]}


def root(error: BaseException) -> BaseException:
    """What was raised in the first place."""
    while isinstance(getattr(error, "cause", None), BaseException):
        error = error.cause  # type: ignore[attr-defined]
    return error


def died(error: BaseException) -> str:
    """The cause in one line, of Ray's many."""
    text = str(error)
    signs = (("memory running low", "its machine ran out of memory"), ("connection error", "its process was killed"))
    for sign, words in (*signs, ("unavailable", "it cannot be reached")):
        if sign in text:
            return words
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if "creation task" in text else first_line(error)  # there a traceback comes first
