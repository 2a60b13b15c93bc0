"""``policygrad measure``: a table for people, JSON for programs, one sentence for what is wrong."""

import json
from pathlib import Path

import pytest

from policygrad.cli.main import main
from policygrad.cli.measure import is_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    import policygrad as pg

    path = tmp_path_factory.mktemp("runs") / "chain"
    options = {"total_timesteps": 640, "net": (4,), "max_episode_steps": 8, "eval_every": 0, "tensorboard": False}
    pg.train("chain", "a2c", path=path, **options)
    return str(path)


def test_a_run_is_measured(run, tmp_path, capsys):
    out = tmp_path / "report"
    options = ["--trajectories", "64", "--batch", "8", "--rungs", "reinforce-mean,gae:0.9", "--out", str(out)]
    assert main(["measure", run, *options]) == 0
    shown = capsys.readouterr().out
    assert "chain: J = E[Σ γ^t r_t], γ = 0.99" in shown and f"made: {out / 'report.html'}" in shown
    for name in ("reinforce", "reinforce-mean", "gae:0.9", "as trained"):
        assert f"\n{name} " in shown
    assert (out / "report.json").exists() and (out / "worth.svg").exists()
    assert main(["measure", run, *options[:6], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measurement"]["trajectories"] == 64


def test_exactly_and_without_training(tmp_path, capsys):
    """As JSON and as a page, from which an earlier report's pictures are gone."""
    (tmp_path / "parts.svg").write_text("old")
    arguments = ["measure", "corridor", "--exact", "--after", "0", "--algo", "reinforce", "--out", str(tmp_path),
                 "--rungs", "reinforce-togo,reinforce-mean"]  # fmt: skip
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measurement"]["exact"] and "reinforce-mean" in found["measurement"]["refused"]
    assert not (tmp_path / "parts.svg").exists() and (tmp_path / "worth.svg").exists()
    assert main(["measure", "corridor", "--env", "chain"]) == 2
    assert "--env is for a run's policy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rungs", "gea"], "unknown rung 'gea': did you mean 'gae'"),
        (["--rungs", ","], "--rungs needs names"),
        (["--trajectories", "3"], "trajectories must be a whole number of at least 4, not 3"),
        (["--trajectories", "16", "--batch", "8"], "give at least 32 trajectories, or a smaller batch"),
        (["--trajectory", "3"], "unknown option --trajectory: did you mean --trajectories?"),
        (["--gamma", "1.5"], "gamma must be in [0, 1], not 1.5"),
        (["--objective", "mean"], "invalid choice"),
        (["--env", "CartPole-v1"], "the policy's observation space is"),
    ],
)
def test_bad_input_is_one_sentence(run, arguments, words, capsys):
    assert main(["measure", run, *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_no_run_and_no_environment(run, capsys, monkeypatch):
    assert main(["measure", "runs/none/a2c-1"]) in (1, 2)
    assert "runs/none/a2c-1" in capsys.readouterr().err
    assert main(["measure", "CartPole-v2"]) == 2
    assert "CartPole-v1" in capsys.readouterr().err
    assert main(["measure", str(Path(run).parent)]) == 2
    assert f"{run}, the newest in it" in capsys.readouterr().err
    monkeypatch.chdir(Path(run).parents[1])
    assert main(["measure", Path(run).parent.name]) == 2, "a folder of one part"
    assert "the newest in it" in capsys.readouterr().err
    for name in ("CartPole-v1", "Blackjack-v1"):
        Path(name).mkdir()
        assert not is_run(name), "an environment, whatever lies here"


@pytest.mark.parametrize("verb", ["measure", "credit"])
def test_options_are_looked_at_before_a_policy_is_trained(verb, monkeypatch, capsys):
    from policygrad.run import api

    monkeypatch.setattr(api, "proceed", lambda run: pytest.fail("it trained"))
    wrong = [("--trajectories", "-1"), ("--rungs", "gea"), ("--gamma", "nan")]
    for option in wrong + [("--batch", "0"), ("--exact",)] * (verb == "measure"):
        assert main([verb, "CartPole-v1", *option]) == 2
        assert capsys.readouterr().err.count("\n") == 1
