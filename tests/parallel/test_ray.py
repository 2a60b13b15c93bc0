"""Workers on several machines, here two or three nodes of one: nothing that was applied is lost or counted twice,
faults and lost machines are survived, new machines are used."""

import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from policygrad.parallel.hogwild import Rules, WorkerError
from policygrad.run.api import synchronous
from policygrad.run.ray_workers import make_ray_program
from policygrad.run.recipes import make_recipe

ray = pytest.importorskip("ray")
from ray_players import RATE, ROWS, Counting, G, layout  # noqa: E402

from policygrad.parallel.ray import ALONE, RayCrew, connect  # noqa: E402
from policygrad.parallel.servers import Terms  # noqa: E402

pytestmark = pytest.mark.slow
LIMIT = 120.0


@pytest.fixture(scope="module")
def cluster():
    """A cluster of one node with two CPUs, to which this process is connected."""
    from ray.cluster_utils import Cluster

    os.environ.update(ALONE)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in [os.path.dirname(__file__), *sys.path] if path)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    assert connect(cluster.address, 2)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_an_address_elsewhere_is_not_ignored(cluster):
    """Ray is connected already: the same cluster by any of its names is fine, another one is not."""
    port = cluster.address.rpartition(":")[2]
    assert not any(connect(address, 2) for address in ("", "auto", cluster.address, f"localhost:{port}"))
    with pytest.raises(WorkerError, match=r"connected to the Ray cluster at .* not to address='127.0.0.1:1'"):
        connect("127.0.0.1:1", 2)


def crew_of(crews, make, workers=2, shards=1, max_staleness=None, **rules):
    told = []
    terms = Terms(Rules(0, 0.0, **rules), layout(workers), shards=shards, max_staleness=max_staleness)
    crew = RayCrew(make, terms, tell=told.append)
    crew.board.theta[:] = 1
    crews.append(crew)
    return crew, told


@pytest.fixture(autouse=True)
def crews():
    """Every crew of a test, to be stopped however it ends: its workers have the CPUs."""
    yield (made := [])
    for crew in made:
        crew.stop(patience=0)


def run(crew, done):
    """Watch over the crew until it is ``done``."""
    until = time.monotonic() + LIMIT
    if not crew.hands:
        crew.start()
    while not done():
        crew.check()
        assert time.monotonic() < until, f"{crew.board.updates} updates, {crew.replaced} {crew.lost} lost"


def applied(crew):
    """The sum of all steps: each window's gradient is its metric times G."""
    return np.float32(1) - RATE * crew.board.metrics.sum() * G


@pytest.mark.parametrize("shards", [1, 3])
def test_nothing_is_lost_or_applied_twice(cluster, crews, shards):
    """With plain SGD the change of θ is the sum of the applied windows' own gradients, bit for bit."""
    crew, told = crew_of(crews, Counting(), shards=shards)
    run(crew, lambda: (crew.board.updates > 100).all())
    crew.stop()
    board = crew.board
    assert not told and board.steps.sum() == ROWS * board.updates.sum() == ROWS * board.staleness.sum()
    assert board.metrics.sum() > 0
    np.testing.assert_array_equal(board.theta, applied(crew))
    assert board.staleness[:, 1:3].sum() > 0, "they never met"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("kill", r"worker \d died: its process was killed: replaced \(1 of 3\)"),
        ("raise", r"worker \d failed: ZeroDivisionError: division by zero: replaced \(1 of 3\)"),
        ("hang", r"worker \d hangs: no sign of life for \d+ s: replaced \(1 of 3\)"),
        ("nan", r"worker \d failed: a reward or a gradient was not finite: replaced \(1 of 3\)"),
    ],
)
def test_a_fault_is_named_and_its_worker_replaced(cluster, crews, tmp_path, what, words):
    crew, told = crew_of(crews, Counting(what, str(tmp_path / "flag")), timeout=3.0)
    begun = []

    def done():
        if sum(crew.replaced) and not begun:
            begun.append(crew.board.updates.copy())
        return bool(begun) and (crew.board.updates > begun[0] + 20).all()

    run(crew, done)
    crew.stop()
    assert len(told) == 1 and re.fullmatch(words, told[0]), told
    assert sorted(crew.replaced) == [0, 1]
    np.testing.assert_array_equal(crew.board.theta, applied(crew))


def test_a_worker_is_not_replaced_for_ever(cluster, crews):
    crew, told = crew_of(crews, Counting("raise", always=True), workers=1, replacements=1)
    with pytest.raises(WorkerError, match=r"worker 0 failed: ZeroDivisionError.* it was replaced 1 times before"):
        run(crew, lambda: False)
    assert len(told) == 1


