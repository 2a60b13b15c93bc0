"""Every fault on purpose: noticed, named, replaced, and nobody is left behind."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_players import ROWS, Fault, layout

from policygrad.parallel.board import GOAL, Board
from policygrad.parallel.hogwild import Crew, Hand, Rules, WorkerError

HERE = Path(__file__).parent


def crew_of(fault, workers=2, **rules):
    board = Board(layout(workers))
    board.theta[:] = 1
    board.control[GOAL] = 10**9
    told = []
    return Crew(fault, board, Rules(0, 0.0, **rules), threads=False, tell=told.append), told


def run(crew, steps, limit=60.0):
    crew.start()
    until = time.monotonic() + limit
    while crew.board.total_steps() < steps:
        crew.check()
        assert time.monotonic() < until, "the workers do not get on"
        time.sleep(0.01)


FAULTS = {
    "raise": r"worker 1 failed: ZeroDivisionError: division by zero: replaced \(1 of 3\)",
    "kill": r"worker 1 was killed by SIGKILL: replaced \(2 of 3\)",
    "hang": r"worker 1 hangs: no sign of life for \d+ s: replaced \(3 of 3\)",
    "nan": "worker 1 failed: a reward or a gradient was not finite; it was replaced 3 times before",
}
"""What one worker does in one life after the other, and what is said of it."""


def test_faults_are_named_and_their_worker_replaced_but_not_for_ever(tmp_path):
    crew, told = crew_of(Fault(tuple(FAULTS), 1, str(tmp_path)), timeout=3.0)
    with crew, pytest.raises(WorkerError) as ended:
        run(crew, 10**9)
    said = [*told, str(ended.value)]
    for words, expected in zip(said, FAULTS.values(), strict=True):
        assert re.fullmatch(expected, words), said
    assert crew.replaced == [0, 3]
    board = crew.board
    assert np.isfinite(board.theta).all() and 0 < board.theta.max() < 1
    assert board.steps.sum() == ROWS * board.updates.sum(), "what was applied was counted, and nothing else"
    assert board.updates[1] == 2 * len(FAULTS), "two windows of each life"
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("policygrad-worker")]


def test_ctrl_c_while_workers_start_is_heard_by_the_main_process_alone(monkeypatch):
    start, heard = multiprocessing.process.BaseProcess.start, []

    def disturbed(process):
        start(process)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(process.pid, signal.SIGINT)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", disturbed)
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    crew, told = crew_of(Fault(), workers=1)
    try:
        with crew:
            run(crew, ROWS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [True] and not told


def test_who_was_stopped_itself_does_not_blame_its_workers():
    crew, told = crew_of(Fault(), workers=1)
    hand = Hand(SimpleNamespace(is_alive=lambda: True), None, [], 0, time.monotonic() - 100)
    crew.hands, crew.board.lived[0], crew.board.beat[0] = [hand], 1, time.monotonic() - 100
    crew.looked = crew.awake = time.monotonic() - 90
    crew.check()
    assert crew.hands == [hand] and not told
    crew.awake -= 50
    assert crew.failure(0, hand).startswith("hangs: no sign of life for 50 s")


def test_a_deterministic_run_ends_with_its_worker(tmp_path):
    crew, _ = crew_of(Fault(("kill",), 1, str(tmp_path)), deterministic=True)
    with crew, pytest.raises(WorkerError, match="in a deterministic run nobody can take its place"):
        run(crew, 10**9)


MAIN = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from test_faults import crew_of
from fake_players import Fault

if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    crew, _ = crew_of(Fault(tuple(sys.argv[3:]), 1, here))
    crew.start()
    print(*[hand.handle.pid for hand in crew.hands], flush=True)
    while crew.board.total_steps() < 100 or not all(os.path.exists(os.path.join(here, what)) for what in sys.argv[3:]):
        time.sleep(0.01)
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")
@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("SIGKILL", []),
        pytest.param("SIGKILL", ["keep the lock"], marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux's")),
        pytest.param("SIGTERM", [], marks=pytest.mark.slow),
    ],
)
def test_a_dead_main_process_leaves_nobody(tmp_path, how, what):
    before = set(os.listdir("/dev/shm"))
    (tmp_path / "main.py").write_text(MAIN)
    command = [sys.executable, str(tmp_path / "main.py"), str(HERE), how, *what]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == -getattr(signal, how), ended.stderr
    until = time.monotonic() + 10
    pids = [int(pid) for pid in ended.stdout.split()]
    assert len(pids) == 2
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until, "a worker outlives its main process"
        time.sleep(0.05)
    assert not [name for name in set(os.listdir("/dev/shm")) - before if name.startswith(("pym-", "psm_"))]


def test_a_script_without_a_guard_is_told_so_once(tmp_path):
    """Each worker would run the script again, and start workers."""
    (tmp_path / "main.py").write_text(
        "import policygrad as pg\n"
        "pg.train('gym:CartPole-v1', 'a3c', total_timesteps=3000, workers=2, out=None, net=(4,), eval_every=0)\n"
    )
    ended = subprocess.run([sys.executable, str(tmp_path / "main.py")], capture_output=True, text=True, timeout=120)
    words = "before it began: if this is a script of yours, put what starts the run under `if __name__ == '__main__':`"
    assert ended.returncode == 1 and ended.stderr.count("__name__") == 1
    assert words in ended.stderr.splitlines()[-1] and "replaced" not in ended.stderr


def add_ones(board, worker, n):
    ones, nothing = np.ones(board.layout.params, np.float32), np.zeros(1, np.float32)
    board.ready[worker] = 1
    while not board.ready.all():
        pass
    for _ in range(n):
        board.add(worker, ones, nothing)


def test_lost_updates_are_rare_and_no_number_is_torn():
    """Two processes add ones as fast as they can, which real workers never do: what is lost is measured."""
    n, board = 3000, Board(layout(2))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_ones, args=(board, worker, n)) for worker in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert (board.theta == np.round(board.theta)).all() and board.theta.max() <= 2 * n, "a torn number is no count"
    assert board.theta.min() >= n and board.theta.mean() > 1.5 * n, (
        "whoever assigned the array would have erased the other's"
    )
    print(f"lost: {1 - board.theta.mean() / (2 * n):.2%}")


def add_whole(board, worker, n):
    ones, nothing = np.ones(board.layout.params, np.float32), np.zeros(1, np.float32)
    for _ in range(n):
        board.enter(worker, lambda: None)
        board.add(worker, ones, nothing)
        board.updates[worker] += 1
        board.leave(worker)


def test_a_checkpoint_holds_a_copy_between_two_updates():
    """While a worker adds ones without a pause, every copy is the same number everywhere, and the number of updates."""
    board = Board(layout(1))
    worker = multiprocessing.get_context("spawn").Process(target=add_whole, args=(board, 0, 200_000), daemon=True)
    worker.start()
    while not board.updates[0]:
        assert worker.is_alive()
    seen = []
    while len(seen) < 50 or seen[-1] == seen[0]:  # the worker may be waiting for a processor all that time
        copy = board.consistent(("theta", "updates"))
        assert (copy["theta"] == copy["updates"][0]).all()
        seen.append(int(copy["updates"][0]))
        assert worker.is_alive()
    worker.kill()
    worker.join()
    board.adding[0] = 1
    assert board.consistent(("theta",), timeout=0.05)["theta"].size, "nobody waits for the dead"
