"""Clones: whole episodes on one side, early stopping, a run's folder, DAgger, and the way on by policy gradient."""

import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad as pg
from policygrad.cli.main import main
from policygrad.envs.tabular import fork
from policygrad.models.actor_critic import unroll
from policygrad.run import cloning
from policygrad.run.api import begin
from policygrad.run.demonstrations import as_trajectory, fingerprints, paired, split, without_leakage
from policygrad.run.initial import begin_from
from policygrad.run.policy import PolicyState
from policygrad.storage.datasets import Dataset, DatasetError, load, save, select

NET = (8,)
QUICK = {"net": NET, "learning_rate": 0.03, "batch_size": 32, "tensorboard": False}


def rule(obs):
    """The demonstrator: push to where the pole falls."""
    return (obs[:, 2] + obs[:, 3] > 0).astype(np.int32)


def demonstrations(n=12, seed=0, **about):
    """CartPole's observations, at random, with the demonstrator's actions."""
    rng = np.random.default_rng(seed)
    length = rng.integers(4, 9, n)
    obs = rng.normal(scale=0.1, size=(length.sum(), 4)).astype(np.float32)
    return Dataset(
        obs=obs, action=rule(obs), reward=np.ones(len(obs), np.float32), log_mu=None, length=length,
        terminated=np.ones(n, bool), final_obs=obs[:n], about={"env": "CartPole-v1"} | about,
    )  # fmt: skip


class Expert:
    """The demonstrator as a policy."""

    def act(self, obs, *, deterministic, state, episode_start, reward):
        assert deterministic
        return rule(obs), PolicyState(None, None, None) if state is None else state


# Two sides


@pytest.mark.parametrize(("n", "share", "held"), [(10, 0.1, 1), (10, 0.35, 4), (2, 0.01, 1), (5, 0, 0)])
def test_whole_episodes_on_one_side(n, share, held):
    train, out = split(demonstrations(n), share, seed=3)
    assert len(out) == held and sorted([*train, *out]) == list(range(n))
    again = split(demonstrations(n), share, seed=3)[1]
    np.testing.assert_array_equal(out, again)


def test_one_episode_cannot_be_divided():
    with pytest.raises(DatasetError, match="1 episode cannot be divided"):
        split(demonstrations(1), 0.1, 0)


def test_an_episode_on_both_sides_is_refused_or_dropped():
    data = select(demonstrations(4), [0, 1, 2, 3, 1, 0])
    train, held = np.array([0, 1, 2]), np.array([3, 4, 5])
    with pytest.raises(DatasetError, match=r"2 of 3 held-out episodes.*identical: 1 and 4, 0 and 5.*duplicates=drop"):
        without_leakage(data, train, held, "refuse")
    kept = without_leakage(data, train, held, "drop")
    assert [side.tolist() for side in kept] == [[0, 1, 2], [3]]
    repeated = without_leakage(data, np.array([0, 2, 5]), np.array([1, 3, 4]), "drop")
    assert [side.tolist() for side in repeated] == [[0, 2, 5], [1, 3, 4]], "E over the data counts repetitions"
    assert [side.tolist() for side in without_leakage(data, train, held, "keep")] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(DatasetError, match=r"leaves none to hold out.*--duplicates keep"):
        without_leakage(data, np.array([0, 1]), np.array([4, 5]), "drop")
    twice = np.array([0, 5]), np.array([3])
    assert [side.tolist() for side in without_leakage(data, *twice, "refuse")] == [[0, 5], [3]], (
        "one side leaks nothing"
    )


