"""``pg.credit`` and ``policygrad credit``: figures by hand, choices, pictures, and one sentence for what cannot be."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

import policygrad as pg
from policygrad.cli.main import main
from policygrad.envs.tabular import chain
from policygrad.measure.credit import credit as credit_of
from policygrad.measure.rungs import make_rungs
from policygrad.run.crediting import LENGTHS, place_of

SMALL = {"trajectories": 16, "gamma": 0.9}


@pytest.fixture(scope="module")
def world():
    env = chain(4, slip=0.1, horizon=12, time_limit=12)
    return env, pg.make_model(env.observation_space, env.action_space, key=jax.random.key(0), policy="tabular")


@pytest.fixture(scope="module")
def report(world):
    return pg.credit(*world, **SMALL, fresh=32)


def test_the_figures_are_those_of_the_same_trajectories_by_hand(world, report):
    env, model = world
    batch = pg.episode_collector(pg.autoreset(env, 12), 16).collect(model, None, jax.random.key(0))[1]
    rungs = make_rungs(["reinforce", "reinforce-togo", "gae"], gamma=0.9, objective="approximation")
    found = credit_of(model, batch, {"likelihood": None} | rungs, gamma=0.9)
    assert list(report.credit.rungs) == ["likelihood", "reinforce", "reinforce-togo", "gae"]
    for name, rung in found.rungs.items():
        np.testing.assert_allclose(report.credit.rungs[name].psi, rung.psi, atol=1e-6)
        np.testing.assert_allclose(report.credit.rungs[name].change, rung.change, atol=1e-5)
        best, worst = (np.argsort(found.ret, kind="stable")[part] for part in (slice(-4, None), slice(4)))
        total = rung.change.sum(axis=0)
        np.testing.assert_allclose(report.quarters(name), (total[best].mean(), total[worst].mean()), atol=1e-5)
    rows = int(np.asarray(batch.mask).sum())
    assert report.negative("gae") == pytest.approx((found.rungs["gae"].psi < 0).sum() / rows)
    assert report.negative("likelihood") == 0
    discount = 0.9 ** np.arange(12)[:, None]
    np.testing.assert_allclose(report.credit.ret, (discount * np.asarray(batch.reward)).sum(axis=0), atol=1e-6)


def test_the_step_is_as_long_as_asked_and_good_walks_go_up(report):
    for name, rung in report.credit.rungs.items():
        assert rung.kl == pytest.approx(1e-3, rel=1e-2), name
    for name in ("reinforce", "reinforce-togo", "gae"):
        best, worst = report.quarters(name)
        assert best > worst and report.credit.correlation(name) > 0.3
    for points in report.curves.values():
        np.testing.assert_allclose([p.kl for p in points], LENGTHS, rtol=0.5)  # on the rows of fresh episodes


def test_a_trajectory_is_chosen_by_its_return_or_its_number():
    ret = np.array([3.0, 1.0, 2.0, 0.0, 5.0])
    assert [place_of(word, ret) for word in ("worst", "median", "best", 2)] == [3, 2, 4, 2]
    for wrong in (5, -1, "middle", True, 1.0):
        with pytest.raises(ValueError, match="there is no trajectory"):
            place_of(wrong, ret)


def test_what_is_printed_and_written_is_the_same(report, tmp_path):
    folder = report.save(tmp_path / "new" / "folder")
    assert sorted(path.name for path in folder.iterdir()) == ["credit.json", "credit.svg", "steps.svg"]
    told, words = json.loads((folder / "credit.json").read_text()), str(report)
    rung = told["rungs"]["gae"]
    assert len(rung["psi"]) == len(rung["change"]) == len(told["reward"]) == report.length
    assert len(rung["change_of_trajectories"]) == 16 and len(rung["after_steps"]) == len(LENGTHS)
    assert f"{rung['psi'][0]:.3g} ({rung['change'][0]:+.1e})" in words
    assert all(f"- {sentence}" in words for sentence in told["sentences"])
    assert f"{told['pairs']:,} pairs of rows share state and action" in words
    for name in ("credit", "steps"):
        assert (folder / f"{name}.svg").read_text().rstrip().endswith("</svg>")


def test_a_policy_without_a_critic_has_a_mean_baseline_and_nothing_fresh_leaves_no_old_picture(world, tmp_path):
    env, _ = world
    model = pg.make_model(
        env.observation_space, env.action_space, key=jax.random.key(0), policy="tabular", critic=False
    )
    (tmp_path / "steps.svg").write_text("of an earlier report")
    report = pg.credit(env, model, **SMALL, fresh=0)
    assert list(report.credit.rungs)[-1] == "reinforce-mean" and not report.curves
    assert "fresh episodes were not asked for" in str(report)
    assert not (report.save(tmp_path) / "steps.svg").exists()
    with pytest.raises(ValueError, match="'gae' needs a critic"):
        pg.credit(env, model, rungs=["gae"], **SMALL)


def test_rewards_of_zero_move_nothing_but_the_likelihood(world):
    env, model = world
    nothing = replace(env, reward_value=0 * env.reward_value)
    report = pg.credit(nothing, model, rungs=["reinforce-togo"], **SMALL, fresh=8)
    assert report.credit.rungs["likelihood"].step > 0
    assert report.credit.rungs["reinforce-togo"].step == 0 and not report.curves
    assert "All returns are the same" in str(report) and "every gradient is zero" in str(report)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"trajectories": 3}, "trajectories must be a whole number of at least 4"),
        ({"fresh": 1}, "one fresh episode has no spread"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"kl": 0.0}, "a step needs a positive length"),
        ({"rungs": ["gea"]}, "gea"),
        ({"episode": "first"}, "there is no trajectory 'first'"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(world, wrong, words):
    with pytest.raises(ValueError, match=words):
        pg.credit(*world, **(SMALL | wrong))


def test_the_command_on_gymnasium_and_on_a_run(capsys, tmp_path):
    run = pg.train("gym:CartPole-v1", "a2c", total_timesteps=200, out=tmp_path, tensorboard=False, net=(8,))
    folder = str(tmp_path / "out")
    argv = ["credit", str(run.path), "--trajectories", "4", "--max-episode-steps", "20", "--episode", "best"]
    assert main([*argv, "--out", folder]) == 0
    words = capsys.readouterr().out
    assert "gym:CartPole-v1: 4 trajectories" in words and "that needs a pure JAX world" in words
    assert f"made: {folder} (credit.svg, credit.json)" in words
    assert main([*argv, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["returns"][told["episode"]] == max(told["returns"])
    for wrong, sentence in ((["--kl", "0"], "--kl is 0"), (["--rungs", ","], "--rungs needs names"),
                            (["--episode", "9"], "there is no trajectory 9")):  # fmt: skip
        assert main([*argv, *wrong]) == 2
        err = capsys.readouterr().err
        assert sentence in err and len(err.splitlines()) == 1
