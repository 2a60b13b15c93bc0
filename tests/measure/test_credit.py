"""Credit: Ψ and the change of log π of hand-made rungs, conflicts by enumeration, steps of a given length."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.collect import episode_collector
from policygrad.envs.core import autoreset
from policygrad.envs.probes import ObservationReward
from policygrad.envs.tabular import TabularMDP, chain
from policygrad.learn import policy_gradient
from policygrad.measure.credit import conflict, count_pairs, credit, divergence, moved, step_curve
from policygrad.measure.gather import weigh
from policygrad.measure.rungs import make_rungs
from policygrad.models import make_model

GAMMA = 0.9
MDP = chain(4, slip=0.2, horizon=8, time_limit=8)


def collect(env, model, n=12, seed=0):
    stream = autoreset(env)
    collector, key = episode_collector(stream, n), jax.random.key(seed)
    return collector.collect(model, collector.init(model, key), key)[1]


@pytest.fixture(scope="module")
def world():
    model = make_model(MDP.observation_space, MDP.action_space, policy="tabular", key=jax.random.key(0))
    return model, collect(MDP, model)


@pytest.fixture(scope="module")
def found(world):
    rungs = {"likelihood": None} | make_rungs(
        ["reinforce-togo", "actor-critic"], gamma=GAMMA, objective="approximation"
    )
    return rungs, credit(*world, rungs, kl=1e-2, gamma=GAMMA)


def test_every_rung_takes_a_step_of_the_same_length(world, found):
    model, trajectory = world
    rungs, result = found
    mask = np.asarray(trajectory.mask)
    for name, rung in rungs.items():
        psi = mask.astype(np.float32) if rung is None else weigh(rung, model, trajectory, None)
        np.testing.assert_allclose(result.rungs[name].psi, psi, rtol=1e-5, atol=1e-7)
        assert result.rungs[name].kl == pytest.approx(1e-2, rel=1e-3)
        assert not result.rungs[name].change[~mask].any()
    assert len({round(r.step, 4) for r in result.rungs.values()}) > 1, "η differs, the length does not"


def test_the_change_is_that_of_the_softmax(world, found):
    """By hand: the table's logits after the step, and log softmax of them."""
    model, trajectory = world
    result = found[1].rungs["reinforce-togo"]
    gradient = policy_gradient(model, trajectory, jnp.asarray(result.psi)).actor.head.last.rows
    before, after = (jax.nn.log_softmax(x, axis=-1) for x in (0 * gradient, result.step * gradient))
    wanted = (after - before)[trajectory.obs, trajectory.action] * trajectory.mask
    np.testing.assert_allclose(result.change, wanted, atol=1e-5)
    np.testing.assert_allclose(result.total, wanted.sum(axis=0), atol=1e-4)


def test_maximum_likelihood_raises_what_was_done_and_rewards_raise_what_was_good(found):
    result = found[1]
    likelihood = result.rungs["likelihood"]
    assert likelihood.total.sum() > 0, "all that was done becomes likelier"
    assert likelihood.conflict == 0, "with one weight for all no two gradients conflict"
    assert result.correlation("reinforce") > result.correlation("likelihood")


def test_conflicts_are_counted_by_pairs(world, found):
    _, trajectory = world
    result = found[1]
    psi = result.rungs["actor-critic"].psi
    t, b = np.nonzero(np.asarray(trajectory.mask))
    rows = [(int(trajectory.obs[i, j]), int(trajectory.action[i, j]), psi[i, j]) for i, j in zip(t, b)]
    pairs = [(x[2], y[2]) for i, x in enumerate(rows) for y in rows[:i] if x[:2] == y[:2]]
    assert result.pairs == len(pairs) > 0 and result.note == ""
    assert result.rungs["actor-critic"].conflict == pytest.approx(np.mean([x * y < 0 for x, y in pairs]))
    same, signed = np.array([[0, 0, 1, -1]]), np.array([[1.0, -2.0, 3.0, -1.0]])
    assert count_pairs(same) == 1 and conflict(signed, same) == 1 and conflict(abs(signed), same) == 0


