"""``policygrad sweep`` as a user meets it."""

import json
import signal

import pytest

from policygrad.cli import sweep as cli_sweep
from policygrad.cli.signals import Stopped
from policygrad.run import sweep as module

TINY = [
    *("sweep", "chain", "--total-timesteps", "320", "--n-envs", "4", "--n-steps", "8", "--net", "8"),
    *("--eval-episodes", "4", "--max-episode-steps", "20", "--seeds", "2", "--gamma", "0.9", "--gae-lambda", "0,1"),
]


def test_it_says_how_much_it_will_do_and_what_came_of_it(cli, tmp_path):
    code, out, err = cli(*TINY, "--out", str(tmp_path), "--trajectories", "0")
    assert code == 0
    assert "a2c-gae on chain: 4 runs (1 γ × 2 λ × 2 seeds), 320 steps each, 1,280 in all" in out
    assert "λ = 1" in out and "bias²" not in out and f"made: {tmp_path}/chain/sweep-1" in out
    assert "best: " in out and "intervals of 2 seeds are much too narrow: give at least 4 seeds" in out
    assert "training: 100%" in err and "measuring" not in err
    assert (tmp_path / "chain" / "sweep-1" / "map.png").read_bytes().startswith(b"\x89PNG")


def test_json_is_one_object_and_nothing_else(cli, tmp_path):
    code, out, err = cli(*TINY, "--out", str(tmp_path), "--trajectories", "0", "--json")
    report = json.loads(out)
    assert code == 0 and err == "" and report["gradient"] is None and report["runs"] == 4
    assert report["recipe"]["n_envs"] == 4 and "gamma" not in report["recipe"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--gamma", "0.9,1.2"], "gamma must be numbers in [0, 1], not 1.2"),
        (["--gamma", "0.9-0.99"], "'0.9-0.99' is not numbers joined by ','"),
        (["--gae-lambda", "1,1"], "gae_lambda holds 1 twice"),
        (["--algo", "reinforce"], "reinforce has no λ"),
        (["--algo", "a2x"], "unknown algorithm 'a2x'"),
        (["--seeds", "none"], "invalid int value: 'none'"),
        (["--score", "finl"], "invalid choice: 'finl'"),
        (["--stop-reward", "3"], "unknown option --stop-reward"),
        (["--trajectories", "5"], "at least four batches"),
        (["--clip-range", "0.1"], "clip_range does nothing here"),
    ],
)
def test_mistakes_are_one_sentence(cli, argv, message, tmp_path):
    code, _, err = cli("sweep", "chain", "--out", str(tmp_path), *argv)
    assert code == 2 and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_world_is_named(cli):
    code, _, err = cli("sweep", "CartPol-v1")
    assert code == 2 and "Did you mean CartPole-v1" in err


@pytest.mark.parametrize(("what", "kept"), [("training", "saves nothing"), ("measuring", "saved in results.json")])
def test_ctrl_c_says_what_is_kept(cli, monkeypatch, what, kept):
    def stopped(*args, tell, **options):
        tell(what, 1, 4)
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(module, "sweep", stopped)
    code, _, err = cli(*TINY)
    assert code == 130 and f"stopped at 25% of the {what}" in err and kept in err


def test_defaults_are_those_of_python():
    own = cli_sweep.OWN
    assert (own["gamma"], own["gae_lambda"]) == (module.GAMMAS, module.LAMBDAS)
    assert own["score"] in module.SCORES
