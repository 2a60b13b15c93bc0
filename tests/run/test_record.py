import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.run import record
from policygrad.run.record import MetricsWriter, RunDirectory, RunError, read_metrics, seed_curves, slug

STEP = "time/total_timesteps"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create_at(tmp_path / "run")


def writer_of(run: RunDirectory, seeds=1, tensorboard=False) -> MetricsWriter:
    return MetricsWriter(run, seeds, tensorboard=tensorboard)


# The directory


def test_runs_are_numbered(tmp_path):
    first = RunDirectory.create("CartPole-v1", "a2c", tmp_path)
    assert first.path == tmp_path / "CartPole-v1" / "a2c-1"
    (first.path.parent / "a2c-9").mkdir()
    (first.path.parent / "a2c-x").mkdir()
    (first.path.parent / "ppo-50").mkdir()
    assert RunDirectory.create("CartPole-v1", "a2c", tmp_path).path.name == "a2c-10"


def test_numbers_ignore_case_as_some_file_systems_do(tmp_path):
    RunDirectory.create("Chain", "A2C", tmp_path)
    assert RunDirectory.create("Chain", "a2c", tmp_path).path.name == "a2c-2"


def test_runs_created_together_share_no_folder(tmp_path):
    """Every creator reads the same highest number before any makes its folder: the barrier sees to it."""
    barrier, paths, highest = threading.Barrier(4), [], record._highest

    def together(parent, stem):
        number = highest(parent, stem)
        if len(waited) < 4:
            waited.append(number)
            barrier.wait()
        return number

    waited: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "_highest", together)
        create = lambda: paths.append(RunDirectory.create("Chain", "a2c", tmp_path).path)  # noqa: E731
        threads = [threading.Thread(target=create) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert waited == [0] * 4
    assert sorted(path.name for path in paths) == ["a2c-1", "a2c-2", "a2c-3", "a2c-4"]


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("CartPole-v1", "CartPole-v1"),
        ("ALE/Pong-v5", "ALE-Pong-v5"),
        ("gym:CartPole-v1", "gym-CartPole-v1"),
        ("../../etc", "etc"),
        ("a <b>|c?*", "a-b-c"),
        ("nul", "nul_"),
        ("Com1.x", "Com1.x_"),
        ("..", "unnamed"),
        ("dot.", "dot"),
        ("x" * 300, "x" * 100),
    ],
)
def test_names_are_legal_everywhere(name, legal):
    assert slug(name) == legal


def test_an_existing_path_is_not_overwritten(run):
    with pytest.raises(RunError, match=re.escape(f"{run.path} already exists; continue it with --resume {run.path}")):
        RunDirectory.create_at(run.path)


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"the folder .* cannot be made"):
        RunDirectory.create("Chain", "a2c", tmp_path / "file")


def test_open_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match="there is no run"):
        RunDirectory.open(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"is no run: it holds no recipe.json"):
        RunDirectory.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="is a file; name the run's folder"):
        RunDirectory.open(tmp_path / "file")


def test_a_folder_of_runs_names_the_newest_inside(tmp_path):
    for seconds, name in enumerate(("Chain/a2c-1", "Chain/a2c-2", "Pendulum-v1/ppo-1")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "recipe.json").touch()
        os.utime(tmp_path / name / "recipe.json", (seconds, seconds))
    for folder, newest in ((tmp_path, "Pendulum-v1/ppo-1"), (tmp_path / "Chain", "Chain/a2c-2")):
        with pytest.raises(RunError, match=re.escape(f"name a folder such as {tmp_path / newest}, the newest in it")):
            RunDirectory.open(folder)


def test_the_recipe_is_kept(run):
    run.write_recipe({"algo": "a2c", "rho_bar": float("inf")})
    assert RunDirectory.open(run.path).read_recipe() == {"algo": "a2c", "rho_bar": float("inf")}
    run.recipe.write_text("{")
    with pytest.raises(RunError, match="is not valid JSON"):
        run.read_recipe()


def test_the_paths(run):
    inside = [run.recipe, run.metrics, run.tensorboard, run.last, run.best, run.curve]
    assert [str(path.relative_to(run.path).as_posix()) for path in inside] == [
        "recipe.json",
        "metrics.csv",
        "tensorboard",
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "curve.png",
    ]


