"""What is called biased has exactly the claimed bias, computed a second time in plain NumPy: softmax scores by hand,
sums over states or over paths."""

from functools import cache

import numpy as np
import pytest
from worlds import GAMMA, along, by_hand, q_of, returns_to_go, softmax, table, visits, world

from policygrad.envs.tabular import random_mdp
from policygrad.ladder import Psi
from policygrad.measure import gradient, ladder_moments, table_critic

LAM, RHO_BAR, C_BAR = 0.6, 0.9, 0.7
WRONG_V = np.array([0.8, -1.1, 0.4])
HORIZON = 3


def rows(tree):
    """The part of a gradient that belongs to the policy's table."""
    return np.asarray(tree.actor.head.last.rows)


@cache
def setting():
    return world(random_mdp(0, 3, 2, branching=2, n_terminal=1, horizon=HORIZON), seed=3)


@cache
def singles():
    """On π's data, and on another policy's."""
    mdp, model, behaviour = setting()
    paths = by_hand(mdp, model)
    rungs = {
        "γ^t dropped": Psi("reward_to_go", gamma=GAMMA),
        "λ < 1": Psi("lambda_return", "value", gamma=GAMMA, discounted=True, lam=LAM),
        "peeks": Psi("reward_to_go", "constant", gamma=GAMMA, discounted=True, b=PEEK[paths.state, paths.action]),
    }
    weighted = {
        "V-trace": Psi(
            "vtrace", "value", "vtrace", gamma=GAMMA, discounted=True, lam=LAM, rho_bar=RHO_BAR, c_bar=C_BAR
        ),
        "truncated": Psi("total_return", "none", "truncated", gamma=GAMMA, rho_bar=RHO_BAR),
    }
    options = {"critic": table_critic(mdp, WRONG_V), "reference": gradient(mdp, model, GAMMA)}
    return ladder_moments(mdp, model, rungs, **options) | ladder_moments(
        mdp, model, weighted, behaviour=behaviour, **options
    )


PEEK = np.array([[1.0, -2.0], [0.5, 3.0], [0.0, 0.0]])


def dynamics():
    mdp, model, behaviour = setting()
    pi, mu = softmax(table(model)), softmax(table(behaviour))
    q = values_to_go(lambda q: (pi * q).sum(-1))
    true = along(pi, pi, GAMMA ** np.arange(HORIZON), visits(mdp, pi, HORIZON), q)
    np.testing.assert_allclose(true, rows(gradient(mdp, model, GAMMA)), atol=1e-13)
    return mdp, pi, mu, q, true


def values_to_go(worth):
    """Q_t(s, a) from the end: ``worth`` turns Q_{t+1} into what s_{t+1} is worth."""
    mdp, q = setting().mdp, []
    for _ in range(HORIZON):
        q.insert(0, q_of(mdp, worth(q[0]) if q else np.zeros(3), GAMMA))
    return np.stack(q)


def test_dropping_the_discount_of_the_state_distribution():
    mdp, pi, _, q, true = dynamics()
    bias = along(pi, pi, np.ones(HORIZON), visits(mdp, pi, HORIZON), q) - true
    assert np.abs(bias).max() > 1e-3
    np.testing.assert_allclose(rows(singles()["γ^t dropped"].bias), bias, atol=1e-13)


def test_a_lambda_return_with_a_wrong_critic():
    """q̃_t = r̄ + γ P [(1 − λ) Ṽ + λ Σ_a π q̃_{t+1}]."""
    mdp, pi, _, _, true = dynamics()
    q = values_to_go(lambda q: (1 - LAM) * WRONG_V + LAM * (pi * q).sum(-1))
    bias = along(pi, pi, GAMMA ** np.arange(HORIZON), visits(mdp, pi, HORIZON), q) - true
    assert np.abs(bias).max() > 1e-3
    np.testing.assert_allclose(rows(singles()["λ < 1"].bias), bias, atol=1e-13)


def test_a_baseline_that_knows_the_action():
    mdp, pi, _, _, _ = dynamics()
    bias = -along(pi, pi, GAMMA ** np.arange(HORIZON), visits(mdp, pi, HORIZON), [PEEK] * HORIZON)
    assert np.abs(bias).max() > 1e-3
    np.testing.assert_allclose(rows(singles()["peeks"].bias), bias, atol=1e-13)


