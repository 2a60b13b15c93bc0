"""What is called unbiased is unbiased to 1e-12: the exact expectation over every trajectory is the exact gradient."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import GAMMA, by_hand, close, norm, returns_to_go, world

from policygrad.envs.tabular import TabularMDP, random_mdp
from policygrad.ladder import Psi
from policygrad.measure import gradient, ladder_moments, moments, policy_evaluation, policy_probabilities, table_critic

INF = float("inf")


@cache
def settings():
    """Name -> world. Random rewards in all of them; episodes of one length, of varying length; policies that see the
    state, the time, the past."""
    varying = random_mdp(0, 3, 2, branching=2, n_terminal=1, horizon=3)
    return {
        "one length": world(random_mdp(1, 3, 2, branching=2, horizon=2)),
        "varying length": world(varying),
        "time-to-go": world(varying, horizon=3),
        "history": world(
            random_mdp(2, 4, 2, branching=2, n_terminal=1, n_observations=2, horizon=2), policy="gru", net=(2,)
        ),
    }


SINGLE = {
    "total return": Psi("total_return", gamma=GAMMA),
    "total return, γ = 1": Psi("total_return", gamma=1.0),
    "reward-to-go, γ = 1": Psi("reward_to_go", gamma=1.0),
    "reward-to-go": Psi("reward_to_go", gamma=GAMMA, discounted=True),
    "constant": Psi("reward_to_go", "constant", gamma=GAMMA, discounted=True, b=1.7),
    "constant of the total return": Psi("total_return", "constant", gamma=GAMMA, b=-2.0),
    "wrong V as a baseline": Psi("reward_to_go", "value", gamma=GAMMA, discounted=True),
    "λ = 1, wrong V": Psi("lambda_return", "value", gamma=GAMMA, discounted=True, lam=1.0),
    "n ≥ T, wrong V": Psi("n_step", "value", gamma=GAMMA, discounted=True, n=9),
    "trajectory": Psi("total_return", "constant", "trajectory", gamma=GAMMA, b=0.5),
    "trajectory, reward-to-go": Psi("reward_to_go", "value", "trajectory", gamma=GAMMA, discounted=True),
    "per-decision": Psi("per_decision", "none", "decision", gamma=GAMMA, discounted=True),
    "per-decision, wrong V": Psi("per_decision", "value", "decision", gamma=GAMMA, discounted=True),
}


@cache
def single(setting):
    mdp, model, behaviour = settings()[setting]
    references = {gamma: gradient(mdp, model, gamma) for gamma in (GAMMA, 1.0)}
    return references, on_and_off(mdp, model, behaviour, SINGLE)


def on_and_off(mdp, model, behaviour, rungs, **options):
    """Each rung on the data it is made for: π's own, or, with a correction, those of another policy. (Twice the same
    program: compiled once.)"""
    on, off = (
        ladder_moments(mdp, model, rungs, behaviour=model, **options),
        ladder_moments(mdp, model, rungs, behaviour=behaviour, **options),
    )
    return {name: (on if psi.correction == "none" else off)[name] for name, psi in rungs.items()}


@pytest.mark.parametrize("rung", SINGLE)
@pytest.mark.parametrize("setting", ["varying length", "time-to-go", "history"])
def test_a_rung_of_one_trajectory_is_unbiased(setting, rung):
    references, found = single(setting)
    reference = references[SINGLE[rung].gamma]
    assert norm(reference) > 0.02
    assert found[rung].variance > 1e-3
    assert close(found[rung].mean, reference)


EXACT_V = {
    "TD(0)": Psi("td0", "value", gamma=GAMMA, discounted=True),
    "TD(0), no baseline": Psi("td0", gamma=GAMMA, discounted=True),
    "2 steps": Psi("n_step", "value", gamma=GAMMA, discounted=True, n=2),
    "λ = 0.3": Psi("lambda_return", "value", gamma=GAMMA, discounted=True, lam=0.3),
    "λ = 1": Psi("lambda_return", "none", gamma=GAMMA, discounted=True, lam=1.0),
    "mixture": Psi("mixture", "value", gamma=GAMMA, discounted=True, weights=(0.2, 0.5, 0.3)),
    "V-trace": Psi("vtrace", "value", "vtrace", gamma=GAMMA, discounted=True, lam=0.6, rho_bar=INF, c_bar=INF),
}


@cache
def with_exact_critic(setting):
    if setting == "truncated":
        mdp, model, _ = world(random_mdp(3, 3, 2, branching=2, time_limit=2))
        final = policy_evaluation(mdp, policy_probabilities(mdp, model, 1)[0], GAMMA)
        value = jnp.broadcast_to(final, (3, 3))
    else:
        mdp, model, _ = settings()[setting]
        final, value = None, policy_evaluation(mdp, policy_probabilities(mdp, model, mdp.horizon), GAMMA)
    options = {"critic": table_critic(mdp, value), "reference": gradient(mdp, model, GAMMA, final_value=final)}
    return options["reference"], ladder_moments(mdp, model, EXACT_V, **options)


@pytest.mark.parametrize("rung", EXACT_V)
@pytest.mark.parametrize("setting", ["one length", "time-to-go", "truncated"])
def test_a_bootstrapping_rung_with_the_exact_critic_is_unbiased(setting, rung):
    reference, found = with_exact_critic(setting)
    assert norm(reference) > 0.02
    assert norm(found[rung].bias) <= 1e-12 * max(1.0, norm(reference))


def test_truncated_rows_are_credited_with_all_that_follows():
    """With an exact critic a cut episode gives the head of the policy gradient theorem's sum, whose limit is ∇J."""
    infinite = random_mdp(3, 3, 2, branching=2, n_terminal=1)
    mdp, model, _ = world(infinite)
    value = policy_evaluation(mdp, policy_probabilities(mdp, model, 1)[0], GAMMA)
    cut = random_mdp(3, 3, 2, branching=2, n_terminal=1, time_limit=300)
    assert close(gradient(cut, model, GAMMA, final_value=value), gradient(infinite, model, GAMMA), 1e-12)


