"""``predict``: NumPy in, NumPy out, and the same policy that the collector played."""

import jax
import numpy as np
import pytest
from gymnasium import spaces

import policygrad as pg
from policygrad.models import make_model, unroll
from policygrad.run.policy import Policy
from policygrad.types import MaskedObs

TINY = {"out": None, "eval_every": 0, "n_envs": 3, "n_steps": 6, "total_timesteps": 18, "net": (8,)}


@pytest.fixture(scope="module")
def cartpole():
    return pg.train("CartPole-v1", **TINY).policy


def test_one_observation_or_a_batch(cartpole):
    obs = np.random.default_rng(0).normal(size=(5, 4))
    batch, _ = cartpole.predict(obs)
    assert batch.shape == (5,) and batch.dtype == cartpole.action_space.dtype
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


NESTED = spaces.Dict({"x": spaces.Box(-1.0, 1.0, (2,)), "kind": spaces.Discrete(3, start=4)})
MOVES = spaces.Dict(
    {"turn": spaces.Box(0.0, 0.1, (2, 1)), "do": spaces.Tuple([spaces.Discrete(2, start=7), spaces.MultiBinary(2)])}
)


def policy_of(observation_space, action_space, **options):
    model = make_model(observation_space, action_space, key=jax.random.key(0), net=(3,), **options)
    return Policy(model, observation_space, action_space)


def test_it_speaks_the_environments_language():
    """Structured observations as Gymnasium shows them, actions that its spaces contain; one, or a batch."""
    policy = policy_of(NESTED, MOVES, frames=2)
    NESTED.seed(0)
    seen = NESTED.sample()
    action, state = policy.predict(seen)
    assert MOVES.contains(action)
    action, _ = policy.predict(seen, state=state, deterministic=False)
    assert MOVES.contains(action)
    batch = {key: np.stack([np.asarray(x)] * 3) for key, x in seen.items()}
    actions, _ = policy.predict(batch)
    assert actions["turn"].shape == (3, 2, 1) and (actions["do"][0] >= 7).all()
    with pytest.raises(ValueError, match=r"the observation has no 'kind': give a dict with the keys \['kind', 'x'\]"):
        policy.predict({"x": np.zeros(2)})
    with pytest.raises(ValueError, match=r"this policy needs \(2,\), or a batch of it: \(n, 2\)"):
        policy.predict({"x": np.zeros((4, 2)), "kind": np.array([4, 5])})


def test_a_discrete_space_may_start_anywhere():
    """The second of three actions, whatever they are called; :meth:`act` counts from 0."""
    space = spaces.Discrete(3, start=-1)
    policy = policy_of(space, spaces.Discrete(3, start=10))
    for element in (-1, 0, 1):
        action, _ = policy.predict(element)
        assert action == policy.act(np.array([element + 1], np.int32))[0][0] + 10


def test_a_mask_forbids_actions():
    """As an argument, or as the key of a Dict; for a batch, or for one."""
    policy = policy_of(spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(3, start=1))
    obs, mask = np.zeros((300, 2)), np.tile([True, False, True], (300, 1))
    actions, _ = policy.predict(obs, action_mask=mask, deterministic=False)
    assert set(actions) == {1, 3}
    assert policy.predict(obs[0], action_mask=[False, True, False])[0] == 2
    assert policy.act(MaskedObs(obs, ~mask))[0].tolist() == [1] * 300
    keyed = policy_of(spaces.Dict({"obs": spaces.Box(-1.0, 1.0, (2,))}), spaces.Discrete(3, start=1))
    assert keyed.predict({"obs": obs[0], "action_mask": np.array([0, 0, 1], np.int8)})[0] == 3


def test_another_model_of_the_same_kind_takes_its_place():
    policy = policy_of(spaces.Discrete(1), spaces.Discrete(2), policy="tabular")
    biased = jax.tree.map(lambda x: x + np.array([0.0, 1.0])[-x.shape[-1] :], policy.model)
    assert policy.predict(0)[0] == 0
    policy.renew(biased)
    assert policy.predict(0)[0] == 1


def test_gymnasium_and_the_twin_agree(cartpole):
    """Episodes of an untrained policy have about the same length in both."""
    theirs = pg.evaluate(cartpole, "gym:CartPole-v1", episodes=64, deterministic=False)
    ours = pg.evaluate(cartpole, "CartPole-v1", episodes=64, deterministic=False)
    assert len(theirs.returns) == 64 and theirs.returns.min() >= 8
    assert abs(theirs.mean - ours.mean) < 8
