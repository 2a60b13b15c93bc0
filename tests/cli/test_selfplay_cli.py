"""``policygrad selfplay`` as a user meets it."""

import json
import sys

import pytest

from policygrad.cli.main import main
from policygrad.cli.selfplay import DEFAULTS, METHODS
from policygrad.games import METHODS as ALL
from policygrad.games import selfplay as play


@pytest.fixture
def cli(capsys):
    def run(*argv):
        code = main(["selfplay", *argv])
        return code, *capsys.readouterr()

    return run


def test_it_says_how_exploitable_the_policies_are_and_what_it_made(cli, tmp_path):
    code, out, err = cli("rps", "--steps", "300", "--out", str(tmp_path))
    folder = tmp_path / "rps" / "selfplay-1"
    assert code == 0 and err == ""
    assert "rps: 3 × 3, zero-sum; entropy, exact gradients, seed 0" in out
    assert "row's last policy: rock 0.333, paper 0.333, scissors 0.333" in out
    assert f"made: {folder}" in out and "try next: policygrad selfplay rps --method plain" in out
    assert (folder / "policies.png").read_bytes().startswith(b"\x89PNG")
    saved = json.loads((folder / "results.json").read_text())
    assert saved["final"]["exploitability"] < 0.01 and saved["step"][-1] == 300
    assert sorted(path.name for path in folder.iterdir()) == ["policies.png", "results.json"]


def test_plain_play_is_told_apart_and_json_is_one_object(cli, tmp_path):
    code, out, _ = cli("rps", "--steps", "3000", "--method", "plain", "--json", "--out", str(tmp_path))
    found = json.loads(out)
    assert code == 0 and found["final"]["exploitability"] > 0.5 and found["options"]["method"] == "plain"
    code, out, _ = cli("rps", "--steps", "3000", "--method", "plain", "--out", str(tmp_path))
    assert "try next: policygrad selfplay rps --method entropy" in out


def test_any_payoff_matrix_from_a_file(cli, tmp_path):
    path = tmp_path / "market.csv"
    path.write_text(",low,middle,high\nlow,0,1,-1\nhigh,1,-1,2\n")
    code, out, _ = cli(str(path), "--steps", "300", "--batch", "8", "--method", "average", "--out", str(tmp_path))
    assert code == 0 and "market: 2 × 3, zero-sum; average, 8 sampled games" in out
    assert f"try next: policygrad selfplay {path}" in out
    assert "column's mean policy: low" in out and (tmp_path / "market" / "selfplay-1" / "policies.png").exists()


def test_a_stop_keeps_what_was_played(cli, tmp_path, monkeypatch):
    home = sys.modules["policygrad.games.selfplay"]
    played = home.moments_of_play

    def stopped(*args, **given):
        for moment in played(*args, **given):
            yield moment
            if moment.step == 20:
                raise KeyboardInterrupt

    monkeypatch.setattr(home, "moments_of_play", stopped)
    code, _, err = cli("rps", "--steps", "300", "--out", str(tmp_path))
    saved = json.loads((tmp_path / "rps" / "selfplay-1" / "results.json").read_text())
    assert code == 130 and "the first 20 of 300 steps are in" in err and saved["step"] == list(range(21))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rsp"], "there is no game and no file 'rsp': did you mean rps"),
        (["bad.csv"], "line 1 holds 'inf', which is no finite number"),
        (["wide.csv", "--symmetric"], "needs a square payoff matrix, and this one is 2 × 3"),
        (["rps", "--method", "plane"], "invalid choice: 'plane'"),
        (["rps", "--steps", "0"], "steps must be at least 1"),
        (["rps", "--batch", "3000000000"], "batch must be at most 16,666,666 games with 3 actions"),
        (["rps", "--batch", "1"], "or at least 2 games"),
        (["rps", "--seed", "-1"], "seed must be in [0, 2147483647]"),
        (["rps", "--mehtod", "plain"], "did you mean --method"),
        ([], "the following arguments are required: GAME"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_written(cli, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("0,inf\n1,0\n")
    (tmp_path / "wide.csv").write_text("0,1,2\n1,0,1\n")
    code, _, err = cli(*argv)
    assert code == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_command_knows_the_methods_and_defaults_of_the_function():
    assert METHODS == ALL
    defaults = play.__kwdefaults__ | {"method": play.__defaults__[0]}
    assert all(defaults[name] == DEFAULTS[name] for name in DEFAULTS if name != "seed")
