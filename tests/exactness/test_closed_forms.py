"""Where the answer is known on paper."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from worlds import filled

from policygrad.envs.tabular import TabularMDP, short_corridor, short_corridor_value
from policygrad.ladder import Psi
from policygrad.learn import gradient_samples
from policygrad.measure import gradient, ladder_moments, objective, policy_evaluation, value_iteration
from policygrad.models import make_model
from policygrad.types import Trajectory


def with_logits(mdp, logits, **options):
    make = lambda key: make_model(mdp.observation_space, mdp.action_space, key=key, policy="tabular", **options)  # noqa: E731
    model = filled(eqx.filter_eval_shape(make, jax.random.key(0)), 0)
    return eqx.tree_at(lambda m: m.actor.head.last.rows, model, jnp.asarray(logits, float))


@pytest.mark.parametrize("p", [0.3, 2 - np.sqrt(2)])
def test_short_corridor(p):
    """J(p) = −2(2 − p)/(p(1 − p)); with p = σ(l₁ − l₀) its slope in l₁ is J'(p)·p(1 − p), zero at the best p = 2 −
    √2."""
    mdp = short_corridor()
    model = with_logits(mdp, [[0.0, np.log(p / (1 - p))]])
    np.testing.assert_allclose(objective(mdp, model), short_corridor_value(p), rtol=1e-12)
    slope = 2 * (p**2 - 4 * p + 2) / (p * (1 - p)) ** 2
    expected = np.array([[-1, 1]]) * slope * p * (1 - p)
    np.testing.assert_allclose(gradient(mdp, model).actor.head.last.rows, expected, atol=1e-10)
    if p > 0.5:
        np.testing.assert_allclose(short_corridor_value(p), -6 - 4 * np.sqrt(2), rtol=1e-12)
        assert np.abs(expected).max() < 1e-10


def bandit(rewards):
    """One state, one step."""
    reward = np.zeros((1, len(rewards), 1))
    reward[0, :, 0] = rewards
    return TabularMDP([1.0], np.ones_like(reward), reward, horizon=1)


def test_the_optimal_baseline_of_a_two_armed_bandit_leaves_no_variance():
    """b* = π₂r₁ + π₁r₂ (the *other* arm's probabilities): every sample is then the gradient itself. The mean reward
    π₁r₁ + π₂r₂ is not b*."""
    mdp, r = bandit([1.0, -3.0]), np.array([1.0, -3.0])
    model = with_logits(mdp, [[0.4, -0.7]], critic=False)
    pi = np.asarray(jax.nn.softmax(jnp.asarray([0.4, -0.7])))
    reference = gradient(mdp, model)
    rungs = {
        name: Psi("total_return", "constant", gamma=1.0, b=b)
        for name, b in {"best": pi[::-1] @ r, "V": pi @ r, "zero": 0.0}.items()
    }
    found = ladder_moments(mdp, model, rungs, reference=reference)
    p = pi[0] * pi[1]
    np.testing.assert_allclose(reference.actor.head.last.rows, p * (r[0] - r[1]) * np.array([[1, -1]]), rtol=1e-12)
    assert found["best"].variance < 1e-28
    # with a baseline off by e: Var = e²·E‖∇log π‖² = e²·2·π₁π₂
    np.testing.assert_allclose(found["V"].variance, (pi @ r - pi[::-1] @ r) ** 2 * 2 * p, rtol=1e-12)
    np.testing.assert_allclose(found["zero"].variance, (pi[::-1] @ r) ** 2 * 2 * p, rtol=1e-12)
    learned = ladder_moments(
        mdp, model, {"learned": Psi("total_return", "optimal", gamma=1.0)}, batch=2, reference=reference
    )["learned"]
    assert learned.variance > 1e-3  # estimated from one other sample it is far from b*
    assert all(np.abs(x).max() < 1e-12 for x in jax.tree.leaves(learned.bias))


@pytest.mark.parametrize(("m", "log_std"), [(0.7, 0.0), (-1.5, 0.4)])
def test_gaussian_bandit(m, log_std):
    """a ~ N(m, σ²), paid a: E[ĝ] = (1, 0), total variance 2 + m²/σ² + 2m² + 10σ²; with the baseline m: 2 + 10σ².
    Expectations by quadrature."""

    def make(key):
        unbounded = spaces.Box(-np.inf, np.inf, (1,))
        return make_model(spaces.Discrete(1), unbounded, key=key, policy="tabular", critic=False)

    model = filled(eqx.filter_eval_shape(make, jax.random.key(0)), 0)
    model = eqx.tree_at(
        lambda x: (x.actor.head.last.rows, x.actor.family.log_std), model, (jnp.full((1, 1), m), jnp.full(1, log_std))
    )
    nodes, probability = np.polynomial.hermite_e.hermegauss(12)
    probability, std = probability / probability.sum(), np.exp(log_std)
    action = m + std * nodes[None]
    zero, yes = jnp.zeros((1, 12)), jnp.ones((1, 12), bool)
    trajectory = Trajectory(
        zero.astype(int), action[..., None], action, yes, ~yes, zero, zero.astype(int), yes, yes, None, zero.astype(int)
    )
    for baseline, extra in ((0.0, m**2 / std**2 + 2 * m**2), (m, 0.0)):
        grads = gradient_samples(model, trajectory, jnp.asarray(action - baseline))
        samples = np.stack([np.ravel(grads.actor.head.last.rows), np.ravel(grads.actor.family.log_std)])
        np.testing.assert_allclose(samples @ probability, [1, 0], atol=1e-12)
        np.testing.assert_allclose((samples**2).sum(0) @ probability - 1, 2 + 10 * std**2 + extra, rtol=1e-12)


def test_one_state_forever():
    """r + γr + γ²r … = r/(1 − γ); with a horizon of T steps r(1 − γ^T)/(1 − γ). The better arm is the best policy."""
    mdp = bandit([2.0, 1.0])
    endless = TabularMDP(mdp.initial, mdp.transition, mdp.reward_value)
    probs = np.array([[0.25, 0.75]])
    np.testing.assert_allclose(policy_evaluation(endless, probs, 0.9), [12.5], rtol=1e-12)
    np.testing.assert_allclose(value_iteration(endless, 0.9).value, [20.0], rtol=1e-10)
    finite = TabularMDP(mdp.initial, mdp.transition, mdp.reward_value, horizon=4)
    np.testing.assert_allclose(policy_evaluation(finite, probs, 0.9)[0], [1.25 * (1 - 0.9**4) / 0.1], rtol=1e-12)
    np.testing.assert_allclose(
        value_iteration(finite, 0.9).value[:, 0], [2 * (1 - 0.9**k) / 0.1 for k in (4, 3, 2, 1, 0)], rtol=1e-12
    )
