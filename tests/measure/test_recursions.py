"""Moments by linear systems are the moments by enumeration; and where nothing can be enumerated, those of a series."""

import time
from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.envs.tabular import TabularMDP, random_mdp, short_corridor, short_corridor_value
from policygrad.ladder import Psi
from policygrad.measure import gradient, ladder_moments, moments, table_critic
from policygrad.measure.recursions import optimal_baseline, recursive_moments, why_not
from policygrad.models import make_model

pytestmark = pytest.mark.usefixtures("x64")

GAMMA = 0.9
RUNGS = {
    "total return": Psi("total_return", gamma=GAMMA),
    "total return, constant": Psi("total_return", "constant", gamma=GAMMA, b=1.3),
    "total return, V": Psi("total_return", "value", gamma=GAMMA),
    "reward-to-go": Psi("reward_to_go", gamma=GAMMA, discounted=True),
    "reward-to-go, constant": Psi("reward_to_go", "constant", gamma=GAMMA, discounted=True, b=0.7),
    "reward-to-go, V": Psi("reward_to_go", "value", gamma=1.0),
    "TD(0)": Psi("td0", "value", gamma=GAMMA, discounted=True),
    "λ-return": Psi("lambda_return", "constant", gamma=GAMMA, lam=0.6, b=-0.4),
    "GAE": Psi("lambda_return", "value", gamma=GAMMA, lam=0.6, discounted=True),
    "2 steps": Psi("n_step", "value", gamma=GAMMA, n=2, discounted=True),
    "n ≥ T": Psi("n_step", gamma=GAMMA, n=9),
    "mixture": Psi("mixture", "constant", gamma=GAMMA, b=0.3, weights=(0.5, 0.2, 0.4)),
    "maximum entropy": Psi("lambda_return", "value", gamma=GAMMA, lam=0.5, alpha=0.3),
    "maximum entropy, total return": Psi("total_return", gamma=GAMMA, alpha=0.3),
    "trajectory": Psi("total_return", "value", "trajectory", gamma=GAMMA),
    "trajectory, reward-to-go": Psi("reward_to_go", "value", "trajectory", gamma=GAMMA, discounted=True),
    "per decision": Psi("per_decision", "value", "decision", gamma=GAMMA, discounted=True),
    "per decision, constant": Psi("per_decision", "constant", "decision", gamma=GAMMA, b=0.5),
    "V-trace": Psi("vtrace", "value", "vtrace", gamma=GAMMA, lam=0.7, rho_bar=1.1, c_bar=0.9, discounted=True),
}
UNBIASED = {
    "total return": GAMMA,
    "total return, V": GAMMA,
    "reward-to-go": GAMMA,
    "reward-to-go, constant": GAMMA,
    "reward-to-go, V": 1.0,
}
SETTINGS = {
    "horizon": ({"horizon": 3}, None),
    "time limit": ({"time_limit": 3}, None),
    "time limit, time-to-go": ({"time_limit": 3}, 3),
}


def model_of(mdp, seed=0, **options):
    """A policy that is not uniform, with a critic that is wrong."""
    model = make_model(
        mdp.observation_space, mdp.action_space, key=jax.random.key(0), **{"policy": "tabular"} | options
    )
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(0.7 * rng.normal(size=x.shape)) if eqx.is_inexact_array(x) else x, model)


def with_logits(mdp, logits):
    return eqx.tree_at(lambda m: m.actor.head.last.rows, model_of(mdp), jnp.asarray(logits, float))


def assert_same(found, expected, tolerance=1e-10):
    for name in ("mean", "bias"):
        for x, y in zip(jax.tree.leaves(getattr(found, name)), jax.tree.leaves(getattr(expected, name)), strict=True):
            np.testing.assert_allclose(x, y, atol=tolerance)
    np.testing.assert_allclose(found.variance, expected.variance, rtol=tolerance)
    np.testing.assert_allclose(found.second_moment, expected.second_moment, rtol=tolerance)


# Against enumeration


@cache
def world(setting):
    """Random rewards, and states that look the same: an MDP, a policy, another one, and ∇J."""
    limits, horizon = SETTINGS[setting]
    mdp = random_mdp(0, 4, 2, branching=2, n_terminal=1, n_observations=3, **limits)
    model = model_of(mdp, 0, horizon=horizon)
    return mdp, model, model_of(mdp, 1, horizon=horizon), gradient(mdp, model, GAMMA)


@cache
def enumerated(setting, off_policy):
    mdp, model, other, reference = world(setting)
    options = {"behaviour": other if off_policy else None, "reference": reference}
    return mdp, model, options, ladder_moments(mdp, model, RUNGS, **options)


