"""``policygrad solve`` as a user meets it."""

import json

import numpy as np
import pytest

import policygrad

WORLD = {
    "initial": [1, 0],
    "transition": [[[0.5, 0.5], [0, 1]], [[0, 1], [0, 1]]],
    "reward_value": [[[1, 1], [0, 3]], [[0, 0], [0, 0]]],
    "terminal": [False, True],
}
"""Stay a while and be paid 1 a step, or take 3 and leave: worth 1/(1 − γ/2) or 3."""


@pytest.fixture
def file(tmp_path):
    def write(name="world.json", **changes):
        (tmp_path / name).write_text(json.dumps(WORLD | changes))
        return str(tmp_path / name)

    return write


def test_the_table_of_a_known_world(cli):
    code, out, err = cli("solve", "cliff", "--gamma", "1")
    assert code == 0 and err == ""
    assert "cliff: 48 states, 4 actions; policy-iteration, γ = 1" in out
    assert "value of the start: -13" in out and "try: --out FILE.csv" in out
    row = next(line.split() for line in out.splitlines() if line.split()[:1] == ["36"])
    assert row[1:3] == ["-13.0000", "-13.0000"] and row[6:] == ["1.0000", "0.0000", "0.0000", "0.0000"]
    assert next(line.split() for line in out.splitlines() if line.split()[:1] == ["47"])[2:] == ["end"] * 8
    assert "states look alike" in cli("solve", "corridor", "--gamma", "1")[1]


@pytest.mark.parametrize("method", ["value-iteration", "policy-iteration"])
def test_a_world_from_a_file(cli, file, tmp_path, method):
    np.savez(tmp_path / "world.npz", **{name: np.array(x) for name, x in WORLD.items()})
    for path in (file(), str(tmp_path / "world.npz")):
        for gamma, best in ((0.5, 3.0), (1.0, 3.0)):
            report = json.loads(cli("solve", path, "--gamma", str(gamma), "--method", method, "--json")[1])
            assert report["start_value"] == pytest.approx(best)
        assert report["q"][0] == pytest.approx([1 + 0.5 * best, best])


def test_the_default_solves_what_value_iteration_cannot(cli, file):
    """Paid 1 a step until the end, which comes once in 10⁵ steps: 10⁵ in all. And endless work near γ = 1."""
    slow = file(transition=[[[1 - 1e-5, 1e-5]], [[0, 1]]], reward_value=[[[1, 1]], [[0, 0]]], initial=[1, 0])
    report = json.loads(cli("solve", slow, "--gamma", "1", "--json")[1])
    assert report["method"] == "policy-iteration" and report["start_value"] == pytest.approx(1e5)
    code, _, err = cli("solve", slow, "--gamma", "0.9999999", "--method", "value-iteration")
    assert code == 2 and "gamma = 0.9999999: take policy iteration" in err
    assert cli("solve", "apprentice", "--gamma", "0.9999")[0] == 0


def test_the_default_where_some_policy_never_ends(cli, file):
    """To stay costs nothing, to leave costs 1: policy iteration cannot begin, and the best is 0."""
    path = file(transition=[[[1, 0], [1, 0]], [[0, 1], [0, 1]]], reward_value=[[[0, 0], [-1, 0]], [[0, 0], [0, 0]]])
    report = json.loads(cli("solve", path, "--gamma", "1", "--json")[1])
    assert report["method"] == "value-iteration" and report["start_value"] == 0
    code, _, err = cli("solve", path, "--gamma", "1", "--method", "policy-iteration")
    assert code == 2 and "may never end" in err