def test_vtrace_without_clips_is_unbiased_where_actions_do_not_steer():
    """One step of importance weight corrects the action, not the state: where the next state does not depend on the
    action that is all there is."""
    steered = random_mdp(4, 3, 2, branching=2, horizon=2)
    mdp = TabularMDP(
        steered.initial,
        np.repeat(steered.transition[:, :1], 2, axis=1),
        np.where(steered.reward_value > 0, 2.0, -1.0),
        horizon=2,
    )
    mdp, model, behaviour = world(mdp)
    reference = gradient(mdp, model, GAMMA)
    critic = table_critic(mdp, policy_evaluation(mdp, policy_probabilities(mdp, model, 2), GAMMA))
    found = moments(mdp, model, EXACT_V["V-trace"], behaviour=behaviour, critic=critic, reference=reference)
    assert norm(found.bias) <= 1e-12 * max(1.0, norm(reference)) and norm(reference) > 0.05


COUPLED = {
    "leave-one-out": Psi("total_return", "leave_one_out", gamma=GAMMA),
    "leave-one-out, reward-to-go": Psi("reward_to_go", "leave_one_out", gamma=GAMMA, discounted=True),
    "optimal": Psi("total_return", "optimal", gamma=GAMMA),
    "optimal, reward-to-go": Psi("reward_to_go", "optimal", gamma=GAMMA, discounted=True),
    "optimal per time": Psi("reward_to_go", "optimal_per_time", gamma=GAMMA, discounted=True),
    "leave-one-out, trajectory": Psi("reward_to_go", "leave_one_out", "trajectory", gamma=GAMMA, discounted=True),
    "optimal, per-decision": Psi("per_decision", "optimal", "decision", gamma=GAMMA, discounted=True),
}
OF_THREE = ("leave-one-out", "optimal, reward-to-go", "optimal per time")
OF_HISTORY = ("leave-one-out", "optimal, per-decision")
TINY = dict(n_states=3, n_actions=2, n_rewards=1, horizon=2)


