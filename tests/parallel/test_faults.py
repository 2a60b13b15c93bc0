"""Every fault on purpose: noticed, named, replaced, and nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_players import ROWS, Fault, layout

from policygrad.parallel.board import GOAL, Board
from policygrad.parallel.hogwild import Crew, Rules, WorkerError

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
    while crew.board.total_steps() < steps or (crew.rules.replacements and not sum(crew.replaced)):
        crew.check()
        assert time.monotonic() < until, "the workers do not get on"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("kill", "worker 1 was killed by SIGKILL: replaced"),
        ("raise", "worker 1 failed: ZeroDivisionError: division by zero: replaced"),
        ("hang", "worker 1 hangs: no sign of life"),
        ("nan", "worker 1 failed: a reward or a gradient was not finite: replaced"),
    ],
)
def test_a_fault_is_named_and_its_worker_replaced(tmp_path, what, words):
    crew, told = crew_of(Fault(what, 1, str(tmp_path / "flag")), timeout=3.0 if what == "hang" else 60.0)
    with crew:
        run(crew, 500)
        processes = [hand.handle for hand in crew.hands]
    assert len(told) == 1 and told[0].startswith(words), told
    assert crew.replaced == [0, 1]
    board = crew.board
    assert np.isfinite(board.theta).all() and 0 < board.theta.max() < 1
    assert board.steps.sum() == ROWS * board.updates.sum(), "what was applied was counted, and nothing else"
    assert not any(process.is_alive() for process in processes)


def test_a_worker_is_not_replaced_for_ever():
    crew, told = crew_of(Fault("raise", 1, always=True), replacements=1)
    with crew, pytest.raises(WorkerError, match=r"worker 1 failed: Zero.*; it was replaced 1 times before"):
        run(crew, 10**9)
    assert len(told) == 1 and np.isfinite(crew.board.theta).all()


def test_a_deterministic_run_ends_with_its_worker(tmp_path):
    crew, _ = crew_of(Fault("kill", 1, str(tmp_path / "flag")), deterministic=True)
    with crew, pytest.raises(WorkerError, match="in a deterministic run nobody can take its place"):
        run(crew, 10**9)


MAIN = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from test_faults import crew_of
from fake_players import Fault

if __name__ == "__main__":
    crew, _ = crew_of(Fault())
    crew.start()
    print(*[hand.handle.pid for hand in crew.hands], flush=True)
    while crew.board.total_steps() < 100:
        time.sleep(0.01)
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_a_dead_main_process_leaves_nobody(tmp_path, how):
    before = set(os.listdir("/dev/shm"))
    (tmp_path / "main.py").write_text(MAIN)
    command = [sys.executable, str(tmp_path / "main.py"), str(HERE), how]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == -getattr(signal, how), ended.stderr
    until = time.monotonic() + 10
    pids = [int(pid) for pid in ended.stdout.split()]
    assert len(pids) == 2
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until, "a worker outlives its main process"
        time.sleep(0.05)
    assert not [name for name in set(os.listdir("/dev/shm")) - before if name.startswith(("pym-", "psm_"))]


def add_ones(board, worker, n):
    ones, nothing = np.ones(board.layout.params, np.float32), np.zeros(1, np.float32)
    board.ready[worker] = 1
    while not board.ready.all():
        pass
    for _ in range(n):
        board.add(worker, ones, nothing)


def test_lost_updates_are_rare_and_no_number_is_torn():
    """Two processes add ones as fast as they can, which real workers never do: what is lost is measured."""
    import multiprocessing

    n, board = 3000, Board(layout(2))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_ones, args=(board, worker, n)) for worker in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert (board.theta == np.round(board.theta)).all() and board.theta.max() <= 2 * n, "a torn number is no count"
    assert board.theta.min() >= n, "whoever assigned the array would have erased the other's"
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
    import multiprocessing

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