def test_options_of_the_world(cli, file):
    assert cli("solve", "chain", "--env-kwargs", "n=12")[1].startswith("chain: 12 states")
    best = [
        json.loads(cli("solve", "RockPaperScissors-v0", "--gamma", "1", "--env-kwargs", f"opponent={who}", "--json")[1])
        for who in ("copycat", "uniform")
    ]
    assert best[0]["start_value"] > 8 and best[1]["start_value"] == pytest.approx(0)
    for name, options, words in (
        ("chain", "m=3", "m"),
        (file(), "n=3", "has all its numbers"),
        ("chain", "n", "name="),
    ):
        code, out, err = cli("solve", name, "--env-kwargs", options)
        assert code == 2 and out == "" and err.count("\n") == 1 and words in err


def test_a_temperature_whose_inverse_overflows_is_none(cli):
    soft, hard = (
        json.loads(cli("solve", "fork", "--temperature", alpha, "--gamma", "0.9", "--json")[1])
        for alpha in ("1e-320", "0")
    )
    np.testing.assert_allclose(soft["value"], hard["value"], atol=1e-12)
    np.testing.assert_allclose(np.sum(soft["policy"], axis=-1), 1)


def test_a_run_has_its_critic_held_against_the_exact_value(cli, tmp_path):
    """A2C with tables on the chain, seed 0: V of its policy by hand."""
    run = policygrad.train("chain", algo="a2c", policy="tabular", env_kwargs={"n": 4}, total_timesteps=2000, gamma=0.9,
                           learning_rate=0.05, out=tmp_path)  # fmt: skip
    report = json.loads(cli("solve", "chain", "--policy", str(run.path), "--json")[1])
    assert report["gamma"] == 0.9 and json.loads(report["env_kwargs"]) == {"n": 4} and len(report["value"]) == 4
    pi, mdp = np.array(report["policy"]), run.env
    inputs = [policygrad.types.Input(np.int32(s), np.int32(0), False) for s in range(3)]
    seen = [float(run.models[0](x, None)[0].value) for x in inputs]
    transition = np.einsum("sa,sax->sx", pi, mdp.transition)[:3]
    reward = np.einsum("sa,sax,sax->s", pi, mdp.transition, mdp.reward_value[..., 0])[:3]
    by_hand = np.linalg.solve(np.eye(3) - 0.9 * transition[:, :3], reward)
    np.testing.assert_allclose(report["value"], [*by_hand, 0], atol=1e-9)
    np.testing.assert_allclose(report["critic"], [*seen, 0], atol=1e-6)
    assert report["rms_error"] == pytest.approx(np.sqrt(np.mean((by_hand - seen) ** 2)))
    assert "RMS error of the learned V" in cli("solve", "chain", "--policy", str(run.path))[1]
    last = json.loads(cli("solve", "chain", "--policy", str(run.path), "--checkpoint", "last", "--json")[1])
    model = policygrad.load(run.path, checkpoint="last").models[0]
    np.testing.assert_allclose(last["critic"][:3], [float(model(x, None)[0].value) for x in inputs], atol=1e-6)
    code, out, err = cli("solve", "chain", "--checkpoint", "last")
    assert code == 2 and out == "" and "--checkpoint chooses between the policies of a run" in err
    code, out, err = cli("solve", "cliff", "--policy", str(run.path))
    assert code == 2 and out == "" and "another observation_space" in err


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_what_is_written_can_be_evaluated(cli, file, tmp_path, suffix):
    """Soft and hard, with a horizon and without one."""
    out = str(tmp_path / f"best{suffix}")
    for options in (["--temperature", "0.5"], ["--horizon", "3"]):
        code, words, _ = cli("solve", file(), "--out", out, *options)
        assert code == 0 and f"made: {out}" in words
        best, again = (
            json.loads(cli("solve", file(), *options, *more, "--json")[1]) for more in ([], ["--policy", out])
        )
        assert again["method"] == "policy-evaluation"
        np.testing.assert_allclose(again["value"], best["value"], rtol=1e-10)
        np.testing.assert_allclose(again["q"], best["q"], rtol=1e-10)
    horizon_from_the_policy = json.loads(cli("solve", file(), "--policy", out, "--json")[1])
    assert horizon_from_the_policy["horizon"] == 3