def test_time_and_memory_tell_rows_apart(world):
    trajectory = world[1]
    rungs = {"likelihood": None}
    pairs = {}
    for name, options in {"state": {}, "state and time": {"horizon": 8}}.items():
        model = make_model(MDP.observation_space, MDP.action_space, policy="tabular", key=jax.random.key(0), **options)
        pairs[name] = credit(model, trajectory, rungs).pairs
    assert 0 < pairs["state and time"] < pairs["state"]
    model = make_model(MDP.observation_space, MDP.action_space, policy="gru", net=(4,), key=jax.random.key(0))
    recurrent = credit(model, collect(MDP, model, 2), rungs)
    assert recurrent.pairs == 0 and "memory" in recurrent.note and recurrent.rungs["likelihood"].conflict is None


@pytest.mark.slow
def test_continuous_observations_are_compared_where_they_are_equal():
    env = ObservationReward()
    model = make_model(env.observation_space, env.action_space, net=(), key=jax.random.key(0))
    trajectory = collect(env, model, 16)
    assert credit(model, trajectory, {"likelihood": None}).pairs > 0
    apart = trajectory._replace(obs=trajectory.obs + jnp.arange(16.0)[None, :, None])
    lonely = credit(model, apart, {"likelihood": None})
    assert lonely.pairs == 0 and "continuous" in lonely.note


def test_a_given_step_is_taken_and_no_gradient_is_no_step(world):
    model, trajectory = world
    rungs = make_rungs(["reinforce"], gamma=GAMMA)
    assert credit(model, trajectory, rungs, step=0.25).rungs["reinforce"].step == 0.25
    unpaid = credit(model, trajectory._replace(reward=0 * trajectory.reward), rungs).rungs["reinforce"]
    assert unpaid.step == 0 and not unpaid.change.any() and unpaid.kl == 0
    for options in ({"kl": 0.0}, {"step": -1.0}):
        with pytest.raises(ValueError, match="a step needs a positive length"):
            credit(model, trajectory, rungs, **options)


def test_the_return_along_a_direction():
    """A bandit whose arms pay 0 and 1: the return after a step is the probability of the second arm."""
    mdp = TabularMDP(np.ones(1), np.ones((1, 2, 1)), np.array([[[0.0], [1.0]]]), horizon=1, time_limit=1)
    model = make_model(mdp.observation_space, mdp.action_space, policy="tabular", key=jax.random.key(0))
    zero = jax.tree.map(jnp.zeros_like, eqx.filter(model, eqx.is_inexact_array))
    up = eqx.tree_at(lambda m: m.actor.head.last.rows, zero, jnp.array([[-0.5, 0.5]]))
    points = step_curve(autoreset(mdp), model, up, [0.0, 1.0, 4.0, -4.0], episodes=4000)
    for point in points:
        truth = 1 / (1 + np.exp(-point.size))
        assert abs(point.ret.value - truth) < 4 * np.sqrt(truth * (1 - truth) / 4000)
        assert point.kl == pytest.approx(0.5 * np.log(0.5 / truth) + 0.5 * np.log(0.5 / (1 - truth)), abs=1e-5)
    assert points[0].gain == (0, 0, 0, 0) and points[1].gain.error < points[1].ret.error * 1.2
    assert points[2].gain.low > 0 > points[3].gain.high
    with pytest.raises(ValueError, match="at least 2"):
        step_curve(autoreset(mdp), model, up, [1.0], episodes=1)


def test_divergence_is_that_of_the_old_policy(world):
    model, trajectory = world
    direction = policy_gradient(model, trajectory, jnp.ones(trajectory.reward.shape))
    other = moved(model, direction, 3.0)
    p, q = (jax.nn.softmax(m.actor.head.last.rows, axis=-1) for m in (model, other))
    per_state = np.asarray((p * jnp.log(p / q)).sum(axis=-1))
    wanted = per_state[np.asarray(trajectory.obs)][np.asarray(trajectory.mask)].mean()
    assert float(divergence(model, other, trajectory)) == pytest.approx(wanted, rel=1e-4)