# Learning


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clone of the demonstrator in a folder, and its file."""
    folder = tmp_path_factory.mktemp("clone")
    save(folder / "d.safetensors", demonstrations(40))
    pg.clone(folder / "d.safetensors", path=folder / "clone", epochs=60, patience=5, validation=0.25, **QUICK)
    return folder


def test_a_clone_is_a_run(folder):
    run = pg.load(folder / "clone")
    fresh = demonstrations(40, seed=1)
    action, _ = run.policy.act(fresh.obs)
    assert (action == fresh.action).mean() > 0.9
    nll = run.history["eval/nll"][:, 0]
    assert run.best_reward[0] == pytest.approx(-nll.min(), rel=1e-5)
    best = int(nll.argmin())
    assert len(nll) == best + 1 + 5 or len(nll) == 60, "patience"
    assert (folder / "clone" / "curve.png").exists()
    noted = json.loads((folder / "clone" / "clone.json").read_text())
    assert noted["dataset"].endswith("d.safetensors") and noted["rows"] == demonstrations(40).rows
    with pytest.raises(ValueError, match="is a clone: go on imitating with policygrad clone --resume"):
        pg.resume(folder / "clone")


def test_a_clone_worse_than_no_learning_says_so():
    data, options = demonstrations(12), QUICK | {"out": None, "epochs": 2}
    with pytest.warns(UserWarning, match=r"held-out episodes worse than an untrained policy .*learning-rate"):
        pg.clone(data, **options | {"learning_rate": 1e30})
    with warnings.catch_warnings(action="error", category=UserWarning):
        pg.clone(data, **options)


def test_the_best_held_out_likelihood_is_kept(folder):
    """Computed once more, from the saved best policy, on the episodes that were held out."""
    run, data = pg.load(folder / "clone"), demonstrations(40)
    held = select(data, split(data, 0.25, run.recipe.seed)[1])
    log_prob = np.array([
        float(run.policy.model(pg.Input(obs, 0, False), None)[0].distribution.log_prob(a))
        for obs, a in zip(held.obs[:40], held.action[:40])
    ])  # fmt: skip
    t = as_trajectory(paired(held), run.env, run.recipe, run.policy.model)
    found = unroll(run.policy.model, t)[0].log_prob
    np.testing.assert_allclose(found[0, :40], log_prob, rtol=1e-5, atol=1e-6)
    assert float(found.mean()) == pytest.approx(run.best_reward[0], rel=1e-4)


def test_the_normaliser_is_that_of_the_training_part():
    data = demonstrations(8)
    run = pg.clone(data, out=None, epochs=1, normalize_obs=True, **QUICK)
    train = select(data, split(data, 0.1, 0)[0])
    statistics = run.policy.model.normalizer.obs
    np.testing.assert_allclose(statistics.mean, train.obs.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(statistics.var, train.obs.var(axis=0), rtol=1e-4)
    assert statistics.count == train.rows


def test_a_memory_sees_what_was_taken_and_learns_what_was_shown():
    data = demonstrations(3)
    taken = 1 - data.action
    run = cloning.begin(data, out=None, policy="gru", net=NET).run
    t = as_trajectory(data._replace(action=(taken, data.action)), run.env, run.recipe, run.policy.model)
    assert t.obs.shape[2] == 4 + 2 + 1
    for b, (first, n) in enumerate(zip(data.first, data.length)):
        np.testing.assert_array_equal(t.action[:n, b], data.action[first : first + n])
        np.testing.assert_array_equal(t.obs[1:n, b, 4:6], np.eye(2)[taken[first : first + n - 1]])
        assert not t.obs[0, b, 4:].any() and t.obs[1:n, b, 6].all() and t.start[0, b] and not t.start[1:n, b].any()


# On by policy gradient


def test_training_begins_with_the_clone(folder):
    clone = pg.load(folder / "clone")
    begun = begin("CartPole-v1", "a2c", init_from=folder / "clone", n_envs=2, seeds=2, out=None)
    assert begun.recipe.net == NET
    for model in begun.models:
        for x, y in zip(jax.tree.leaves(model.actor), jax.tree.leaves(clone.policy.model.actor), strict=True):
            np.testing.assert_array_equal(x, y)
    first, second = (jax.tree.leaves(model.critic) for model in begun.models)
    assert any((x != y).any() for x, y in zip(first, second)), "new critics, one for each seed"


def test_several_seeds_begin_where_the_first_of_several_ended():
    """Those of the source lie on one device, and these are shared out over two."""
    options = {"policy": "tabular", "seeds": 2, "out": None}
    source = pg.train("chain", "a2c", total_timesteps=80, **options)
    fit = begin_from(begin("chain", "a2c", **options)._fit, source.policy.model)
    steps = fit.program.advance(fit.state, jnp.int32(80))[0].env_steps
    assert np.asarray(steps).tolist() == [80, 80]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"net": (4,)}, r"net=\(4,\) cannot start from .* net=\(8,\): drop net"),
        ({"env": "Acrobot-v1"}, "does not fit Acrobot-v1"),
        ({"init_from": "nowhere"}, "there is no run nowhere"),
    ],
)
def test_what_cannot_start_from_a_clone(folder, options, words):
    options = {"init_from": folder / "clone", "env": "CartPole-v1", "out": None} | options
    with pytest.raises(ValueError, match=words):
        pg.train(**options)


# DAgger


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A folder with demonstrations, and a clone that played one round by itself."""
    folder = tmp_path_factory.mktemp("dagger")
    save(folder / "d.safetensors", demonstrations(6))
    return folder, pg.clone(folder / "d.safetensors", path=folder / "whole", **ROUNDS, **QUICK)


ROUNDS = {"dagger": 1, "expert": Expert(), "episodes": 3, "beta": 0.0, "epochs": 3}


def test_dagger_asks_about_the_clones_own_states(asked):
    folder, run = asked
    part = load(folder / "whole" / "dagger-1.safetensors")
    taken, shown = part.action
    np.testing.assert_array_equal(shown, rule(part.obs))
    assert part.episodes == 3 and (taken != shown).any(), "β = 0: the clone plays alone"
    assert run.history["train/round"][:, 0].tolist() == [0, 0, 0, 1, 1, 1] and run.finished


