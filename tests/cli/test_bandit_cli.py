"""``policygrad bandit`` as a user meets it."""

import json
import re

import numpy as np
import pytest

from policygrad.bandits import load_bandit
from policygrad.cli.main import main
from policygrad.storage.tables import read_table

FRUIT = "colour,weight,kind\n" + "".join(
    f"{c},{w},{k}\n" for c, w, k in [("red", 150, "apple"), ("yellow", 120, "banana")] * 30
)


@pytest.fixture
def cli(capsys):
    def run(*argv):
        code = main(["bandit", *map(str, argv)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def fruit(tmp_path):
    path = tmp_path / "fruit.csv"
    path.write_text(FRUIT)
    return path


def test_the_explorers_are_compared(cli):
    code, out, _ = cli("iris", "--shuffles", "3", "--explorer", "squarecb,linucb")
    assert code == 0 and "iris: 150 rows, 4 features, 3 actions; 3 shuffles, seed 0" in out
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert float(lines["squarecb"].split()[1]) > 0.6 and " to " in lines["squarecb"]
    assert "(" in lines["linucb"] and "(" not in lines["squarecb"], "differences are against the first"
    assert lines["uniform"].split()[1] == "0.3333" and "next: policygrad bandit iris --explorer " in out


def test_losses_and_json(cli):
    code, out, _ = cli(
        "iris", "--shuffles", "2", "--explorer", "epsilon-greedy", "--losses", "--json", "--epsilon", "1"
    )
    found = json.loads(out)
    assert code == 0 and len(found["loss"][0]["each"]) == 2 and found["constant"]["uniform"] == pytest.approx(2 / 3)
    assert np.mean(found["loss"][0]["each"]) == pytest.approx(2 / 3, abs=0.12), "ε = 1 is chance"


def test_a_log_is_written_learned_from_and_judged(cli, fruit, tmp_path):
    log, model = tmp_path / "log.parquet", tmp_path / "model.safetensors"
    code, out, _ = cli(fruit, "--label", "kind", "--log", log, "--save", model, "--gamma-scale", "3")
    assert code == 0 and f"made: {log}\nmade: {model}\n" in out
    columns = read_table(log)
    assert list(columns) == ["row", "action", "reward", "propensity", "probabilities", "colour", "weight"]
    assert sorted(columns["row"]) == list(range(60)) and columns["probabilities"].shape == (60, 2)
    chosen = (columns["action"] == "banana").astype(int)
    np.testing.assert_allclose(columns["probabilities"][np.arange(60), chosen], columns["propensity"])
    truth = np.where(columns["colour"] == "red", "apple", "banana")
    np.testing.assert_array_equal(columns["reward"], columns["action"] == truth)
    assert int(load_bandit(model).state.rows) == 60
    code, out, _ = cli(log, "--logged", "--oracle", "gradient", "--json")
    found = json.loads(out)
    assert code == 0 and found["rows"] == 60 and found["actions"] == ["apple", "banana"]
    assert found["value"]["mean"] > 0.6 and 1 < found["value"]["effective"] <= 60


def test_a_saved_bandit_goes_on(cli, fruit, tmp_path):
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    assert cli(fruit, "--label", "kind", "--save", first, "--shuffles", "0", "--losses")[0] == 0
    code, out, _ = cli(fruit, "--label", "kind", "--resume", first, "--save", second)
    assert code == 0 and "squarecb, 60 rows learned; 60 more" in out
    saved = load_bandit(second)
    assert int(saved.state.rows) == 120 and saved.recipe["options"]["losses"] is True


def test_hashed_features_and_a_network(cli, fruit):
    options = ("--bits", "4", "--oracle", "network", "--hidden", "8", "--explorer", "softmax", "--shuffles", "2")
    code, out, _ = cli(fruit, "--label", "kind", *options)
    assert code == 0 and "16 features" in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("mnist",), "there is no data 'mnist'"),
        (("iris", "--label", "kind"), "iris has its own label"),
        (("FRUIT",), "which column of .* is the label"),
        (("FRUIT", "--label", "weigth"), "has no column 'weigth'; it has colour, weight, kind"),
        (("iris", "--gama-scale", "3"), "did you mean --gamma-scale"),
        (("iris", "--explorer", "thompson"), "there is no explorer 'thompson': choose of squarecb"),
        (("iris", "--save", "x.safetensors", "--explorer", "squarecb,softmax"), "choose one --explorer"),
        (("iris", "--log", "x.csv"), "must end in .parquet"),
        (("iris", "--hidden", "8"), "--hidden is for --oracle network, and the oracle is linear"),
        (("iris", "--epsilon", "0.1", "--explorer", "linucb"), "--epsilon is for epsilon_greedy"),
        (("iris", "--oracle", "network", "--explorer", "linucb"), "leave --oracle out"),
        (("iris", "--shuffles", "-1"), "--shuffles is -1"),
        (("iris", "--seed", "-1"), "--seed is -1; give 0 or more"),
        (("iris", "--batch", "0"), "--batch is 0; give 1 or more"),
        (("iris", "--steps", "5"), "--steps is for environments, and iris is a table"),
        (("iris", "--actions", "5"), "--actions is for --logged"),
        (("PageLayout-v0", "--label", "kind"), "--label is for tables, and PageLayout-v0 is an environment"),
        (("PageLayout-v0", "--shuffles", "0"), "give 1 run or more"),
        (("PageLayout-v1", "--steps", "5"), "no environment 'PageLayout-v1'"),
        (("gym:CartPole-v1",), "is stepped on the host; a bandit plays pure environments"),
        (("Pendulum-v1",), "a bandit needs Discrete actions"),
        (("iris", "--resume", "nothing.safetensors"), "there is no checkpoint nothing.safetensors"),
        (("iris", "--resume", "x.safetensors", "--bits", "3"), "--bits is fixed in x.safetensors"),
        (("iris", "--resume", "x.safetensors", "--ridge", "3"), "--ridge is fixed in x.safetensors"),
        (("FRUIT", "--logged"), "the log has no column 'action'"),
        (("FRUIT", "--logged", "--label", "kind"), "--label means nothing with --logged"),
        (("iris", "--bits", "99"), "bits is 99"),
        (("iris", "--hidden", "a"), "is no list of widths"),
    ],
)
def test_bad_input_is_one_sentence_and_makes_nothing(cli, fruit, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = cli(*[fruit if word == "FRUIT" else word for word in argv])
    assert code == 2 and err.count("\n") == 1 and "Traceback" not in err
    assert re.search(words, err), err
    assert [path.name for path in tmp_path.iterdir()] == ["fruit.csv"]


def test_what_diverges_is_said_and_not_written(cli, tmp_path):
    options = ("--oracle", "network", "--learning-rate", "1e30", "--explorer", "squarecb", "--shuffles", "1")
    code, _, err = cli("iris", *options, "--save", tmp_path / "bandit.safetensors", "--log", tmp_path / "log.parquet")
    assert code == 1 and err.count("\n") == 1 and "squarecb has diverged" in err and not list(tmp_path.iterdir())


def test_an_environment_is_played(cli):
    options = ("--explorer", "squarecb,epsilon_greedy", "--epsilon", "1", "--shuffles", "2", "--steps", "1000")
    code, out, _ = cli("PageLayout-v0", *options)
    assert code == 0 and "PageLayout-v0: 4 features, 3 actions; 2 runs of 1,000 steps, seed 0" in out
    rewards = {line.split()[0]: float(line.split()[1]) for line in out.splitlines() if " to " in line}
    assert rewards["squarecb"] > 0.6 > rewards["epsilon_greedy"], "ε = 1 is chance, 0.45"
    assert f"per episode: squarecb {rewards['squarecb']:.4g}" in out, "an episode is one page"


def test_a_batch_is_a_delay_that_is_stated(cli):
    options = ("--explorer", "squarecb", "--shuffles", "1", "--json", "--gamma-exponent", "30")
    one, delayed = (json.loads(cli("iris", *options, "--batch", n)[1])["reward"][0]["each"] for n in ("1", "150"))
    assert delayed[0] < 0.45 < 0.5 < one[0], "a single batch is chosen before anything is learned"
    assert "150 rows at a time, a delay of up to 150 rows" in cli("iris", *options[:-3], "--batch", "150")[1]


def test_labels_that_are_whole_numbers_in_floats(cli, tmp_path):
    path = tmp_path / "numbers.csv"
    path.write_text("x,y\n" + "0.5,1.0\n-0.5,2.0\n" * 5)
    assert "2 actions" in cli(path, "--label", "y", "--explorer", "squarecb", "--shuffles", "1")[1]
    path.write_text("x,y\n0.5,1.5\n-0.5,2.0\n")
    code, _, err = cli(path, "--label", "y")
    assert code == 2 and "must be words, whole numbers or truths" in err


def test_actions_that_never_appear_are_told(cli, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("action,reward,propensity,x\n" + "2,1,0.5,0.1\n10,0,0.25,0.3\n" * 4)
    options = ("--logged", "--explorer", "squarecb", "--json")
    assert json.loads(cli(log, *options)[1])["actions"] == ["2", "10"]
    assert json.loads(cli(log, *options, "--actions", "12")[1])["actions"] == [str(n) for n in range(12)]


def test_many_features_are_noted(cli, tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("w,y\n" + "".join(f"word{n},{'ab'[n % 2]}\n" for n in range(501)))
    options = ("--label", "y", "--explorer", "squarecb", "--shuffles", "1")
    assert "note: 501 features are many" in cli(path, *options)[1]
    assert "note:" not in cli(path, *options, "--oracle", "gradient", "--bits", "6")[1]


def test_intervals_over_few_shuffles_are_students():
    """1, 2 and 3: the mean 2 ± 4.303·1/√3."""
    from policygrad.cli.bandit import between

    assert between([1.0, 2.0, 3.0]) == "-0.4841 to 4.4841" and between([1.0]) == ""
