"""`policygrad doctor`: sentences and JSON."""

import json

import pytest

from policygrad.cli.main import main

TINY = ["--n-envs", "4", "--net", "8", "--total-timesteps", "400", "--log-every", "100", "--eval-every", "0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "one"
    assert main(["train", "chain", *TINY, "--no-tensorboard", "--quiet", "--path", str(path)]) == 0
    return str(path)


def test_sentences_name_the_number_its_limit_and_the_flag(run, capsys):
    assert main(["doctor", run, "--no-measure"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{run}: a2c on chain, 400 steps\n1. ")
    assert "The budget of 400 steps is 20 gradient steps.\n   few-updates: 20, limit 100\n" in out
    assert "try: --total-timesteps" in out and not err


def test_the_last_policy_is_measured_where_the_return_did_not_rise(run, capsys):
    assert main(["doctor", run, "--json", "--trajectories", "16"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["not_measured"] is None and report["seeds"] == 1 and "playing 16 episodes" in err
    assert all(set(one) == {"name", "words", "value", "limit", "flag"} for one in report["verdicts"])
    assert "few-updates" in [one["name"] for one in report["verdicts"]]


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["doctor", str(tmp_path / "nowhere")]) == 2
    assert "there is no run" in capsys.readouterr().err