def test_a_server_that_died_is_not_blamed_on_a_worker(cluster, crews):
    crew, told = crew_of(crews, Counting(), shards=2)
    run(crew, lambda: (crew.board.updates > 3).all())
    ray.kill(crew.servers[1])
    with pytest.raises(WorkerError, match=r"a server with parameters died: .*; go on from the last checkpoint"):
        run(crew, lambda: False)
    assert not told and not sum(crew.replaced)


def test_a_run_goes_on_without_a_lost_machine_and_takes_a_new_one_in(cluster, crews):
    """Three workers, and two machines with a CPU or two. One machine is lost: its worker waits. Another joins."""
    crew, told = crew_of(crews, Counting(), workers=3)
    node = cluster.add_node(num_cpus=1)
    run(crew, lambda: (crew.board.updates > 20).all())
    cluster.remove_node(node, allow_graceful=False)
    run(crew, lambda: crew.lost == 1)
    before = crew.board.updates.copy()
    run(crew, lambda: np.count_nonzero(crew.board.updates > before + 50) == 2)
    assert crew.running == 2 and sum(crew.replaced) == 0, "a lost machine is nobody's fault"
    assert re.fullmatch(r"worker \d (lost its machine|died: .*): replaced( \(1 of 3\))?", told[0])
    before, node = crew.board.updates.copy(), cluster.add_node(num_cpus=1)
    run(crew, lambda: (crew.board.updates > before + 20).all())
    assert crew.running == 3
    crew.stop()
    cluster.remove_node(node)
    assert np.isfinite(crew.board.theta).all()
    np.testing.assert_array_equal(crew.board.theta, applied(crew))


VTRACE = {"target": "vtrace", "correction": "vtrace", "critic_target": "vtrace"}


def program_of(mode, shards=1, **options):
    recipe = make_recipe(
        "a3c-gae", "CartPole-v1", net=(32,), optimizer="adam", learning_rate=1e-2, eval_every=0, **options
    )
    inner = synchronous(recipe, recipe.env, None)
    return make_ray_program(recipe, recipe.env, None, inner, lambda state: np.zeros(1), mode=mode, shards=shards)


@pytest.mark.parametrize(("mode", "options"), [("gradients", {"shards": 2}), ("trajectories", VTRACE)])
def test_both_ways_learn_cartpole(cluster, crews, mode, options):
    program = program_of(mode, n_envs=16, total_timesteps=60_000, **options)
    crews.append(program.crew)
    state = program.init(jax.random.key(0))
    theta = program.player.start(state.learner)["theta"]
    returns, until = [], time.monotonic() + 2 * LIMIT
    late = lambda: time.monotonic() > until  # noqa: E731
    try:
        for mark in (20_000, 40_000, 60_000):
            state, stats = program.advance(state, mark, late)
            returns.append(float(stats["ret"] / stats["episodes"]))
    finally:
        program.close()
    after = program.player.start(state.learner)["theta"]
    assert 60_000 <= int(state.env_steps) < 60_000 + 256
    assert np.isfinite(after).all() and np.abs(after - theta).max() > 1e-2
    assert int(state.learner.rows) == int(state.env_steps) == 256 * int(state.learner.updates)
    assert max(returns) > 60, returns
    assert {"async/dropped", "async/running", "async/staleness_mean"} <= set(program.shares())


SCRIPT = """
import numpy as np
from ray_players import Counting
from policygrad.parallel.hogwild import Rules
from policygrad.parallel.ray import RayCrew
from policygrad.parallel.servers import Terms
from ray_players import layout
if __name__ == "__main__":
    crew = RayCrew(Counting(), Terms(Rules(0, 0.0), layout(2)))
    try:
        crew.start()
        while not (crew.board.updates > 3).all():
            crew.check()
        import ray
        print("SESSION", ray._private.worker.global_worker.node.session_name, flush=True)
        while True:
            crew.check()
    finally:
        crew.close()
        print("CLOSED", flush=True)
"""


def left(session):
    """Processes of a Ray session."""
    found = subprocess.run(["pgrep", "-f", session], capture_output=True, text=True).stdout.split()
    return [pid for pid in found if int(pid) != os.getpid()]


@pytest.mark.parametrize(("signum", "says"), [(signal.SIGINT, "CLOSED"), (signal.SIGKILL, "")])
def test_a_run_that_is_stopped_leaves_no_process_of_ray(signum, says):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, os.path.dirname(__file__)])}
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        line = run.stdout.readline()
        assert line.startswith("SESSION"), run.stderr.read()
        session = line.split()[1]
        assert left(session)
        run.send_signal(signum)
        said = run.stdout.read()
        run.wait(60)
    assert says in said
    until = time.monotonic() + 60
    while left(session):
        assert time.monotonic() < until, "processes of Ray were left behind"
        time.sleep(0.1)