@pytest.mark.parametrize("method", ["td0", "n-step", "td-lambda"])
def test_a_value_learned_from_episodes(cli, tmp_path, method):
    """Seed 0, 150 episodes: uniform policy on the chain. The same seed gives the same numbers."""
    argv = ["solve", "chain", "--method", method, "--episodes", "150", "--gamma", "0.9"]
    report = json.loads(cli(*argv, "--json")[1])
    assert report["rms_error"] < 0.4 * np.sqrt(np.mean(np.square(report["exact"])))
    out = tmp_path / "v.csv"
    assert f"RMS error over the states that are no ends: {report['rms_error']:.4g}" in cli(*argv, "--out", str(out))[1]
    few = ["solve", "chain", "--method", method, "--episodes", "2", "--json"]
    assert len({cli(*few, "--seed", seed)[1] for seed in ("0", "0", "1")}) == 2
    assert out.read_text().splitlines()[0].replace('"', "") == "state,V,exact"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"transition": [[[0.5, 0.4], [0, 1]], [[0, 1], [0, 1]]]}, "transition[0, 0] sums to 0.9, not to 1"),
        ({"initial": [2, -1]}, "negative"),
        ({"initial": [1, 0, 0]}, "initial has shape (3,)"),
        ({"terminal": [0, 1]}, "must be bool"),
        ({"reward_value": [[[1, 1], [0]], [[0, 0], [0, 0]]]}, "nested lists of numbers, each row as long"),
        ({"transition": None}, "nested lists of numbers"),
        ({"horizon": 3.5}, "horizon is 3.5; give a whole number"),
        ({"horizon": "x"}, "horizon is x; give a whole number"),
        ({"horizn": 3}, "'horizn', which no TabularMDP has: did you mean horizon?"),
    ],
)
def test_bad_worlds_are_one_sentence(cli, file, changes, words):
    path = file(**changes)
    code, out, err = cli("solve", path)
    assert code == 2 and out == "" and err.count("\n") == 1 and path in err and words in err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["chian"], "did you mean chain?"),
        (["CartPole-v1"], "CartPole-v1 is no tabular world"),
        (["lqr"], "only what is given by its arrays"),
        (["no.json"], "there is no file no.json"),
        (["chain", "--gamma", "1.5"], "gamma is 1.5"),
        (["chain", "--methd", "td0"], "did you mean --method?"),
        (["chain", "--method", "sarsa"], "invalid choice: 'sarsa'"),
        (["chain", "--out", "x.txt"], "must end in .json, .csv, .parquet"),
        (["chain", "--policy", "p.json", "--method", "value-iteration"], "finds its own"),
        (["random", "--method", "td0"], "random has a horizon"),
        (["chain", "--method", "td0", "--horizon", "3"], "td0 has one V"),
        (["chain", "--method", "td0", "--temperature", "1"], "--temperature is for"),
        (["chain", "--step-size", "0"], "--step-size above 0"),
        (["chain", "--episodes", "0"], "positive"),
        (["chain", "--method", "td0", "--seed", "-1"], "--seed is -1"),
    ],
)
def test_mistakes_are_one_sentence(cli, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("solve", *argv)
    assert code == 2 and out == "" and err.count("\n") == 1 and words in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ([[0.5, 0.6], [1, 0]], "policy[0] is (0.5, 0.6): probabilities must be"),
        ([[1, 0]], "shape (1, 2)"),
        ([[1, 0], [1]], "must be numbers"),
        ({"pi": 1}, "has no 'policy'"),
    ],
)
def test_bad_policies_are_one_sentence(cli, file, tmp_path, policy, words):
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    code, out, err = cli("solve", file(), "--policy", str(tmp_path / "policy.json"))
    assert code == 2 and out == "" and err.count("\n") == 1 and words in err
