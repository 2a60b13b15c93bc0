"""A run that is killed at any moment goes on from its last checkpoint, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

import policygrad as pg
from policygrad.cli.main import main
from policygrad.run.record import read_metrics

COMMAND = [
    *("train", "chain", "--n-envs", "4", "--net", "8", "--total-timesteps", "60000", "--log-every", "500"),
    *("--eval-every", "10000", "--eval-episodes", "4", "--no-tensorboard"),
]

DIES_WHILE_SAVING = """
import os, signal, sys
from policygrad.cli.main import main

wanted, half_written, calls, replace = int(sys.argv[1]), sys.argv[2] == "half", 0, os.replace

def deadly(source, target):
    global calls
    calls += ".safetensors" in str(target)
    if calls == wanted and ".safetensors" in str(target):
        if half_written:
            os.truncate(source, os.path.getsize(source) // 2)
        else:
            replace(source, target)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = deadly
main(sys.argv[3:])
"""
"""The command line in a process that kills itself at the n-th checkpoint file: half-written, or in place."""

WAITS_IN_THE_MIDDLE = """
import sys
from policygrad.run import progress
from policygrad.cli.main import main

show = progress.Progress.__call__

def show_and_wait(self, row):
    show(self, row)
    if row["time/total_timesteps"].min() >= 25_000:
        print("waiting", flush=True)
        sys.stdin.read()

progress.Progress.__call__ = show_and_wait
main(sys.argv[1:])
"""
"""The command line in a process that says when it is in the middle, and waits there."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    assert main([*COMMAND, "--quiet", "--path", str(path)]) == 0
    return path


def assert_same_run(one, other):
    """Bit for bit, but for the clock; and nothing is left lying about."""
    for name in ("last", "best"):
        ours, theirs = (load_file(path / "checkpoints" / f"{name}.safetensors") for path in (one, other))
        assert {leaf: x.tobytes() for leaf, x in ours.items()} == {leaf: x.tobytes() for leaf, x in theirs.items()}
    ours, theirs = read_metrics(one), read_metrics(other)
    assert ours.keys() == theirs.keys()
    for key in ours.keys() - {"time/fps"}:
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
    assert sorted(file.name for file in (other / "checkpoints").iterdir()) == ["best.safetensors", "last.safetensors"]


def test_killed_from_outside(whole, tmp_path):
    """Killed between two checkpoints, with rows in ``metrics.csv`` that no checkpoint knows."""
    path = tmp_path / "run"
    command = [sys.executable, "-c", WAITS_IN_THE_MIDDLE, *COMMAND, "--path", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert any(line == "waiting\n" for line in child.stdout)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    done = pg.load(path, checkpoint="last").env_steps.min()
    assert 0 < done < read_metrics(path)["time/total_timesteps"].max() < 60_000
    assert main(["train", "--resume", str(path), "--no-tensorboard", "--quiet"]) == 0
    assert_same_run(whole, path)


@pytest.mark.parametrize(
    ("count", "when", "files"),
    [
        pytest.param(1, "half", [], marks=pytest.mark.slow),
        pytest.param(2, "half", ["best.safetensors"], marks=pytest.mark.slow),
        pytest.param(3, "after", ["best.safetensors", "last.safetensors"], marks=pytest.mark.slow),
        (4, "half", ["best.safetensors", "last.safetensors"]),
    ],
    ids=["before the first checkpoint", "while saving the first", "after saving one", "while saving a later one"],
)
def test_killed_while_saving(whole, tmp_path, count, when, files):
    path = tmp_path / "run"
    code = [sys.executable, "-c", DIES_WHILE_SAVING, str(count), when]
    child = subprocess.run([*code, *COMMAND, "--path", str(path), "--quiet"], env=os.environ, capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert sorted(file.name for file in (path / "checkpoints").glob("*.safetensors")) == files
    assert main(["train", "--resume", str(path), "--no-tensorboard", "--quiet"]) == 0
    assert_same_run(whole, path)