@cache
def coupled(setting):
    rungs, options = COUPLED, {"batch": 2}
    if setting == "three":
        mdp, model, behaviour = world(random_mdp(5, **TINY | {"n_states": 2}, branching=1))
        rungs, options = {name: COUPLED[name] for name in OF_THREE}, {"batch": 3}
    elif setting == "two":
        mdp, model, behaviour = world(random_mdp(0, **TINY, branching=2, n_terminal=1))
    else:
        mdp, model, behaviour = world(random_mdp(6, **TINY, branching=1, n_observations=2), policy="gru", net=(1,))
        rungs = {name: COUPLED[name] for name in OF_HISTORY}
    return gradient(mdp, model, GAMMA), on_and_off(mdp, model, behaviour, rungs, **options)


@pytest.mark.parametrize(
    ("setting", "rung"),
    [("two", rung) for rung in COUPLED]
    + [("three", rung) for rung in OF_THREE]
    + [("history", rung) for rung in OF_HISTORY],
)
def test_a_rung_that_couples_a_batch_is_unbiased(setting, rung):
    reference, found = coupled(setting)
    assert found[rung].variance > 1e-3
    assert close(found[rung].mean, reference)


def test_the_total_variance_is_exact():
    """Against plain NumPy: E‖ĝ‖² − ‖E[ĝ]‖² of hand-made softmax scores."""
    mdp, model, _ = settings()["varying length"]
    _, found = single("varying length")
    paths = by_hand(mdp, model)
    discount = GAMMA ** np.arange(3)[:, None]
    to_go = returns_to_go(paths.reward, GAMMA)
    for rung, weight in {
        "total return": (discount * paths.reward).sum(0) * np.ones((3, 1)),
        "constant": discount * (to_go - 1.7),
    }.items():
        estimate = np.einsum("tn,tnsa->nsa", weight, paths.score)
        mean = np.einsum("n,nsa->sa", paths.probability, estimate)
        second = paths.probability @ (estimate**2).sum((1, 2))
        np.testing.assert_allclose(found[rung].mean.actor.head.last.rows, mean, atol=1e-13)
        np.testing.assert_allclose(found[rung].second_moment, second, rtol=1e-12)
        np.testing.assert_allclose(found[rung].variance, second - (mean**2).sum(), rtol=1e-11)


def test_a_batch_of_independent_estimates_has_an_nth_of_the_variance():
    mdp, model, _ = settings()["one length"]
    one, three = (moments(mdp, model, SINGLE["total return"], batch=n) for n in (1, 3))
    np.testing.assert_allclose(three.variance, one.variance / 3, rtol=1e-14)
    np.testing.assert_allclose(three.second_moment, one.variance / 3 + norm(one.mean) ** 2, rtol=1e-12)


def test_the_optimal_constant_has_the_least_variance_and_is_the_papers():
    """b* = E[X·Y]/E[‖X‖²]. The variance is a parabola in b with its least value there; E[R] is not b*."""
    mdp, model, _ = settings()["varying length"]
    paths = by_hand(mdp, model)
    score = paths.score.sum(0).reshape(len(paths.probability), -1)
    ret = (GAMMA ** np.arange(3)[:, None] * paths.reward).sum(0)
    sq = (score**2).sum(1)
    best = (paths.probability @ (sq * ret)) / (paths.probability @ sq)
    mean_return = paths.probability @ ret
    spread = jax.jit(
        jax.vmap(lambda b: moments(mdp, model, Psi("total_return", "constant", gamma=GAMMA, b=b)).variance)
    )
    scan = best + np.linspace(-2, 2, 41)
    variance = np.asarray(spread(jnp.asarray(scan)))
    assert np.argmin(variance) == 20
    np.testing.assert_allclose(variance - variance[20], (paths.probability @ sq) * (scan - best) ** 2, atol=1e-12)
    assert abs(best - mean_return) > 1e-3 and spread(jnp.asarray([mean_return]))[0] > variance[20]