@pytest.mark.parametrize("off_policy", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_is_its_enumeration(rung, setting, off_policy):
    mdp, model, options, expected = enumerated(setting, off_policy)
    assert expected[rung].variance > 0.1
    assert_same(recursive_moments(mdp, model, RUNGS[rung], **options), expected[rung])


def test_an_end_is_no_cut():
    """The rungs that bootstrap differ between horizon and time limit, the others do not. Both at once is an end."""
    mdp, model, *_ = world("horizon")
    ends, cuts, both = (replace(mdp, horizon=h, time_limit=limit) for h, limit in ((3, None), (None, 3), (3, 3)))
    for rung, bootstraps in {"TD(0)": True, "GAE": True, "2 steps": True, "reward-to-go": False}.items():
        ended, cut, ended_too = (recursive_moments(m, model, RUNGS[rung]).variance for m in (ends, cuts, both))
        assert (abs(ended - cut) > 1e-2) == bootstraps
        np.testing.assert_allclose(ended_too, ended, rtol=1e-12)


@pytest.mark.parametrize("off_policy", [False, True])
@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
@pytest.mark.parametrize("batch", [2, 3])
def test_baselines_that_couple_are_their_enumeration(batch, baseline, off_policy):
    """Over all pairs, and all triples, of trajectories."""
    mdp = random_mdp(0, 3, 2, branching=2, n_rewards=4 - batch, n_terminal=1, n_observations=2, time_limit=2)
    model = model_of(mdp)
    psi = Psi("total_return", baseline, "trajectory" if off_policy else "none", gamma=GAMMA)
    options = {"batch": batch, "behaviour": model_of(mdp, 1) if off_policy else None}
    assert_same(recursive_moments(mdp, model, psi, **options), moments(mdp, model, psi, **options))


def test_a_critic_of_its_own_and_a_batch():
    mdp = random_mdp(1, 3, 2, branching=2, n_rewards=1, time_limit=2)
    model, critic = model_of(mdp), table_critic(mdp, np.arange(9.0).reshape(3, 3))
    options = {"critic": critic, "batch": 5}
    assert_same(recursive_moments(mdp, model, RUNGS["GAE"], **options), moments(mdp, model, RUNGS["GAE"], **options))


# Without bounds


def corridor_series(p, n_steps=800):
    """E[g] and E[g²] of the total return and of reward-to-go, and E[S²R], E[S²], in the corridor with P(right) = p and
    score x − p (x = 1: right), by a sum over (steps, state, steps to the right), forwards in time.

    With W_k = Σ_{t≤k} (x_t − p), the total return's g is −T·W_{T−1} and reward-to-go's is Z = −Σ_k W_k, whose two
    moments travel along.
    """
    successor = {0: (0, 1), 1: (2, 0), 2: (1, 3)}
    mass = np.zeros((3, 4, n_steps + 2))  # moments of Z, state, steps to the right
    mass[0, 0, 0] = 1
    total = np.zeros(6)
    for steps in range(1, n_steps + 1):
        after = np.zeros_like(mass)
        for state, successors in successor.items():
            after[:, successors[0]] += (1 - p) * mass[:, state]
            after[:, successors[1], 1:] += p * mass[:, state, :-1]
        w = np.arange(n_steps + 2) - p * steps
        zeroth, first, second = after
        mass = np.stack([zeroth, first - w * zeroth, second - 2 * w * first + w**2 * zeroth])
        done = mass[:, 3]
        total += [
            done[0] @ (-steps * w), done[0] @ (steps * w) ** 2, done[1].sum(), done[2].sum(),
            done[0] @ (w**2 * -steps), done[0] @ w**2,
        ]  # fmt: skip
    return total


@pytest.mark.parametrize("p", [0.45, 2 - np.sqrt(2)])
def test_short_corridor(p):
    """γ = 1 and no limit, three states that look the same. The score of the logits is (x − p)·(−1, 1)."""
    mdp = short_corridor()
    model = with_logits(mdp, [[0.0, np.log(p / (1 - p))]])
    slope = jax.grad(short_corridor_value)(p) * p * (1 - p)
    by_return, by_return_sq, to_go, to_go_sq, score_return, score_sq = corridor_series(p)
    np.testing.assert_allclose([by_return, to_go], slope, atol=1e-9)  # the series itself
    for target, square in {"total_return": by_return_sq, "reward_to_go": to_go_sq}.items():
        found = recursive_moments(mdp, model, Psi(target, gamma=1.0), reference=gradient(mdp, model))
        np.testing.assert_allclose(found.mean.actor.head.last.rows, [[-slope, slope]], atol=1e-10)
        np.testing.assert_allclose(found.second_moment, 2 * square, rtol=1e-10)
        np.testing.assert_allclose(found.variance, 2 * (square - slope**2), rtol=1e-10)
        assert max(np.abs(x).max() for x in jax.tree.leaves(found.bias)) < 1e-10
    np.testing.assert_allclose(optimal_baseline(mdp, model), score_return / score_sq, rtol=1e-10)


@pytest.mark.parametrize("off_policy", [False, True])
def test_no_bound_is_the_limit_of_far_ones(off_policy):
    """And the mean of what is unbiased is ∇J."""
    endless, far = (random_mdp(0, 5, 2, n_terminal=2, n_observations=4, **limit) for limit in ({}, {"time_limit": 150}))
    model = model_of(endless)
    options = {"behaviour": model_of(endless, 1) if off_policy else None}
    for name, psi in RUNGS.items():
        if psi.target != "n_step" or psi.n < 9:  # nine steps are another target where episodes are longer
            assert_same(
                recursive_moments(endless, model, psi, **options), recursive_moments(far, model, psi, **options)
            )
        if name in UNBIASED and not off_policy:
            mean, expected = recursive_moments(endless, model, psi).mean, gradient(endless, model, UNBIASED[name])
            np.testing.assert_allclose(mean.actor.head.last.rows, expected.actor.head.last.rows, atol=1e-10)


def test_a_long_horizon_takes_less_than_a_second():
    mdp = random_mdp(0, 5, 2, horizon=200)
    model = model_of(mdp)
    expected = gradient(mdp, model, 1.0).actor.head.last.rows
    recursive_moments(mdp, model, Psi("reward_to_go"))  # compiled once
    for psi in (Psi("total_return", gamma=1.0), Psi("reward_to_go", "value", gamma=1.0), Psi("n_step", "value", n=3)):
        start = time.process_time()
        found = recursive_moments(mdp, model, psi)
        assert time.process_time() - start < 1
        if psi.target != "n_step":
            np.testing.assert_allclose(found.mean.actor.head.last.rows, expected, atol=1e-10)


# The optimal baseline


def test_the_optimal_baseline_has_the_least_variance():
    for mdp in (random_mdp(0, 4, 2, n_terminal=1), random_mdp(0, 4, 2, n_observations=3, horizon=30)):
        model, b = model_of(mdp), optimal_baseline(mdp, model_of(mdp), GAMMA)
        below, best, above = (
            recursive_moments(mdp, model, Psi("total_return", "constant", gamma=GAMMA, b=b + step)).variance
            for step in (-1, 0, 1)
        )
        np.testing.assert_allclose(below, above, rtol=1e-10)  # a parabola in b, b* in its middle
        assert best < below


def test_the_optimal_baseline_of_a_two_armed_bandit_leaves_no_variance():
    """b* = π₂r₁ + π₁r₂, whether the one step ends in a terminal state or at the horizon."""
    reward = np.zeros((2, 2, 2))
    reward[0] = [[0, 1], [0, -3]]
    to_the_end = np.broadcast_to([0.0, 1.0], (2, 2, 2))
    mdp = TabularMDP([1, 0], to_the_end, reward, terminal=np.array([False, True]))
    model = with_logits(mdp, [[0.4, -0.7], [0, 0]])
    pi = jax.nn.softmax(jnp.array([0.4, -0.7]))
    b = optimal_baseline(mdp, model)
    np.testing.assert_allclose(b, pi[1] * 1 + pi[0] * -3, rtol=1e-12)
    assert recursive_moments(mdp, model, Psi("total_return", "constant", gamma=1.0, b=b)).variance < 1e-14


# What is infinite, and what is refused


def stay_or_leave():
    """One state; action 0 stays in it and pays 1, action 1 ends."""
    transition = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    reward = np.array([[1.0, 0.0], [0.0, 0.0]])[..., None] * np.ones(2)
    return TabularMDP([1, 0], transition, reward, terminal=np.array([False, True]))


def test_squared_weights_that_outgrow_the_episodes():
    """E[ρ_τ²] = Σ_k (p²/q)^k …: finite only if p² < q, p and q being the probabilities to stay under π and μ."""
    mdp = stay_or_leave()
    pi, near, far = (with_logits(mdp, [[np.log(q / (1 - q)), 0.0], [0, 0]]) for q in (0.8, 0.7, 0.6))
    for psi in (
        Psi("total_return", "none", "trajectory", gamma=GAMMA),
        Psi("per_decision", "none", "decision", gamma=GAMMA),
    ):
        assert np.isfinite(recursive_moments(mdp, pi, psi, behaviour=near).variance)
        with pytest.raises(ValueError, match="squared importance weights grow faster than episodes end"):
            recursive_moments(mdp, pi, psi, behaviour=far)
    discounted = Psi("per_decision", "none", "decision", gamma=GAMMA, discounted=True)
    assert np.isfinite(recursive_moments(mdp, pi, discounted, behaviour=far).variance)  # γ² p²/q < 1
    # k stays, each with score 0.2 and reward 1, then the end with score −0.8: E[(ρ_τ·S·R)²], for two logits
    k = np.arange(2000.0)
    terms = (0.8**2 / 0.7) ** k * (0.2**2 / 0.3) * (k * (0.2 * k - 0.8)) ** 2
    psi = Psi("total_return", "none", "trajectory", gamma=1.0)
    np.testing.assert_allclose(
        recursive_moments(mdp, pi, psi, behaviour=near).second_moment, 2 * terms.sum(), rtol=1e-9
    )


def test_episodes_that_never_end():
    with pytest.raises(ValueError, match="some episodes never end"):
        optimal_baseline(random_mdp(0, 3, 2), model_of(random_mdp(0, 3, 2)))
    transition = np.zeros((4, 2, 4))
    transition[0, 0, 1] = transition[0, 1, 2] = transition[1, :, 1] = transition[2, :, 2] = transition[3, :, 3] = 1
    trap, aside = (
        TabularMDP(start, transition, np.ones((4, 2, 4)), terminal=np.arange(4) == 2)
        for start in ([1, 0, 0, 0], [0, 0, 0, 1])
    )
    assert "never end" in why_not(trap, model_of(trap), Psi())
    assert "never end" in why_not(aside, model_of(aside), Psi())
    transition = transition.copy()
    transition[0, 0], transition[3] = np.eye(4)[2], np.eye(4)[0]
    never_seen = TabularMDP([0, 0, 0, 1], transition, np.ones((4, 2, 4)), terminal=np.arange(4) == 2)
    assert why_not(never_seen, model_of(never_seen), Psi()) is None  # state 1 is a trap that nothing leads to
    assert recursive_moments(never_seen, model_of(never_seen), Psi("total_return")).variance > 0


@pytest.mark.parametrize(
    ("psi", "why"),
    [
        (Psi("total_return", standardize=True), "statistic of the whole batch"),
        (Psi("total_return", "optimal"), "ratio of sums over the batch"),
        (Psi("total_return", "optimal_in_sample"), "ratio of sums over the batch"),
        (Psi("reward_to_go", "optimal_per_time"), "ratio of sums over the batch"),
        (Psi("reward_to_go", "per_time"), "episodes that are still running"),
        (Psi("reward_to_go", "leave_one_out"), "target='reward_to_go' with baseline='leave_one_out'.*random length"),
        (Psi("lambda_return", "mean"), "random length"),
        (Psi("total_return", "none", "self_normalized"), "correction='self_normalized'"),
        (Psi("total_return", "none", "truncated"), "correction='truncated'"),
        (Psi("total_return", "constant", b=np.ones(3)), "give b as a float"),
    ],
)
def test_rungs_without_a_method_are_refused_in_words(psi, why):
    mdp = random_mdp(0, 3, 2, horizon=2)
    with pytest.raises(ValueError, match=why):
        recursive_moments(mdp, model_of(mdp), psi, batch=2)


def test_models_without_a_method_are_refused_in_words():
    mdp, psi = random_mdp(0, 3, 2, n_terminal=1), Psi("total_return", "leave_one_out")
    model, clock, gru = model_of(mdp), model_of(mdp, horizon=3), model_of(mdp, policy="gru", net=(2,))
    assert "has no finite linear system" in why_not(mdp, gru, Psi())
    assert "has no finite linear system" in why_not(mdp, model, Psi(), behaviour=gru)
    assert "sees the time" in why_not(mdp, clock, Psi())
    assert "sees the time" in why_not(mdp, model, Psi("td0"), critic=clock)
    assert "correction='trajectory'" in why_not(mdp, model, psi, behaviour=model)
    assert why_not(mdp, model, psi) is None
    with pytest.raises(ValueError, match="give batch=2 or more"):
        recursive_moments(mdp, model, psi)


def test_rewards_are_on_the_models_scale():
    """A model that divides rewards by their spread is that of an MDP whose rewards are divided."""
    mdp = random_mdp(0, 3, 2, n_terminal=1)
    model = eqx.tree_at(lambda m: m.normalizer.ret.var, model_of(mdp, normalize_reward=True), jnp.asarray(4.0))
    divided = TabularMDP(
        mdp.initial, mdp.transition, mdp.reward_value / np.sqrt(4.0 + 1e-8), mdp.reward_prob, mdp.terminal
    )
    plain = eqx.tree_at(lambda m: m.normalizer, model, None)
    for name in ("total return", "GAE"):
        found, expected = recursive_moments(mdp, model, RUNGS[name]), recursive_moments(divided, plain, RUNGS[name])
        np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-12)