@pytest.mark.parametrize("at", [(0, 2), (1, 2)])
def test_stopped_and_resumed_is_never_stopped(asked, tmp_path, at):
    """Bit for bit: same parameters, same history, in the first round and in DAgger's."""

    def stop(row):
        if (row["train/round"], row["train/epoch"]) == at:
            raise KeyboardInterrupt

    folder, whole = asked
    quick = {name: value for name, value in QUICK.items() if name != "tensorboard"}
    work = cloning.begin(folder / "d.safetensors", path=tmp_path / "run", **ROUNDS, **quick)
    with pytest.raises(KeyboardInterrupt):
        work.learn(tell=stop, tensorboard=False)
    work.save()
    again = cloning.reopen(tmp_path / "run", expert=ROUNDS["expert"]).learn(tensorboard=False)
    for x, y in zip(jax.tree.leaves(whole.policy.model), jax.tree.leaves(again.policy.model), strict=True):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(whole.history["eval/nll"], again.history["eval/nll"])
    assert again.finished and cloning.reopen(tmp_path / "run", expert=ROUNDS["expert"]).fit.finished
    with pytest.raises(ValueError, match="expert was a policy in memory"):
        cloning.reopen(tmp_path / "run")


def test_a_known_episode_goes_to_the_side_that_has_it():
    """Of the fork's few episodes, after rounds in which half of the new ones were to be held out."""
    env = fork(1, 0.9, time_limit=4)
    ways = np.array([0, 1] * 3)
    obs = np.stack([np.zeros(6), ways + 1], axis=1).reshape(-1).astype(np.int32)
    action = np.stack([ways, [0, 0, 0, 0, 0, 1]], axis=1).reshape(-1).astype(np.int32)
    data = Dataset(obs=obs, action=action, reward=np.ones(12, np.float32), log_mu=None, length=np.full(6, 2),
                   terminated=np.ones(6, bool), final_obs=np.full(6, 3, np.int32), about={})  # fmt: skip

    class Left:
        def act(self, obs, *, deterministic, state, episode_start, reward):
            return np.zeros(len(obs), np.int64), PolicyState(None, None, None) if state is None else state

    def sides(duplicates):
        work = cloning.begin(data, env, out=None, dagger=2, expert=Left(), episodes=8, beta=0.0, validation=0.5,
                             duplicates=duplicates, net=NET)  # fmt: skip
        before = work.train.episodes + work.held.episodes
        work.add(1)
        work.add(2)
        assert work.train.episodes + work.held.episodes == before + 16, "none is lost"
        shown = lambda part: set(fingerprints(part._replace(action=part.action[1])))  # noqa: E731
        return shown(work.train), shown(work.held)

    train, held = sides("drop")
    assert train and held and not train & held
    train, held = sides("keep")
    assert train & held


# What is wrong


def test_other_demonstrations_of_equal_size_are_refused(folder, tmp_path):
    shutil.copytree(folder / "clone", tmp_path / "clone")
    data = demonstrations(40)
    with pytest.raises(ValueError, match=r"is not what .* learned from"):
        cloning.reopen(tmp_path / "clone", dataset=data._replace(action=1 - data.action))
    assert cloning.reopen(tmp_path / "clone", dataset=data).fit.finished


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"action": np.full(12, 2, np.int32)}, {}, r"action in row 0 is 2, and the environment has 2, counted from 0"),
        ({"action": np.zeros(12, np.float32)}, {}, "dtype float32"),
        ({"obs": np.zeros((12, 3), np.float32), "final_obs": np.zeros((2, 3), np.float32)}, {}, "another environment"),
        ({"about": {}}, {}, "does not say which environment"),
        ({}, {"validation": 1.5}, "validation must be"),
        ({}, {"dagger": 1}, "needs an expert"),
        ({}, {"dagger": 1, "expert": Expert(), "episodes": 1}, "at least 2 in a round"),
        ({}, {"epoch": 3}, "did you mean 'epochs'"),
        ({}, {"total_timesteps": 3}, "unknown option"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, options, words):
    two = Dataset(
        obs=np.zeros((12, 4), np.float32), action=np.zeros(12, np.int32), reward=np.ones(12, np.float32), log_mu=None,
        length=np.array([6, 6]), terminated=np.ones(2, bool), final_obs=np.zeros((2, 4), np.float32),
        about={"env": "CartPole-v1"},
    )  # fmt: skip
    with pytest.raises(ValueError, match=words):
        pg.clone(two._replace(**change), path=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_the_command(folder, tmp_path, capsys):
    out = tmp_path / "run"
    args = ["clone", str(folder / "d.safetensors"), "--path", str(out), "--net", "8", "--epochs", "2"]
    assert main([*args, "--episodes-after", "1", "--no-tensorboard"]) == 0
    words = capsys.readouterr().out
    assert "36 episodes of CartPole-v1 to learn from" in words and "held-out log-likelihood" in words
    assert "the demonstrator's" in words and f"--init-from {out}" in words
    assert main(["clone", "--resume", str(out)]) == 0 and "finished" in capsys.readouterr().out
    assert main(["clone"]) == 2 and "give a dataset" in capsys.readouterr().err
    assert main(["clone", "--resume", str(out), "--epochs", "3"]) == 2
