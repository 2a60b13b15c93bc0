"""``predict``: NumPy in, NumPy out, and the same policy that the collector played."""

import jax
import numpy as np
import pytest

import policygrad as pg
from policygrad.models import unroll

TINY = {"out": None, "eval_every": 0, "n_envs": 3, "n_steps": 6, "total_timesteps": 18, "net": (8,)}


@pytest.fixture(scope="module")
def cartpole():
    return pg.train("CartPole-v1", **TINY).policy


def test_one_observation_or_a_batch(cartpole):
    obs = np.random.default_rng(0).normal(size=(5, 4))
    batch, _ = cartpole.predict(obs)
    assert batch.shape == (5,) and batch.dtype == np.int32
    singles = [cartpole.predict(row)[0] for row in obs]
    assert all(np.shape(action) == () for action in singles)
    np.testing.assert_array_equal(batch, singles)


def test_samples_follow_the_seed_and_the_distribution(cartpole):
    obs = np.zeros((400, 4), np.float32)
    cartpole.seed(7)
    first, second = (cartpole.predict(obs, deterministic=False)[0] for _ in range(2))
    assert (first != second).any() and 0 < first.mean() < 1
    cartpole.seed(7)
    np.testing.assert_array_equal(first, cartpole.predict(obs, deterministic=False)[0])


def test_actions_can_be_written_to(cartpole):
    action, _ = cartpole.predict(np.zeros((2, 4)))
    action[:] = 1


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 4), ()])
def test_other_shapes_are_refused(cartpole, shape):
    with pytest.raises(ValueError, match=r"this policy needs \(4,\), or a batch of it: \(n, 4\)"):
        cartpole.predict(np.zeros(shape))


def test_what_belongs_to_other_environments_is_refused(cartpole):
    obs = np.zeros((2, 4))
    _, state = cartpole.predict(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="the state is that of 3 environments and the observation that of 2: pass all"):
        cartpole.predict(obs, state=state)
    with pytest.raises(ValueError, match="state is a tuple: pass the state that the last call returned"):
        cartpole.predict(obs, state=())
    with pytest.raises(ValueError, match=r"episode_start has shape \(3,\): give one for each of the 2 environments"):
        cartpole.predict(obs, episode_start=[True, False, True])
    with pytest.raises(ValueError, match=r"reward has shape \(\): give one for each of the 2 environments, \(2,\)"):
        cartpole.predict(obs, reward=1.0)
    cartpole.predict(obs[0], episode_start=True, reward=1.0)


def test_discrete_observations():
    policy = pg.train("chain", **TINY).policy
    assert policy.predict(np.array([0, 1, 4]))[0].shape == (3,)
    assert np.shape(policy.predict(2)[0]) == ()


def test_box_actions_stay_inside_the_bounds():
    policy = pg.train("probe:action-continuous", **TINY, log_std_init=2.0).policy
    actions, _ = policy.predict(np.zeros((200, 1)), deterministic=False)
    assert actions.shape == (200, 1) and np.abs(actions).max() == 1.0
    assert (np.abs(actions) < 1).any()


def test_time_to_go_counts_the_steps():
    """The state carries the time: after three steps the policy is the table's row 3."""
    tiny = {name: value for name, value in TINY.items() if name != "net"}
    run = pg.train("chain", **tiny, policy="tabular", time_to_go=True, max_episode_steps=5)
    policy = run.policy
    logits = np.asarray(policy.model.actor.head.last.rows)
    obs, state = np.array([0, 1]), None
    for time in range(4):
        action, state = policy.predict(obs, state=state)
        np.testing.assert_array_equal(action, logits[time, obs].argmax(-1))
    _, state = policy.predict(obs, state=state, episode_start=[True, False])
    assert np.asarray(state.time).tolist() == [1, 5]


def test_a_policy_with_memory_is_the_one_that_was_played():
    """Replay the collector's own window: same observations, actions and rewards, the same modes and the same memory."""
    run = pg.train("probe:memory", **{**TINY, "n_steps": 12, "total_timesteps": 36}, policy="gru")
    model, program = run.models[0], run.program
    collect = jax.jit(lambda state: program.collector.collect(model, state, jax.random.key(3)))
    _, played, _ = collect(program.collector.init(model, jax.random.key(4)))
    output, carries = unroll(model, played)
    modes = jax.vmap(jax.vmap(lambda d: d.mode()))(output.distribution)
    raw, policy, state = np.asarray(played.obs)[..., :2], run.policy, None
    assert played.start[1:].any() and policy.remembers
    for t in range(12):
        last = {} if t == 0 else {"reward": np.asarray(played.reward[t - 1])}
        action, state = policy.predict(raw[t], state=state, episode_start=played.start[t], **last)
        np.testing.assert_array_equal(action, modes[t])
        np.testing.assert_allclose(state.carry, carries[t], rtol=1e-5, atol=1e-6)
        state = state._replace(action=played.action[t])


def test_gymnasium_and_the_twin_agree(cartpole):
    """Episodes of an untrained policy have about the same length in both."""
    theirs = pg.evaluate(cartpole, "gym:CartPole-v1", episodes=64, deterministic=False)
    ours = pg.evaluate(cartpole, "CartPole-v1", episodes=64, deterministic=False)
    assert len(theirs.returns) == 64 and theirs.returns.min() >= 8
    assert abs(theirs.mean - ours.mean) < 8
