"""`policygrad doctor`: sentences and JSON."""

import json

import pytest

from policygrad.cli.main import main

TINY = ["--n-envs", "4", "--net", "8", "--total-timesteps", "400", "--log-every", "100", "--eval-every", "0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    def train(name, *options):
        path = tmp_path_factory.mktemp("runs") / name
        assert main(["train", "chain", *TINY, *options, "--no-tensorboard", "--quiet", "--path", str(path)]) == 0
        return str(path)

    return train


@pytest.fixture(scope="module")
def run(trained):
    """20 gradient steps."""
    return trained("one")


@pytest.fixture(scope="module")
def stuck(trained):
    """200 gradient steps that do nothing."""
    return trained("stuck", "--total-timesteps", "4000", "--learning-rate", "1e-8")


def test_sentences_name_the_number_its_limit_and_the_flag(run, capsys):
    assert main(["doctor", run, "--no-measure"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{run}: a2c on chain, 400 steps\n1. ")
    assert "The budget of 400 steps is 20 gradient steps.\n   few-updates: 20, limit 100\n" in out
    assert "try: --total-timesteps" in out and not err


def test_the_last_policy_is_measured_where_it_did_not_learn(stuck, capsys):
    assert main(["doctor", stuck, "--json", "--trajectories", "16"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["not_measured"] is None and report["seeds"] == 1 and "playing 16 episodes" in err
    assert all(set(one) == {"name", "words", "value", "limit", "flag"} for one in report["verdicts"])
    assert "hardly-moves" in [one["name"] for one in report["verdicts"]]


def test_nothing_is_played_where_no_rule_would_read_it(run, capsys):
    assert main(["doctor", run, "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["not_measured"] == "no need" and "playing" not in err
    assert [one["name"] for one in report["verdicts"]] == ["few-updates"]


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["doctor", str(tmp_path / "nowhere")]) == 2
    assert "there is no run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_of_several_seeds_says_so(trained, capsys):
    assert main(["doctor", trained("three", "--seeds", "3"), "--no-measure"]) == 0
    assert "a2c on chain, 400 steps, 3 seeds\n1. " in capsys.readouterr().out
