"""Identities between the rungs, on random streams full of ends, truncations and masked rows, against brute force in
plain Python."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.envs.tabular import random_mdp
from policygrad.ladder import Psi, targets
from policygrad.learn import Clipped, KLPenalty, Ratio, Score, gradient_samples, policy_gradient, steps_from
from policygrad.measure import enumerate_trajectories, gradient, objective
from policygrad.models import make_model
from policygrad.types import Steps

T, B, GAMMA = 9, 6, 0.9


def stream(seed=0, off_policy=True):
    """A random window: V is one function of the row, and the successor's value where the stream goes on is the next
    row's."""
    rng = np.random.default_rng(seed)
    mask = rng.random((T, B)) < 0.9
    terminated = mask & (rng.random((T, B)) < 0.15)
    truncated = mask & ~terminated & (rng.random((T, B)) < 0.15)
    truncated |= mask & ~terminated & ~np.append(mask[1:], np.ones((1, B), bool), axis=0)
    last = terminated | truncated | ~mask | (np.arange(T)[:, None] == T - 1)
    value = np.where(mask, rng.normal(size=(T, B)), 0)
    following = np.where(last, rng.normal(size=(T, B)), np.append(value[1:], np.zeros((1, B)), axis=0))
    log_rho = np.where(mask & off_policy, rng.normal(size=(T, B)), 0)
    numbers = (
        np.where(mask, rng.normal(size=(T, B)), 0),
        np.where(mask & ~terminated, GAMMA, 0.0),
        last,
        value,
        np.where(mask & ~terminated, following, 0),
        log_rho,
    )
    return Steps(*map(jnp.asarray, numbers), None, None, jnp.asarray(rng.integers(0, 5, (T, B))), jnp.asarray(mask))


@pytest.fixture(scope="module")
def steps():
    return stream()


@pytest.fixture(scope="module")
def on_policy():
    return stream(off_policy=False)


def k_step(steps, k):
    """R^{(k)} by walking forward from every row."""
    s = jax.tree.map(np.asarray, steps)
    out = np.zeros((T, B))
    for t, b in np.ndindex(T, B):
        factor, row = 1.0, t
        while True:
            out[t, b] += factor * s.reward[row, b]
            factor *= s.discount[row, b]
            if s.last[row, b] or row == t + k - 1:
                out[t, b] += factor * s.next_value[row, b]
                break
            row += 1
    return out


def same(a, b):
    np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 4, T, 3 * T])
def test_n_step_returns_by_walking(steps, n):
    same(targets.n_step_return(steps, n), k_step(steps, n))


def test_one_step_is_td0_is_lambda_zero(steps):
    one = targets.n_step_return(steps, 1)
    same(one, steps.reward + steps.discount * steps.next_value)
    same(one, targets.lambda_return(steps, 0.0))
    same(one, Psi("td0").target_of(steps))


def test_lambda_one_runs_to_the_cut(steps):
    same(targets.lambda_return(steps, 1.0), k_step(steps, T))
    same(targets.n_step_return(steps, T), targets.lambda_return(steps, 1.0))


def test_lambda_one_on_terminated_episodes_is_the_reward_to_go(steps):
    ended = steps._replace(
        next_value=jnp.where(steps.last, 0, steps.next_value), discount=jnp.where(steps.last, 0, steps.discount)
    )
    same(targets.lambda_return(ended, 1.0), targets.reward_to_go(ended))
    assert np.abs(targets.lambda_return(steps, 1.0) - targets.reward_to_go(steps)).max() > 0.1


@pytest.mark.parametrize("lam", [0.3, 0.95])
def test_the_lambda_return_is_a_mixture_of_k_step_returns(steps, lam):
    """(1 − λ) Σ_{k<K} λ^{k−1} R^{(k)} + λ^{K−1} R^{(K)}: the tail has the weight that is left, whatever row the stream
    is cut at."""
    weights = np.append((1 - lam) * lam ** np.arange(T - 1), lam ** (T - 1))
    expected = sum(w * k_step(steps, k) for k, w in enumerate(weights, start=1))
    same(targets.lambda_return(steps, lam), expected)
    same(targets.mixture(steps, jnp.asarray(weights)), expected)
    advantage = Psi("lambda_return", "value", lam=lam, gamma=GAMMA)(steps)
    same(advantage, np.where(steps.mask, expected - steps.value, 0))


