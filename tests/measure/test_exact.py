"""The oracle itself: probabilities, dynamic programming, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.collect import episode_collector
from policygrad.envs.core import autoreset
from policygrad.envs.tabular import chain, random_mdp, short_corridor
from policygrad.ladder import Psi
from policygrad.learn import steps_from
from policygrad.measure import (
    action_values,
    enumerate_trajectories,
    log_trajectory_probability,
    moments,
    objective,
    policy_evaluation,
    policy_probabilities,
    table_critic,
)
from policygrad.measure.exact import objective_by_enumeration
from policygrad.models import make_model

pytestmark = pytest.mark.usefixtures("x64")


def model_of(mdp, **options):
    return make_model(mdp.observation_space, mdp.action_space, key=jax.random.key(0), **{"policy": "tabular"} | options)


def test_trajectories_are_what_the_dynamics_allow():
    """A chain of three states and at most three steps, uniform policy: right-right ends, all other paths run into the
    horizon."""
    mdp = chain(3, horizon=3)
    trajectory, probability = enumerate_trajectories(mdp, model_of(mdp))
    assert trajectory.mask.shape == (3, 7)  # 2³ paths, of which two are the one that ends early
    np.testing.assert_allclose(sorted(probability), [0.125] * 6 + [0.25], rtol=1e-12)
    short = np.argmax(probability)
    assert trajectory.mask[:, short].tolist() == [True, True, False] and trajectory.action[:2, short].tolist() == [1, 1]
    assert trajectory.terminated[:, short].tolist() == [False, True, False] and trajectory.reward[1, short] == 1
    assert trajectory.terminated.sum(axis=0).tolist() == [1] * 7 and not trajectory.truncated.any()
    cut, _ = enumerate_trajectories(chain(3, time_limit=3), model_of(mdp))
    assert cut.truncated.sum() == 5  # right-right, and left-right-right in the last step, end
    assert (cut.terminated | cut.truncated).sum(axis=0).tolist() == [1] * 7
    np.testing.assert_array_equal(cut.cut_obs[0], np.where(cut.terminated.any(axis=0), 2, cut.cut_obs[0]))


def test_probabilities_are_those_of_what_is_played():
    """Frequencies of 4000 sampled episodes against the enumeration; log p of the sampled columns against the
    enumerated ones."""
    mdp = random_mdp(0, 3, 2, branching=2, n_rewards=1, n_terminal=1, time_limit=2)
    model = model_of(mdp)
    trajectory, probability = enumerate_trajectories(mdp, model)
    n = 4000
    collector = episode_collector(autoreset(mdp), n)
    played = jax.jit(lambda key: collector.collect(model, collector.init(model, key), key)[1])(jax.random.key(0))
    log_p = np.asarray(jax.jit(lambda played: log_trajectory_probability(mdp, model, played))(played))
    shown, known = (
        np.where(t.mask, np.asarray(t.reward), 0).round(9).T for t in (played, trajectory)
    )  # rewards tell the paths apart
    assert len(np.unique(known, axis=0)) == len(known)
    for rewards, p in zip(known, np.asarray(probability)):
        same = np.all(shown == rewards, axis=1)
        assert abs(same.mean() - p) < 5 * np.sqrt(p / n)
        np.testing.assert_allclose(np.exp(log_p[same]), p, rtol=1e-12)


def test_probabilities_sum_to_one():
    mdp = random_mdp(1, 4, 2, branching=2, n_terminal=1, n_observations=2, horizon=2)
    for model in (model_of(mdp), model_of(mdp, horizon=2), model_of(mdp, policy="gru", net=(2,))):
        np.testing.assert_allclose(enumerate_trajectories(mdp, model)[1].sum(), 1, rtol=1e-12)


def test_both_ways_to_the_objective():
    final = np.array([0.3, -2.0, 5.0])
    for limits in ({"horizon": 2}, {"time_limit": 2}, {"horizon": 3, "time_limit": 2}, {"horizon": 2, "time_limit": 2}):
        mdp = random_mdp(0, 3, 2, branching=2, n_terminal=1, **limits)
        model = model_of(mdp)
        for last in (None, final):
            by_paths = objective_by_enumeration(mdp, model, 0.9, final_value=last)
            np.testing.assert_allclose(objective(mdp, model, 0.9, final_value=last), by_paths, rtol=1e-12)


def test_the_infinite_problem_is_the_limit_of_long_ones():
    mdp, long = (random_mdp(0, 4, 2, **limit) for limit in ({}, {"time_limit": 400}))
    model = model_of(mdp)
    np.testing.assert_allclose(objective(mdp, model, 0.9), objective(long, model, 0.9), rtol=1e-12)


def test_policy_evaluation_satisfies_bellmans_equation():
    mdp = random_mdp(0, 4, 2, n_terminal=1)
    probs = policy_probabilities(mdp, model_of(mdp), 1)[0]
    value = policy_evaluation(mdp, probs, 0.9)
    expected = jnp.where(mdp.terminal, 0, jnp.sum(probs * action_values(mdp, value, 0.9), axis=-1))
    np.testing.assert_allclose(value, expected, atol=1e-12)
    assert value[-1] == 0 and jnp.abs(value).max() > 0.1


def test_a_table_critic_reads_its_table():
    mdp = random_mdp(1, 3, 2, branching=1, n_rewards=1, time_limit=2)
    model = model_of(mdp)
    trajectory, _ = enumerate_trajectories(mdp, model)
    for table in (np.array([1.0, 2.0, 4.0]), np.arange(9.0).reshape(3, 3)):
        steps = steps_from(model, trajectory, Psi("td0", "value"), critic=table_critic(mdp, table))
        at = lambda time, obs, table=table: table[obs] if table.ndim == 1 else table[time, obs]  # noqa: E731
        np.testing.assert_array_equal(steps.value, at(np.asarray(trajectory.time), np.asarray(trajectory.obs)))
        np.testing.assert_array_equal(steps.next_value[-1], at(2, np.asarray(trajectory.cut_obs[0])))


def test_a_memoryless_critic_beside_a_policy_with_a_memory():
    mdp = random_mdp(1, 3, 2, branching=1, n_rewards=1, time_limit=2)
    model = model_of(mdp, policy="gru", net=(2,))
    trajectory, _ = enumerate_trajectories(mdp, model)
    table = np.array([1.0, 2.0, 4.0])
    steps = steps_from(model, trajectory, Psi("td0", "value"), critic=table_critic(mdp, table))
    np.testing.assert_array_equal(steps.value, table[np.asarray(trajectory.obs)])
    np.testing.assert_array_equal(steps.next_value[-1], table[np.asarray(trajectory.cut_obs[0])])


def test_what_cannot_be_done_is_said():
    mdp = random_mdp(0, 3, 2)
    with pytest.raises(ValueError, match="give the TabularMDP a horizon or a time_limit"):
        enumerate_trajectories(mdp, model_of(mdp))
    with pytest.raises(ValueError, match="time-to-go policy needs an MDP with a horizon"):
        objective(mdp, model_of(mdp, horizon=3), 0.9)
    finite = random_mdp(0, 3, 2, horizon=6)
    with pytest.raises(ValueError, match="more than 1000 trajectories after 3 of 6 steps"):
        enumerate_trajectories(finite, model_of(finite), limit=1000)
    small = random_mdp(0, 3, 2, branching=1, horizon=2)
    with pytest.raises(ValueError, match="give batch=2"):
        moments(small, model_of(small), Psi("total_return", "mean"))
    with pytest.raises(ValueError, match="48 trajectories make 110592 tuples of 3"):
        moments(small, model_of(small), Psi("total_return", "mean"), batch=3)
    with pytest.raises(ValueError, match="observation must be its state"):
        table_critic(short_corridor(), np.zeros(4))
    with pytest.raises(ValueError, match="depends on the past"):
        policy_probabilities(small, model_of(small, policy="gru", net=(2,)), 2)
