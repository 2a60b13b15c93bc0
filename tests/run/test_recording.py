"""Recorded episodes are the environment's own, with the log-probabilities of the policy that played them."""

import argparse

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad as pg
from policygrad.envs.memory import with_last
from policygrad.models.actor_critic import initial_carry, unroll
from policygrad.run.api import begin
from policygrad.run.policy import with_memory
from policygrad.run.recording import forget, record
from policygrad.storage import datasets
from policygrad.storage.datasets import trajectories
from policygrad.storage.formats import read_dataset

LIMIT = 12


@pytest.fixture(scope="module")
def runs():
    """An MLP and a GRU that remembers, untrained but with opinions; the limit cuts some of the episodes."""
    made = {}
    for policy in ("mlp", "gru"):
        run = begin("CartPole-v1", "reinforce", policy=policy, max_episode_steps=LIMIT, net=(4,), out=None)
        learner = run.state.learner
        strong = learner._replace(params=jax.tree.map(lambda x: 8 * x, learner.params))
        run._fit.state = run.state._replace(learner=strong)
        made[policy] = run
    return made


def require_cartpole(dataset):
    """Every observation follows from the one before, by Gymnasium's own dynamics."""
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset()
    for first, n, final in zip(dataset.first, dataset.length, dataset.final_obs):
        following = [*dataset.obs[first + 1 : first + n], final]
        for obs, action, expected in zip(dataset.obs[first : first + n], dataset.action[first : first + n], following):
            env.state, env.steps_beyond_terminated = np.asarray(obs, np.float64), None
            np.testing.assert_allclose(env.step(int(action))[0], expected, atol=1e-5)


@pytest.mark.parametrize("policy", ["mlp", "gru"])
@pytest.mark.parametrize("env", [None, "gym:CartPole-v1"])
def test_episodes_are_the_worlds_own_and_log_mu_the_policys(runs, policy, env):
    run = runs[policy]
    dataset = record(run, env, episodes=9, seed=3)
    assert dataset.episodes == 9 and dataset.obs.shape == (dataset.rows, 4) and 0 < dataset.terminated.mean() < 1
    assert (dataset.length[~dataset.terminated] == LIMIT).all()
    np.testing.assert_array_equal(dataset.returns, dataset.length)
    assert dataset.log_mu.std() > 0.05
    require_cartpole(dataset)
    t = trajectories(dataset)
    if policy == "gru":
        space = gymnasium.make("CartPole-v1")
        before = lambda x: np.concatenate([np.zeros_like(x[:1]), x[:-1]])  # noqa: E731
        show = jax.vmap(lambda *row: with_memory(space.observation_space, space.action_space, *row))
        t = t._replace(obs=show(t.obs, before(t.action), before(t.reward), t.start))
    model = run.policy.model
    t = t._replace(carry=initial_carry(model, t.mask.shape[1:]))
    mine = unroll(model, jax.tree.map(jnp.asarray, t))[0].log_prob
    np.testing.assert_allclose(np.where(t.mask, mine, 0), np.where(t.mask, t.log_mu, 0), atol=1e-5)


def test_same_seed_same_episodes_and_the_file_holds_them(runs, tmp_path):
    first = record(runs["mlp"], episodes=3, seed=5, out=tmp_path / "a.safetensors")
    again, other = read_dataset(tmp_path / "a.safetensors"), record(runs["mlp"], episodes=3, seed=6)
    np.testing.assert_array_equal(first.obs, again.obs)
    assert first.rows != other.rows or not np.array_equal(first.obs, other.obs)
    assert again.about["env"] == "CartPole-v1" and again.about["behaviour"] == "reinforce" and again.about["seed"] == 5
    with pytest.raises(ValueError, match="already exists"):
        record(runs["mlp"], episodes=3, out=tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="is no dataset's name"):
        record(runs["mlp"], episodes=3, out=tmp_path / "a.json")
    with pytest.raises(ValueError, match="at least 1"):
        record(runs["mlp"], episodes=0)


def test_greedy_actions_are_modes(runs):
    dataset = record(runs["mlp"], episodes=2, deterministic=True)
    greedy, _ = runs["mlp"].policy.act(dataset.obs)
    np.testing.assert_array_equal(dataset.action, greedy)
    assert not dataset.log_mu.any()


BOX, THREE = spaces.Box(-1, 1, (2,)), spaces.Discrete(3)
PICTURE = spaces.Box(0, 255, (2, 2, 1), np.uint8)


@pytest.mark.parametrize("space", [BOX, THREE, PICTURE, spaces.Dict({"a": BOX, "b": THREE})])
@pytest.mark.parametrize("action_space", [BOX, THREE])
@pytest.mark.parametrize("masked", [False, True])
def test_forgetting_undoes_remembering(space, action_space, masked):
    space.seed(0)
    one = space.sample()
    one = pg.MaskedObs(one, np.array([True, False, True])) if masked else one
    seen = with_last(space, action_space, one, jnp.ones(2 if action_space is BOX else 3), jnp.ones(()))
    found = forget(space, action_space, jax.tree.map(lambda x: np.asarray(x)[None], seen))
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(x, y[0])


def test_the_command(runs, tmp_path, capsys):
    from policygrad.cli.main import main
    from policygrad.cli.record import results

    pg.train("CartPole-v1", "reinforce", path=tmp_path / "run", total_timesteps=64, n_envs=2, net=(4,), eval_every=0,
             tensorboard=False)  # fmt: skip
    assert main(["record", str(tmp_path / "run"), "--episodes", "2", "--out", str(tmp_path / "d.safetensors")]) == 0
    words = capsys.readouterr().out
    assert "2 episodes of reinforce on CartPole-v1, sampled" in words and "next: policygrad clone" in words
    assert "--duplicates" not in words
    twice = datasets.join([datasets.load(tmp_path / "d.safetensors")] * 2)
    shown = results(argparse.Namespace(mode="greedy", out="d.csv"), pg.load(tmp_path / "run"), twice)
    assert "distinct episodes: 2" in shown and shown.endswith("clone d.csv --env CartPole-v1 --duplicates keep")
    assert main(["record", str(tmp_path / "run"), "--out", str(tmp_path / "d.safetensors")]) == 2
    assert "already exists" in capsys.readouterr().err
