"""Off-policy evaluation and learning from a dataset, by enumeration: what is called unbiased is so to 1e-12."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import GAMMA, close, world

from policygrad.envs.tabular import TabularMDP, random_mdp
from policygrad.ladder import Psi
from policygrad.learn import gradient_samples, steps_from
from policygrad.learn.old_data import seen_by
from policygrad.measure import (
    action_values,
    enumerate_trajectories,
    gradient,
    objective,
    policy_evaluation,
    policy_probabilities,
)
from policygrad.measure.evaluation import ESTIMATORS, UNBIASED, fitted_q, importance_sampling, logged, weighted
from policygrad.run.offpolicy import as_seen
from policygrad.storage.datasets import Dataset

T = 3


@pytest.fixture(scope="module")
def here():
    """A world, its π and μ; every trajectory, its probability under μ, and the data as π sees them, with a wrong Q."""
    w = world(random_mdp(2, 3, 2, branching=2, n_rewards=2, horizon=T))
    trajectory, probability = enumerate_trajectories(w.mdp, w.model, behaviour=w.behaviour)
    log_prob, _ = seen_by(w.model, trajectory)
    probs = np.asarray(policy_probabilities(w.mdp, w.model, T))
    table = np.random.default_rng(0).normal(size=(T, 3, 2))
    state, rows = np.asarray(trajectory.obs), np.arange(T)[:, None]
    q = table[rows, state, np.asarray(trajectory.action)]
    value = (probs * table).sum(-1)[rows, state]
    data = logged(
        np.asarray(trajectory.reward), np.asarray(log_prob - trajectory.log_mu), np.asarray(trajectory.mask), q, value
    )
    return w, trajectory, np.asarray(probability), data


@pytest.mark.parametrize("name", sorted(UNBIASED))
@pytest.mark.parametrize("gamma", [1.0, GAMMA])
def test_unbiased_means_unbiased(here, name, gamma):
    w, _, probability, data = here
    sums = ESTIMATORS[name](data, gamma)
    assert abs(probability @ sums.top.sum(1) - float(objective(w.mdp, w.model, gamma))) < 1e-12


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_of_infinitely_many_episodes_all_are_right(here, name):
    """Consistency: the ratios of the *expected* sums are J, exactly."""
    w, _, probability, data = here
    top, bottom = ESTIMATORS[name](data, GAMMA)
    found = ((probability @ top) / (probability @ bottom)).sum()
    assert abs(found - float(objective(w.mdp, w.model, GAMMA))) < 1e-12


def test_the_bias_of_self_normalised_weights(here):
    """Of one episode the weight cancels: what is estimated is J(μ). Of two, the bias is less than half of that."""
    w, _, probability, data = here
    truth, of_mu = (float(objective(w.mdp, m, GAMMA)) for m in (w.model, w.behaviour))
    (top, bottom), p = weighted(data, GAMMA), probability
    assert abs(p @ (top / bottom)[:, 0] - of_mu) < 1e-12
    pairs = (top[:, 0][:, None] + top[:, 0]) / (bottom[:, 0][:, None] + bottom[:, 0])
    bias = p @ pairs @ p - truth
    assert 0.01 < abs(bias / (of_mu - truth)) < 0.7


def test_with_the_right_q_nothing_is_left_to_chance():
    """Deterministic world, one start, exact Q: the doubly robust estimate is J for every single episode."""
    base = random_mdp(5, 3, 2, branching=1, n_rewards=1, horizon=T)
    w = world(TabularMDP(np.eye(3)[0], base.transition, base.reward_value, horizon=T))
    trajectory, _ = enumerate_trajectories(w.mdp, w.model, behaviour=w.behaviour)
    probs = np.asarray(policy_probabilities(w.mdp, w.model, T))
    values = policy_evaluation(w.mdp, probs, GAMMA)
    exact = np.stack([action_values(w.mdp, v, GAMMA) for v in values[1:]])
    state, action, mask = (np.asarray(x) for x in (trajectory.obs, trajectory.action, trajectory.mask))
    fitted = fitted_q(state, action, np.asarray(trajectory.reward), mask, probs, GAMMA)
    reached = np.zeros((T, 3), bool)
    reached[np.broadcast_to(np.arange(T)[:, None], state.shape)[mask], state[mask]] = True
    np.testing.assert_allclose(fitted[reached], exact[reached], atol=1e-12)
    rows = np.arange(T)[:, None]
    log_rho = seen_by(w.model, trajectory)[0] - trajectory.log_mu
    data = logged(trajectory.reward, log_rho, mask, exact[rows, state, action], (probs * exact).sum(-1)[rows, state])
    terms = ESTIMATORS["dr"](data, GAMMA).top[:, 0]
    np.testing.assert_allclose(terms, float(objective(w.mdp, w.model, GAMMA)), atol=1e-12)
    assert importance_sampling(data, GAMMA).top.std() > 0.1


def as_dataset(trajectory):
    """Every column as an episode of a dataset."""
    t = jax.tree.map(np.asarray, trajectory._replace(carry=None))
    rows = lambda x: np.swapaxes(x, 0, 1)[t.mask.T]  # noqa: E731
    return Dataset(
        *map(rows, (t.obs, t.action, t.reward, t.log_mu)), t.mask.sum(0), t.terminated.any(0), t.cut_obs[0], {}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "correction"),
    [("reward_to_go", "trajectory"), pytest.param("per_decision", "decision", marks=pytest.mark.slow)],
)
def test_a_dataset_of_every_episode_has_the_true_gradient(here, target, correction):
    w, trajectory, probability, _ = here
    seen = as_seen(as_dataset(trajectory), w.mdp.observation_space, w.mdp.action_space)
    psi = Psi(target, "none", correction, gamma=GAMMA, discounted=True)
    samples = gradient_samples(w.model, seen, psi(steps_from(w.model, seen, psi)))
    mean = jax.tree.map(lambda x: jnp.tensordot(jnp.asarray(probability), x, axes=1), samples)
    assert close(mean, gradient(w.mdp, w.model, GAMMA))
