"""The model-free theorem: the dynamics drop out of ∇log p_θ(τ), trajectory by trajectory."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import world

from policygrad.envs.tabular import TabularMDP, random_mdp
from policygrad.learn import gradient_samples
from policygrad.measure import enumerate_trajectories, log_trajectory_probability

VARYING = random_mdp(0, 3, 2, branching=2, n_terminal=1, horizon=2)


ALIKE = random_mdp(2, 4, 2, branching=2, n_terminal=1, n_observations=2, time_limit=2)


@pytest.mark.parametrize(
    ("mdp", "options"),
    [(VARYING, {}), (VARYING, {"horizon": 2}), (ALIKE, {"policy": "gru", "net": (2,)})],
    ids=["memoryless", "time-to-go", "history"],
)
def test_the_score_of_a_trajectory_needs_no_model_of_the_dynamics(mdp, options):
    model = world(mdp, **options).model
    trajectory, probability = enumerate_trajectories(mdp, model)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    log_p = lambda params: log_trajectory_probability(mdp, eqx.combine(params, static), trajectory)  # noqa: E731
    full, value = jax.jit(lambda params: (jax.jacrev(log_p)(params), log_p(params)))(params)
    scores = jax.jit(lambda model: gradient_samples(model, trajectory, jnp.ones(trajectory.mask.shape)))(model)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), full, scores)
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(scores)) > 0.1
    np.testing.assert_allclose(np.exp(value), probability, rtol=1e-12)


def test_the_probability_of_what_is_seen_sums_over_what_looks_alike():
    mdp = TabularMDP(ALIKE.initial, ALIKE.transition, np.ones((4, 2, 4)), observation=ALIKE.observation, time_limit=2)
    model = world(mdp).model
    trajectory, probability = enumerate_trajectories(mdp, model)
    seen = np.concatenate([trajectory.obs, trajectory.action, trajectory.cut_obs])
    _, group = np.unique(seen, axis=1, return_inverse=True)
    together = np.bincount(group.ravel(), probability)[group.ravel()]
    np.testing.assert_allclose(np.exp(log_trajectory_probability(mdp, model, trajectory)), together, rtol=1e-12)