def test_vtrace_with_clips_and_a_wrong_critic():
    """E_μ of v_t by its own recursion over states: v̄ = V + Σ_a μ [ρ̂ (r̄ + γPV − V) + γ λ ĉ P(v̄' − V')], states
    visited as μ does."""
    mdp, pi, mu, _, true = dynamics()
    rho, c = np.minimum(RHO_BAR, pi / mu), LAM * np.minimum(C_BAR, pi / mu)
    v = np.where(mdp.terminal, 0, WRONG_V)
    zero = q_of(mdp, np.zeros(3), GAMMA)
    v_bar, q = v, []
    for t in reversed(range(HORIZON)):
        last = t == HORIZON - 1
        following = np.zeros(3) if last else (1 - LAM) * v + LAM * v_bar
        q.insert(0, q_of(mdp, following, GAMMA))
        delta = q_of(mdp, np.zeros(3) if last else v, GAMMA) - v[:, None]
        carried = 0 if last else q_of(mdp, v_bar - v, GAMMA) - zero
        v_bar = v + (mu * (rho * delta + c * carried)).sum(-1)
    advantage = np.stack(q) - v[:, None]
    factor, d = GAMMA ** np.arange(HORIZON), visits(mdp, mu, HORIZON)
    bias = along(pi, mu * rho, factor, d, advantage) - true
    assert np.abs(bias).max() > 1e-3
    np.testing.assert_allclose(rows(singles()["V-trace"].bias), bias, atol=1e-13)


def test_vtraces_fixed_point_is_the_value_of_another_policy():
    """With V = V^{π_ρ̄}, π_ρ̄ ∝ min(ρ̄ μ, π), the policy is credited with Q^{π_ρ̄}, whatever λ and c̄ are (Espeholt et
    al. 2018, §4.1)."""
    mdp = random_mdp(3, 3, 2, branching=2, time_limit=2)
    mdp, model, behaviour = world(mdp, seed=3)
    pi, mu = softmax(table(model)), softmax(table(behaviour))
    clipped = np.minimum(RHO_BAR * mu, pi)
    between = clipped / clipped.sum(-1, keepdims=True)
    value = np.linalg.solve(
        np.eye(3) - GAMMA * np.einsum("sa,sax->sx", between, mdp.transition),
        (between * q_of(mdp, np.zeros(3), GAMMA)).sum(-1),
    )
    expected = along(
        pi, clipped, GAMMA ** np.arange(2), visits(mdp, mu, 2), [q_of(mdp, value, GAMMA) - value[:, None]] * 2
    )
    psi = Psi("vtrace", "value", "vtrace", gamma=GAMMA, discounted=True, lam=LAM, rho_bar=RHO_BAR, c_bar=C_BAR)
    found = ladder_moments(mdp, model, {"V-trace": psi}, behaviour=behaviour, critic=table_critic(mdp, value))[
        "V-trace"
    ]
    np.testing.assert_allclose(rows(found.mean), expected, atol=1e-13)
    assert np.abs(rows(found.mean) - rows(gradient(mdp, model, GAMMA))).max() > 1e-2


def test_truncated_importance_weights():
    mdp, model, behaviour = setting()
    paths = by_hand(mdp, model, behaviour)
    weight = np.minimum(RHO_BAR, np.exp((paths.log_pi - paths.log_mu).sum(0)))
    ret = (GAMMA ** np.arange(HORIZON)[:, None] * paths.reward).sum(0)
    mean = np.einsum("n,tnsa->sa", paths.probability * weight * ret, paths.score)
    bias = mean - dynamics()[-1]
    assert np.abs(bias).max() > 1e-3
    np.testing.assert_allclose(rows(singles()["truncated"].bias), bias, atol=1e-13)


# Batches of two: sums over all pairs of paths

TINY = dict(n_states=3, n_actions=2, n_rewards=1, horizon=2)
PAIRS = {
    "mean": Psi("total_return", "mean", gamma=GAMMA),
    "per time": Psi("reward_to_go", "per_time", gamma=GAMMA, discounted=True),
    "mean, reward-to-go": Psi("reward_to_go", "mean", gamma=GAMMA, discounted=True),
    "optimal in-sample": Psi("total_return", "optimal_in_sample", gamma=GAMMA),
    "standardized": Psi("reward_to_go", gamma=GAMMA, standardize=True),
    "self-normalized": Psi("total_return", "none", "self_normalized", gamma=GAMMA),
}


