"""``policygrad ope`` and ``train --algo offpolicy``, as they are typed."""

import json

import numpy as np
import pytest

import policygrad as pg
from policygrad.cli.main import main
from policygrad.run.recording import record
from policygrad.storage import datasets

PROBE = "probe:observation-action"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run that has hardly learned, and 100 of its episodes in a file; the same without propensities."""
    folder = tmp_path_factory.mktemp("made")
    run = pg.train(PROBE, "reinforce-value", total_timesteps=64, path=folder / "run", net=(8,), tensorboard=False)
    data = record(run, episodes=100, out=folder / "data.safetensors")
    datasets.save(folder / "unlogged.safetensors", data._replace(log_mu=None))
    return folder


def test_a_table_and_what_is_next(made, capsys):
    assert main(["ope", f"{made / 'run'}", "--data", f"{made / 'data.safetensors'}"]) == 0
    out = capsys.readouterr().out
    assert "100 episodes, worth 100.0 of this policy's own (100.0%); the mean weight is 1 (1 is expected)" in out
    assert "88 to 93 % were found to hold the truth" in out and "next: policygrad eval" in out
    assert all(f"\n{name} " in out for name in ("is", "wis", "pdis", "wpdis", "dr", "wdr"))


def test_json_holds_what_the_table_says(made, capsys):
    argv = ["ope", f"{made / 'run'}", "--data", f"{made / 'data.safetensors'}", "--estimators", "is,wis", "--json"]
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["estimates"]) == ["is", "wis"] and found["episodes"] == 100 and found["enough"]
    np.testing.assert_allclose(found["estimates"]["wis"]["value"], found["behaviour"]["value"], atol=1e-4)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--data", "{data}", "--estimators", "iss"], "did you mean 'is'"),
        (["--data", "{data}", "--gama", "1"], "did you mean --gamma"),
        (["--data", "{data}", "--gamma", "1.5"], "gamma must be between 0 and 1"),
        (["--data", "{data}", "--estimators", ","], "--estimators names none: give some of is, wis"),
        (["--data", "{data}", "--seed", "-1"], "--seed is -1; give 0 or more"),
        (["--data", "{unlogged}"], "no log_mu"),
        (["--data", "nowhere.safetensors"], "there is no dataset nowhere.safetensors"),
        ([], "--data is missing"),
    ],
)
def test_what_is_wrong_is_one_sentence(made, capsys, argv, words):
    files = {name: made / f"{name}.safetensors" for name in ("data", "unlogged")}
    assert main(["ope", f"{made / 'run'}", *(word.format(**files) for word in argv)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_propensities_from_another_run(made, capsys):
    run, data = f"{made / 'run'}", f"{made / 'unlogged.safetensors'}"
    assert main(["ope", run, "--data", data, "--behaviour", run]) == 0
    assert "worth 100.0" in capsys.readouterr().out


def test_training_on_a_file(made, tmp_path, capsys):
    options = ["--total-timesteps", "512", "--n-envs", "32", "--net", "8", "--eval-every", "0", "--no-tensorboard"]
    where = ["--data", f"{made / 'data.safetensors'}", "--path", f"{tmp_path / 'learned'}"]
    assert main(["train", PROBE, "--algo", "offpolicy", *where, *options]) == 0
    run = pg.load(tmp_path / "learned")
    assert run.recipe.correction == "self_normalized" and run.history["offpolicy/overlap"].shape[1] == 1
    assert f"policygrad ope {tmp_path / 'learned'}" in capsys.readouterr().out
    assert main(["ope", f"{tmp_path / 'learned'}", *where[:2], "--estimators", "wis"]) == 0
    assert "learned from these very episodes" in capsys.readouterr().out
    assert main(["doctor", f"{tmp_path / 'learned'}"]) == 2
    assert "plays no episodes that the doctor could judge" in capsys.readouterr().err