# metrics.csv


def test_rows_columns_and_cells(run):
    with writer_of(run, seeds=2) as writer:
        writer.write({"time/fps": 1000, "rollout/ep_rew_mean": np.array([1.5, np.nan])}, step=10)
        writer.write({"eval/mean_reward": jnp.array([0.1, 1e-8]), "time/fps": np.float64(1 / 3)}, step=20)
    assert run.metrics.read_text().splitlines() == [
        "time/total_timesteps,seed,time/fps,rollout/ep_rew_mean,eval/mean_reward",
        "10,0,1000,1.5,",
        "10,1,1000,,",
        "20,0,0.3333333333333333,,0.1",
        "20,1,0.3333333333333333,,1e-08",
    ]
    metrics = read_metrics(run.path)
    assert metrics[STEP].dtype == metrics["seed"].dtype == np.int64
    np.testing.assert_array_equal(metrics["rollout/ep_rew_mean"], [1.5, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(metrics["time/fps"], [1000, 1000, 1 / 3, 1 / 3])


def test_seeds_have_their_own_numbers(run):
    with writer_of(run, seeds=[41, 42]) as writer:
        writer.write({"x": [1, 2]}, step=1)
    np.testing.assert_array_equal(read_metrics(run.metrics)["seed"], [41, 42])


def test_curves_by_seed(run):
    with writer_of(run, seeds=2) as writer:
        writer.write({"x": [1, np.nan]}, step=1)
        writer.write({"x": [2, 3]}, step=2)
    (steps, values), (late, later) = seed_curves(read_metrics(run.path), "x")
    assert (steps.tolist(), values.tolist(), late.tolist(), later.tolist()) == ([1, 2], [1, 2], [2], [3])
    with pytest.raises(RunError, match="'y' was not logged; choose one of x"):
        seed_curves(read_metrics(run.path), "y")


def test_an_empty_log_has_columns(run):
    writer_of(run).close()
    assert {name: len(column) for name, column in read_metrics(run.path).items()} == {STEP: 0, "seed": 0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"x": np.zeros(3)}, r"'x' has shape \(3,\); give one number, or one for each of 2 seeds"),
        ({"x": "high"}, "'x' is a str; log real numbers only"),
        ({"seed": 1}, "'seed' is a column of its own"),
    ],
)
def test_senseless_rows_are_refused(run, row, message):
    with writer_of(run, seeds=2) as writer, pytest.raises(ValueError, match=message):
        writer.write(row, step=1)
    assert len(run.metrics.read_text().splitlines()) == 1


@pytest.mark.parametrize("half", ["20,0,1", "20", "20,0,1.5"])
def test_a_half_written_row_is_left_out_and_then_repaired(run, half):
    with writer_of(run) as writer:
        writer.write({"x": 1.0}, step=10)
    with open(run.metrics, "a") as file:
        file.write(half)
    assert read_metrics(run.path)[STEP].tolist() == [10]
    assert run.metrics.read_text().endswith(half)
    with writer_of(run) as writer:
        writer.write({"x": 2.0}, step=30)
    assert run.metrics.read_text().splitlines()[1:] == ["10,0,1.0", "30,0,2.0"]


def test_truncate_after_drops_what_the_checkpoint_does_not_know(run):
    with writer_of(run, seeds=2) as writer:
        for step in (10, 20, 30):
            writer.write({"x": step}, step=step)
    with writer_of(run, seeds=2) as writer:
        writer.truncate_after(20)
        assert read_metrics(run.path)[STEP].tolist() == [10, 10, 20, 20]
        writer.write({"x": 0, "y": 1}, step=25)
    assert read_metrics(run.path)[STEP].tolist() == [10, 10, 20, 20, 25, 25]


def test_what_is_no_metrics_file(run):
    with pytest.raises(RunError, match="cannot be read"):
        read_metrics(run.path)
    run.metrics.write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match=r"is no metrics.csv"):
        read_metrics(run.path)
    run.metrics.write_text(f"{STEP},seed,x\n1,0,2\n1,0\n")
    with pytest.raises(RunError, match="line 3 has not 3 cells"):
        read_metrics(run.path)