def test_on_policy_vtrace_is_the_lambda_return(on_policy):
    for lam in (0.0, 0.7, 1.0):
        same(targets.vtrace(on_policy, lam, 1.0, 1.0), targets.lambda_return(on_policy, lam))
        same(targets.vtrace_value(on_policy, lam, 2.0, 1.5), targets.lambda_return(on_policy, lam))


def v_by_equation_one(steps, lam, rho_bar, c_bar):
    """v_s = V_s + Σ_{t≥s} γ^{t−s} (Π_{s≤i<t} c_i) ρ_t δ_t as a double sum, up to the cut: Espeholt et al. (2018), eq.
    1."""
    s = jax.tree.map(np.asarray, steps)
    rho, c = np.minimum(rho_bar, np.exp(s.log_rho)), lam * np.minimum(c_bar, np.exp(s.log_rho))
    delta = rho * (s.reward + s.discount * s.next_value - s.value)
    out = s.value.copy()
    for t, b in np.ndindex(T, B):
        for k in range(t, T):
            if any(s.last[t:k, b]):
                break
            out[t, b] += np.prod(s.discount[t:k, b] * c[t:k, b]) * delta[k, b]
    return out


@pytest.mark.parametrize(("lam", "rho_bar", "c_bar"), [(1.0, 1.0, 1.0), (0.6, 1.3, 0.8)])
def test_off_policy_vtrace_by_its_double_sum(steps, lam, rho_bar, c_bar):
    v = v_by_equation_one(steps, lam, rho_bar, c_bar)
    same(targets.vtrace_value(steps, lam, rho_bar, c_bar), v)
    # the policy's target: r + γ[(1 − λ)V' + λv'], v' = V' at a cut; its weight min(ρ̄, ρ) stands outside
    following = np.where(steps.last, steps.next_value, np.append(v[1:], np.zeros((1, B)), axis=0))
    q = steps.reward + steps.discount * ((1 - lam) * steps.next_value + lam * following)
    same(targets.vtrace(steps, lam, rho_bar, c_bar), q)
    psi = Psi("vtrace", "value", "vtrace", lam=lam, rho_bar=rho_bar, c_bar=c_bar)
    weight = np.where(steps.mask, np.minimum(rho_bar, np.exp(steps.log_rho)), 0)
    same(psi(steps), weight * (q - steps.value))
    same(psi(steps), np.where(steps.mask, v - steps.value, 0)) if lam == 1 else None
    assert np.abs(psi(steps) - weight * (v - steps.value)).max() > 0.1


def test_per_decision_weights_by_their_double_sum(steps):
    s = jax.tree.map(np.asarray, steps)
    expected = np.zeros((T, B))
    for t, b in np.ndindex(T, B):
        for k in range(t, T):
            if any(s.last[t:k, b]):
                break
            expected[t, b] += np.prod(s.discount[t:k, b]) * np.exp(s.log_rho[t + 1 : k + 1, b].sum()) * s.reward[k, b]
    same(targets.per_decision(steps), expected)


def test_a_window_may_be_split_where_the_return_is_handed_over(steps):
    """Two windows with (1 − λ)V + λG^λ at the border give the λ-return of one; for TD(0) the border needs V alone."""
    k, lam = 4, 0.8
    whole = targets.lambda_return(steps, lam)
    first, second = (jax.tree.map(lambda x: x[rows], steps) for rows in (slice(0, k), slice(k, T)))  # noqa: B023
    handed = jnp.where(first.last[-1], first.next_value[-1], (1 - lam) * first.next_value[-1] + lam * whole[k])
    joined = first._replace(last=first.last.at[-1].set(True), next_value=first.next_value.at[-1].set(handed))
    same(jnp.concatenate([targets.lambda_return(joined, lam), targets.lambda_return(second, lam)]), whole)
    cut = first._replace(last=first.last.at[-1].set(True))
    same(
        jnp.concatenate([targets.n_step_return(cut, 1), targets.n_step_return(second, 1)]),
        targets.n_step_return(steps, 1),
    )


# Gradients