@cache
def pairs(lengths):
    varying = random_mdp(0, **TINY, branching=2, n_terminal=1)
    mdp, model, behaviour = world(varying if lengths == "varying" else random_mdp(6, **TINY, branching=1), seed=3)
    reference = gradient(mdp, model, GAMMA)
    options = {"batch": 2, "reference": reference}
    on, off = (
        ladder_moments(mdp, model, PAIRS, **options),
        ladder_moments(mdp, model, PAIRS, behaviour=behaviour, **options),
    )
    return (mdp, model, behaviour), rows(reference), on | {"self-normalized": off["self-normalized"]}


@pytest.mark.parametrize(("lengths", "rung"), [("varying", "mean"), ("one", "mean"), ("one", "per time")])
def test_an_in_sample_mean_shrinks_the_gradient_by_an_nth(lengths, rung):
    _, true, found = pairs(lengths)
    assert np.abs(true).max() > 1e-2
    np.testing.assert_allclose(rows(found[rung].bias), -true / 2, atol=1e-13)


def test_an_in_sample_mean_of_three_shrinks_it_by_a_third():
    mdp, model, _ = world(random_mdp(5, 2, 2, branching=1, n_rewards=1, horizon=2), seed=3)
    reference = gradient(mdp, model, GAMMA)
    found = ladder_moments(mdp, model, {"mean": PAIRS["mean"]}, batch=3, reference=reference)["mean"]
    np.testing.assert_allclose(rows(found.bias), -rows(reference) / 3, atol=1e-13)


def test_the_in_sample_mean_of_the_reward_to_go():
    """The other trajectory's share is unbiased; one's own costs E[(Σ_t γ^t ∇log π)·(1/L) Σ_t G_t]/N."""
    (mdp, model, _), _, found = pairs("varying")
    paths = by_hand(mdp, model)
    average = returns_to_go(paths.reward, GAMMA).sum(0) / paths.mask.sum(
        0
    )  # rewards after the end are zero, and so is G
    score = np.einsum("t,tnsa->nsa", GAMMA ** np.arange(2), paths.score)
    bias = -np.einsum("n,nsa->sa", paths.probability * average, score) / 2
    assert np.abs(bias).max() > 1e-3
    np.testing.assert_allclose(rows(found["mean, reward-to-go"].bias), bias, atol=1e-13)


def over_pairs(paths, estimate):
    """Σ_ij p_i p_j ĝ(i, j)."""
    n = len(paths.probability)
    return sum(paths.probability[i] * paths.probability[j] * estimate([i, j]) for i in range(n) for j in range(n))


def test_the_optimal_constant_in_sample():
    (mdp, model, _), true, found = pairs("varying")
    paths = by_hand(mdp, model)
    x, ret = paths.score.sum(0), (GAMMA ** np.arange(2)[:, None] * paths.reward).sum(0)
    sq = (x**2).sum((1, 2))

    def estimate(ij):
        b = (sq[ij] * ret[ij]).sum() / sq[ij].sum()
        return ((ret[ij] - b)[:, None, None] * x[ij]).mean(0)

    bias = over_pairs(paths, estimate) - true
    assert np.abs(bias).max() > 1e-3
    np.testing.assert_allclose(rows(found["optimal in-sample"].bias), bias, atol=1e-13)


def test_standardized_weights():
    (mdp, model, _), true, found = pairs("varying")
    paths = by_hand(mdp, model)
    to_go = returns_to_go(paths.reward, GAMMA)

    def estimate(ij):
        mask, g = paths.mask[:, ij], to_go[:, ij]
        inside = g[mask]
        weight = np.where(mask, (g - inside.mean()) / (inside.std() + 1e-8), 0)
        return np.einsum("tn,tnsa->sa", weight, paths.score[:, ij]) / 2

    bias = over_pairs(paths, estimate) - true
    assert np.abs(bias).max() > 1e-3
    np.testing.assert_allclose(rows(found["standardized"].bias), bias, atol=1e-12)


def test_self_normalized_importance_weights():
    (mdp, model, behaviour), true, found = pairs("varying")
    paths = by_hand(mdp, model, behaviour)
    rho = np.exp((paths.log_pi - paths.log_mu).sum(0))
    x, ret = paths.score.sum(0), (GAMMA ** np.arange(2)[:, None] * paths.reward).sum(0)
    bias = over_pairs(paths, lambda ij: np.einsum("n,nsa->sa", rho[ij] * ret[ij] / rho[ij].sum(), x[ij])) - true
    assert np.abs(bias).max() > 1e-3
    np.testing.assert_allclose(rows(found["self-normalized"].bias), bias, atol=1e-13)