WRITER = """
import sys
from pathlib import Path
from policygrad.run.record import MetricsWriter, RunDirectory

writer = MetricsWriter(RunDirectory(Path(sys.argv[1])), seeds=2, tensorboard=False)
for step in range(10_000_000):
    writer.write({"x": step}, step)
    print(step, flush=True)
"""


def test_a_killed_run_keeps_every_row_that_was_written(run):
    environment = {**os.environ, "PYTHONPATH": str(Path(record.__file__).parents[2])}
    command = [sys.executable, "-c", WRITER, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for expected in range(50):
            assert int(process.stdout.readline()) == expected
        process.kill()
    steps = read_metrics(run.path)[STEP]
    assert len(steps) >= 100
    np.testing.assert_array_equal(steps, np.arange(len(steps)) // 2)


# TensorBoard


def read_events(folder: Path) -> list:
    """All events of a folder, file after file in the order in which they were begun."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for file in sorted(folder.glob("events.out.tfevents.*"), key=lambda file: int(file.suffix[1:])):
        data = file.read_bytes()
        while data:  # length (8 bytes), its checksum (4), the event, its checksum (4)
            size = int.from_bytes(data[:8], "little")
            events.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return events


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    return [
        (event.step, value.tag, value.simple_value) for event in read_events(folder) for value in event.summary.value
    ]


def test_tensorboard_holds_the_mean_and_each_seed(run):
    with writer_of(run, seeds=2, tensorboard=True) as writer:
        writer.write({"x": [1.0, 3.0], "y": [5.0, np.nan]}, step=10)
        assert scalars(run.tensorboard) == [(10, "x", 2.0), (10, "y", 5.0)]  # flushed before it is closed
    assert scalars(run.tensorboard / "seed_0") == [(10, "x", 1.0), (10, "y", 5.0)]
    assert scalars(run.tensorboard / "seed_1") == [(10, "x", 3.0)]


def test_one_seed_needs_no_folder_of_its_own(run):
    with writer_of(run, tensorboard=True) as writer:
        writer.write({"x": 1.0}, step=10)
    assert [path.is_file() for path in run.tensorboard.iterdir()] == [True]


def test_a_resumed_run_tells_tensorboard_what_to_hide(run):
    from tensorboardX.proto.event_pb2 import SessionLog

    with writer_of(run, tensorboard=True) as writer:
        writer.write({"x": 1.0}, step=10)
        writer.write({"x": 2.0}, step=20)
    with writer_of(run, tensorboard=True) as writer:  # in the same second: the new file must not replace the old one
        writer.truncate_after(10)
        writer.write({"x": 3.0}, step=20)
    assert scalars(run.tensorboard) == [(10, "x", 1.0), (20, "x", 2.0), (20, "x", 3.0)]
    starts = [event.step for event in read_events(run.tensorboard) if event.session_log.status == SessionLog.START]
    assert starts == [11]


def test_weights_and_biases_gets_the_same_keys(run, monkeypatch):
    """A stand-in for the package: what it is asked for, and what it is given."""
    said = []
    log = SimpleNamespace(log=lambda row, step: said.append((step, row)), finish=lambda: said.append("finished"))
    fake = SimpleNamespace(init=lambda **options: said.append(options) or log)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with MetricsWriter(run, seeds=[4, 5], tensorboard=False, wandb="mine") as writer:
        writer.write({"x": [1.0, 3.0], "y": [5.0, np.nan]}, step=10)
    options, (step, row), end = said
    assert options["project"] == "mine" and options["name"] == run.path.name and options["resume"] == "allow"
    assert step == 10 and end == "finished"
    assert row == {"x": 2.0, "seed_4/x": 1.0, "seed_5/x": 3.0, "y": 5.0, "seed_4/y": 5.0}
    again = []
    fake.init = lambda **options: again.append(options["id"]) or log
    with MetricsWriter(run, seeds=[4, 5], tensorboard=False, wandb="mine"):
        assert again == [options["id"]], "a resumed run goes on in the same one"


def test_without_the_package_the_extra_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"policygrad\[wandb\]"):
        MetricsWriter(run, tensorboard=False, wandb="mine")