@pytest.fixture(scope="module", params=["tabular", "gru"])
def played(request):
    """A model, every trajectory of a small world with episodes of varying length, and weights."""
    mdp = random_mdp(0, 3, 2, branching=2, n_rewards=1, n_terminal=1, time_limit=2)
    make = lambda key: make_model(mdp.observation_space, mdp.action_space, key=key, policy=request.param, net=(2,))  # noqa: E731
    rng = np.random.default_rng(1)
    empty = eqx.filter_eval_shape(make, jax.random.key(0))
    is_shape = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
    model = jax.tree.map(lambda x: jnp.asarray(0.7 * rng.normal(size=x.shape)) if is_shape(x) else x, empty)
    trajectory, _ = enumerate_trajectories(mdp, model)
    return mdp, model, trajectory, jnp.asarray(rng.normal(size=trajectory.mask.shape))


def all_close(tree, other, atol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), tree, other)


def test_all_surrogates_have_one_gradient_where_the_policy_is_the_one_that_acted(played):
    _, model, trajectory, weights = played
    kinds = [Score(), Ratio(), Clipped(0.2), KLPenalty(0.7)]
    grads = eqx.filter_jit(lambda model: [policy_gradient(model, trajectory, weights, kind=kind) for kind in kinds])(
        model
    )
    for other in grads[1:]:
        all_close(other, grads[0])


def test_the_mean_of_the_samples_is_the_policy_gradient(played):
    _, model, trajectory, weights = played
    samples, chunked, whole = eqx.filter_jit(
        lambda model: (
            gradient_samples(model, trajectory, weights),
            gradient_samples(model, trajectory, weights, chunk=7),
            policy_gradient(model, trajectory, weights),
        )
    )(model)
    all_close(jax.tree.map(lambda x: x.mean(0), samples), whole)
    all_close(chunked, samples)


def test_the_exact_gradient_by_finite_differences(played):
    mdp, model, *_ = played
    grads = gradient(mdp, model, GAMMA)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    value = jax.jit(jax.vmap(lambda x: objective(mdp, eqx.combine(unravel(x), static), GAMMA)))
    h = 1e-5 * np.eye(len(flat))
    slope = (value(flat + h) - value(flat - h)) / 2e-5
    np.testing.assert_allclose(slope, jax.flatten_util.ravel_pytree(grads)[0], atol=1e-9)
    assert np.abs(slope).max() > 1e-2


def test_what_is_masked_changes_nothing(played):
    """Garbage rows after the episodes, a NaN reward among them, and another order of the columns."""
    _, model, trajectory, _ = played
    psi = Psi("lambda_return", "value", gamma=GAMMA, lam=0.7, discounted=True)

    @eqx.filter_jit
    def run(trajectory):
        steps = steps_from(model, trajectory, psi)
        return psi(steps), policy_gradient(model, trajectory, psi(steps))

    weights, grads = run(trajectory)
    order = np.random.default_rng(0).permutation(trajectory.mask.shape[1])
    garbage = trajectory._replace(
        reward=jnp.full_like(trajectory.reward, jnp.nan),
        log_mu=jnp.full_like(trajectory.log_mu, 3.0),
        terminated=~trajectory.terminated,
        truncated=~trajectory.truncated,
        mask=jnp.zeros_like(trajectory.mask),
        time=trajectory.time + 7,
    )
    longer = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b])[:, order],
        trajectory._replace(carry=None, cut_obs=None),
        garbage._replace(carry=None, cut_obs=None),
    )
    carry = jax.tree.map(lambda x: x[order], trajectory.carry)
    longer = longer._replace(carry=carry, cut_obs=trajectory.cut_obs[:, order])
    padded_weights, padded_grads = run(longer)
    same(padded_weights, jnp.concatenate([weights, 0 * weights])[:, order])
    all_close(padded_grads, grads)


def test_soft_rewards(played):
    """α > 0: the reward becomes r − α log π(a_t)."""
    _, model, trajectory, _ = played
    see = jax.jit(lambda alpha: steps_from(model, trajectory, Psi(gamma=GAMMA, alpha=alpha)))
    hard, soft = see(0.0), see(0.5)
    same(soft.reward, jnp.where(trajectory.mask, hard.reward - 0.5 * trajectory.log_mu, 0))
