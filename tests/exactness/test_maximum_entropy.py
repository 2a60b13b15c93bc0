"""Maximum entropy: with r − α log π for a reward the ladder's estimate is the gradient of the soft objective, and its
summit is the soft optimum."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize
from worlds import GAMMA, close, norm, world

from policygrad.envs.tabular import fork, random_mdp
from policygrad.ladder import Psi
from policygrad.measure import ladder_moments, policy_probabilities
from policygrad.measure.dynamic import model_of, soft_policy_evaluation, soft_value_iteration

ALPHA = 0.3
RUNGS = {
    "total return": Psi("total_return", gamma=GAMMA, alpha=ALPHA),
    "reward-to-go": Psi("reward_to_go", gamma=GAMMA, alpha=ALPHA, discounted=True),
    "reward-to-go minus a wrong V": Psi("reward_to_go", "value", gamma=GAMMA, alpha=ALPHA, discounted=True),
    "GAE at λ = 1": Psi("lambda_return", "value", gamma=GAMMA, alpha=ALPHA, discounted=True, lam=1.0),
}


@cache
def setting():
    """Random rewards, episodes of varying length, and a policy with a table for each time."""
    return world(random_mdp(0, 3, 2, branching=2, n_terminal=1, horizon=3), horizon=3)


def soft_objective(mdp, model, gamma, alpha):
    """J_soft(θ) by backward induction, in JAX: a second way, which knows no trajectory."""
    reward, transition, alive = (jnp.asarray(x) for x in model_of(mdp))
    value = jnp.zeros(mdp.n_states)
    for probs in policy_probabilities(mdp, model, mdp.horizon)[::-1]:
        value = alive * jnp.sum(probs * (reward + gamma * transition @ value - alpha * jnp.log(probs)), axis=-1)
    return jnp.asarray(mdp.initial) @ value


@cache
def gradients():
    mdp, model, _ = setting()
    params, static = eqx.partition(model, eqx.is_inexact_array)
    objective = lambda params: soft_objective(mdp, eqx.combine(params, static), GAMMA, ALPHA)  # noqa: E731
    return jax.grad(objective)(params), ladder_moments(mdp, model, RUNGS)


@pytest.mark.parametrize("rung", RUNGS)
def test_the_estimate_is_the_gradient_of_the_soft_objective(rung):
    """Also its own −α∇log π(a_t) is there: its expectation is zero, so the score function needs no second term."""
    reference, found = gradients()
    assert norm(reference) > 0.02
    assert close(found[rung].mean, reference)


def test_the_hard_gradient_is_another():
    mdp, model, _ = setting()
    reference, _ = gradients()
    hard = ladder_moments(mdp, model, {"psi": Psi("reward_to_go", gamma=GAMMA, discounted=True)})["psi"].mean
    assert not close(hard, reference, 1e-3)


def test_two_ways_to_evaluate_agree():
    mdp, model, _ = setting()
    probs = np.asarray(policy_probabilities(mdp, model, mdp.horizon))
    value = soft_policy_evaluation(mdp, probs, GAMMA, ALPHA)[0]
    assert mdp.initial @ value == pytest.approx(float(soft_objective(mdp, model, GAMMA, ALPHA)), abs=1e-13)


def test_its_summit_is_the_soft_optimum():
    """L-BFGS on nothing but the ladder's gradient finds the value and the policy of soft value iteration."""
    mdp, model, _ = setting()
    params, static = eqx.partition(model, eqx.is_inexact_array)
    start, unflatten = ravel_pytree(params)
    at = lambda x: eqx.combine(unflatten(jnp.asarray(x)), static)  # noqa: E731
    psi = {"psi": RUNGS["reward-to-go"]}
    objective = jax.jit(lambda x: soft_objective(mdp, at(x), GAMMA, ALPHA))

    def downhill(x):
        return -float(objective(x)), -np.asarray(ravel_pytree(ladder_moments(mdp, at(x), psi)["psi"].mean)[0])

    found = minimize(downhill, np.asarray(start), jac=True, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 1e-15})
    best = soft_value_iteration(mdp, GAMMA, ALPHA)
    assert -found.fun == pytest.approx(mdp.initial @ best.value[0], abs=1e-10)
    probs = np.asarray(policy_probabilities(mdp, at(found.x), mdp.horizon))
    for t in range(mdp.horizon):
        seen = ~mdp.terminal & ((mdp.initial > 0) | (t > 0))
        np.testing.assert_allclose(probs[t][seen], best.policy[t][seen], atol=1e-4)


def test_the_fork():
    """The hard optimum takes the narrow way; the soft one is paid α log 2 on each step of the wide way, in closed
    form."""
    mdp, alpha, length, wide = fork(4, 0.9), 0.1, 4, 0.9
    soft, hard = soft_value_iteration(mdp, 1.0, alpha), soft_value_iteration(mdp, 1.0, 0.0)
    assert hard.policy[0].tolist() == [1, 0] and hard.value[0] == 1
    narrow = 1.0
    for _ in range(length):
        narrow = alpha * np.logaddexp(narrow / alpha, 0.0)
    gain = wide + length * alpha * np.log(2) - narrow
    assert soft.policy[0, 1] == pytest.approx(1 / (1 + np.exp(-gain / alpha)), abs=1e-12)
    assert soft.policy[0, 1] > 0.8
