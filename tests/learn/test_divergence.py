"""Divergences against SciPy, sums and published numbers; and as identities between gradients of trajectories."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from policygrad.envs.tabular import random_mdp
from policygrad.ladder import Psi
from policygrad.learn import gradient_samples
from policygrad.learn.divergence import estimator_moments, fit, kl, samples
from policygrad.measure import enumerate_trajectories, moments, soft_policy_evaluation
from policygrad.measure.exact import action_log_probs, policy_probabilities, possible_paths
from policygrad.models import (
    Bernoulli,
    Beta,
    Categorical,
    DiagGaussian,
    Mixture,
    Product,
    StateDependent,
    TanhGaussian,
    make_model,
)

pytestmark = pytest.mark.usefixtures("x64")


def array(x):
    return jnp.atleast_1d(jnp.asarray(x, jnp.float64))


def normal(mean, std):
    return DiagGaussian(array(mean), jnp.log(array(std)))


def tanh(mean, std, high=1.0):
    return TanhGaussian(array(mean), jnp.log(array(std)), array(-high), array(high))


def beta(a, b):
    return Beta(array(a), array(b), array(-1), array(1))


def categorical(*probs):
    return Categorical(jnp.log(array(probs)))


def two_peaks():
    return Mixture((normal(-2, 0.5), normal(2, 0.5)), jnp.log(array([0.3, 0.7])))


def by_scipy(log_p, log_q, low=-12, high=12, points=()):
    def f(x):
        return np.exp(log_p(x)) * (log_p(x) - log_q(x))

    return scipy.integrate.quad(f, low, high, points=points or None, epsabs=1e-13, epsrel=1e-12, limit=500)[0]


def log_two_peaks(x):
    return np.log(0.3 * scipy.stats.norm.pdf(x, -2, 0.5) + 0.7 * scipy.stats.norm.pdf(x, 2, 0.5))


# The number itself


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (lambda: normal([0, 1], [1, 0.3]), lambda: normal([1, 2], [2, 0.5])),
        (lambda: tanh([0.3, 1], [0.8, 0.5]), lambda: tanh([-0.3, 0], [0.5, 1])),
        (lambda: beta([2, 1], [3, 40]), lambda: beta([1, 2], [5, 20])),
    ],
    ids=["normal", "tanh", "beta"],
)
def test_quadrature_is_the_closed_form(p, q):
    """Two independent coordinates. A Beta density's logarithm has no derivative at its bounds: eight digits there."""
    digits = 1e-8 if isinstance(p(), Beta) else 1e-11
    np.testing.assert_allclose(kl(p(), q(), method="quadrature"), kl(p(), q(), method="exact"), rtol=digits)


def test_mixtures_and_other_families_against_scipy():
    log_normal = scipy.stats.norm(0, 1).logpdf
    there, back = kl(normal(0, 1), two_peaks()), kl(two_peaks(), normal(0, 1))
    np.testing.assert_allclose(there, by_scipy(log_normal, log_two_peaks, points=(-2, 0, 2)), rtol=1e-9)
    np.testing.assert_allclose(back, by_scipy(log_two_peaks, log_normal, -8, 8, points=(-2, 0, 2)), rtol=1e-9)

    def log_tanh(x):
        return scipy.stats.norm.logpdf(np.arctanh(x), 0.3, 0.8) - np.log1p(-(x**2))

    def log_beta(x):
        return scipy.stats.beta.logpdf((x + 1) / 2, 2, 3) - np.log(2)

    inside = (-1 + 1e-12, 1 - 1e-12)
    np.testing.assert_allclose(kl(beta(2, 3), tanh(0.3, 0.8)), by_scipy(log_beta, log_tanh, *inside), rtol=1e-8)
    np.testing.assert_allclose(kl(tanh(0.3, 0.8), beta(2, 3)), by_scipy(log_tanh, log_beta, *inside), rtol=1e-8)


def test_a_narrow_peak_is_not_missed():
    """A peak a thousand times narrower than the rest."""
    needle = Mixture((normal(0, 1), normal(0.123, 1e-3)), jnp.log(array([0.5, 0.5])))

    def log_needle(x):
        return np.log(0.5 * scipy.stats.norm.pdf(x, 0, 1) + 0.5 * scipy.stats.norm.pdf(x, 0.123, 1e-3))

    points = (-2, 0, 0.117, 0.12, 0.123, 0.126, 0.129, 2)
    expected = by_scipy(log_needle, scipy.stats.norm(0, 1).logpdf, points=points)
    np.testing.assert_allclose(kl(needle, normal(0, 1)), expected, rtol=1e-8)
    expected = by_scipy(scipy.stats.norm(0, 1).logpdf, log_needle, points=points)
    np.testing.assert_allclose(kl(normal(0, 1), needle), expected, rtol=1e-8)


def test_discrete_ones_are_sums():
    p, q = np.array([0.2, 0.5, 0.3]), np.array([0.3, 0.3, 0.4])
    np.testing.assert_allclose(kl(categorical(*p), categorical(*q)), np.sum(p * np.log(p / q)), rtol=1e-12)
    mixed = Mixture((categorical(*p), categorical(*q)), jnp.log(array([0.25, 0.75])))
    m = 0.25 * p + 0.75 * q
    np.testing.assert_allclose(kl(categorical(*p), mixed), np.sum(p * np.log(p / m)), rtol=1e-12)
    np.testing.assert_allclose(kl(mixed, categorical(*p)), np.sum(m * np.log(m / p)), rtol=1e-12)
    bits, other = Bernoulli(array([0.3, -1.0])), Bernoulli(array([-0.4, 2.0]))
    same_bits = Mixture((bits, bits), jnp.zeros(2))
    np.testing.assert_allclose([kl(bits, other), kl(same_bits, other)], bits.kl(other), rtol=1e-12)


def test_a_product_adds_its_parts_and_state_dependent_noise_is_a_gaussian():
    both = Product((categorical(0.2, 0.8), normal(0, 1))), Product((categorical(0.5, 0.5), normal(1, 2)))
    parts = 0.2 * np.log(0.2 / 0.5) + 0.8 * np.log(0.8 / 0.5) + np.log(2) + 2 / 8 - 0.5
    np.testing.assert_allclose(kl(*both), parts, rtol=1e-12)
    sampled, spread = (f(samples(*both, 2000, jax.random.key(0))["k3"]) for f in (jnp.mean, jnp.std))
    assert abs(sampled - parts) < 5 * spread / np.sqrt(2000)
    gsde = StateDependent(array(0.4), array([1.0, 2.0]), jnp.log(array([0.1, 0.2]))[:, None])
    np.testing.assert_allclose(kl(gsde, normal(0, 1)), (0.17 + 0.4**2 - 1 - np.log(0.17)) / 2, rtol=1e-12)


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (lambda: categorical(0.5, 0.5), lambda: Categorical(jnp.zeros(2), jnp.array([True, False]))),
        (lambda: Bernoulli(array([0.0])), lambda: Bernoulli(array([-1e9]))),
        (lambda: normal(0, 1), lambda: tanh(0, 1)),
        (lambda: tanh(0, 1, high=2.0), lambda: tanh(0, 1)),
    ],
    ids=["mask", "bit", "line", "bounds"],
)
def test_what_q_never_does_costs_infinitely_much(p, q):
    """And the other way round it is finite."""
    assert kl(p(), q()) == jnp.inf
    assert jnp.isfinite(kl(q(), p()))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kl(categorical(0.5, 0.5), normal(0, 1)), r"P is over 2 choices and Q over numbers of shape \(1,\)"),
        (lambda: kl(categorical(0.5, 0.5), categorical(0.2, 0.3, 0.5)), "2 choices and Q over 3 choices"),
        (lambda: kl(normal(0, 1), normal([0, 0], [1, 1])), "same actions"),
        (lambda: kl(normal(0, 1), normal(0, 1), method="k4"), "no method 'k4'"),
        (lambda: kl(normal(0, 1), normal(0, 1), method="k3"), "need a key"),
        (lambda: kl(two_peaks(), normal(0, 1), method="exact"), "no closed form: give method='quadrature'"),
        (lambda: kl(3.0, normal(0, 1)), "float is no distribution"),
        (lambda: kl(Mixture((two_peaks(), two_peaks()), jnp.zeros(2)), normal(0, 1)), "neither mixtures"),
        (lambda: kl(Mixture((normal([0] * 3, [1] * 3),), jnp.zeros(1)), normal([0] * 3, [1] * 3)), "at most two"),
        (lambda: estimator_moments(normal([0, 0], [1, 1]), normal([0, 0], [1, 1])), "moments are of one number"),
        (lambda: fit(normal(0, 1), beta(2, 2), "forward", key=jax.random.key(0)), "Beta cannot be fitted"),
        (lambda: fit(beta(2, 2), normal(0, 1), "reverse", key=jax.random.key(0)), "DiagGaussian does what Beta never"),
        (lambda: fit(normal(0, 1), normal(0, 1), "forward", key=jax.random.key(0), n=1), "n of at least 2"),
        (lambda: fit(normal(0, 1), two_peaks(), "reverse", key=jax.random.key(0)), "gradient='score'"),
        (lambda: fit(normal(0, 1), normal(0, 1), "sideways", key=jax.random.key(0)), "'forward' or 'reverse'"),
        (lambda: two_peaks().kl(two_peaks()), "policygrad.kl"),
        (lambda: two_peaks().entropy(), "no closed form"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_mixture_samples_its_parts():
    draw = jax.jit(lambda p: jax.vmap(p.sample)(p.draw(jax.random.key(0), (4000,))))
    x = np.asarray(draw(two_peaks()))[:, 0]
    assert abs(np.mean(x > 0) - 0.7) < 5 * np.sqrt(0.21 / 4000)
    assert abs(x[x > 0].mean() - 2) < 0.05 and abs(x[x < 0].std() - 0.5) < 0.05
    assert two_peaks().mode() == 2
    np.testing.assert_allclose(two_peaks().log_prob(array(1.3)), log_two_peaks(1.3), rtol=1e-12)


# Its estimators


def test_the_published_bias_and_spread():
    """Schulman (2020): P = N(0.1, 1) or N(1, 1), Q = N(0, 1); in units of the true divergence."""
    published = {0.1: ((0, 20), (0.002, 1.42), (0, 1.42)), 1.0: ((0, 2), (0.25, 1.73), (0, 1.7))}
    for mean, rows in published.items():
        truth, found = mean**2 / 2, estimator_moments(normal(mean, 1), normal(0, 1))
        for k, (bias, std) in zip(("k1", "k2", "k3"), rows):
            assert abs(float(found[k].mean / truth - 1) - bias) < 6e-4
            assert abs(float(found[k].std / truth) - std) < 6e-3


def test_exact_moments_are_sums_and_samples_agree():
    """Categorical: all actions. 20,000 samples of a mixture, within five standard errors."""
    p, q = np.array([0.2, 0.5, 0.3]), np.array([0.3, 0.3, 0.4])
    r, found = q / p, estimator_moments(categorical(*p), categorical(*q))
    for k, values in (("k1", -np.log(r)), ("k2", np.log(r) ** 2 / 2), ("k3", r - 1 - np.log(r))):
        np.testing.assert_allclose(found[k].mean, p @ values, rtol=1e-12)
        np.testing.assert_allclose(found[k].std, np.sqrt(p @ values**2 - (p @ values) ** 2), rtol=1e-10)
    np.testing.assert_allclose([found[k].mean for k in ("k1", "k3")], np.sum(p * np.log(p / q)), rtol=1e-12)
    exact, drawn = (
        estimator_moments(normal(0, 1), two_peaks()),
        samples(normal(0, 1), two_peaks(), 20_000, jax.random.key(0)),
    )
    for k in exact:
        assert abs(jnp.mean(drawn[k]) - exact[k].mean) < 5 * exact[k].std / np.sqrt(20_000)
        np.testing.assert_allclose(jnp.std(drawn[k]), exact[k].std, rtol=0.1)
    assert (drawn["k3"] >= 0).all() and (drawn["k1"] < 0).any()


def test_k3_without_a_finite_variance_says_so():
    """E_P[(Q/P)²] is finite if and only if Q's variance is below twice P's. Towards its bounds a squashed Gaussian
    falls faster than any Beta density."""
    std = {s: estimator_moments(normal(0, 1), normal(0, np.sqrt(s)))["k3"].std for s in (1.8, 3.0)}
    truth = scipy.integrate.quad(
        lambda x: scipy.stats.norm.pdf(x) * third(x, 1.8) ** 2, -36, 36, points=[0], limit=500
    )[0]
    mean = kl(normal(0, 1), normal(0, np.sqrt(1.8)))
    np.testing.assert_allclose(std[1.8], np.sqrt(truth - mean**2), rtol=1e-6)
    assert std[3.0] == jnp.inf == estimator_moments(tanh(0.2, 0.7), beta(2, 3))["k3"].std


def third(x, variance):
    log_r = 0.5 * x**2 * (1 - 1 / variance) - 0.5 * np.log(variance)
    return np.expm1(log_r) - log_r


def test_k3_is_short_by_what_p_never_does():
    """E_P[r] is Q's probability of all that P does."""
    p, q = Categorical(jnp.zeros(3), jnp.array([True, True, False])), categorical(0.3, 0.3, 0.4)
    found, truth = estimator_moments(p, q), kl(p, q)
    np.testing.assert_allclose(found["k1"].mean, truth, rtol=1e-12)
    np.testing.assert_allclose(found["k3"].mean, truth - 0.4, rtol=1e-12)


# Covering and seeking


def test_forward_covers_and_reverse_seeks():
    """Forward ends at the mixture's own mean and variance; reverse at one peak. Seed 0, 400 steps of 256 samples."""
    target, start = two_peaks(), normal(1, 1)
    forward = fit(target, start, "forward", key=jax.random.key(0))
    mean, variance = 0.8, 0.25 + 4 - 0.8**2
    assert abs(forward.mean[-50:].mean() - mean) < 0.1
    assert abs(jnp.exp(2 * forward.log_std[-50:]).mean() - variance) < 0.3
    assert forward.mean[0] == 1 and forward.mean.shape == (401, 1)
    for gradient in ("pathwise", "score"):
        reverse = fit(target, start, "reverse", key=jax.random.key(0), gradient=gradient)
        assert abs(reverse.mean[-50:].mean() - 2) < 0.05
        assert abs(jnp.exp(reverse.log_std[-50:]).mean() - 0.5) < 0.05


def test_discrete_models_reach_their_target_either_way():
    target, start = categorical(0.2, 0.5, 0.3), categorical(0.6, 0.2, 0.2)
    for direction in ("forward", "reverse"):
        path = fit(target, start, direction, key=jax.random.key(1), gradient="score", steps=200, n=64)
        assert target.kl(Categorical(path.logits[-1])) < 0.01 < 0.3 < target.kl(start)


def test_bounds_are_not_fitted():
    path = fit(tanh(0, 0.5), tanh(1, 1), "reverse", key=jax.random.key(0), steps=5, n=8)
    assert (path.low == -1).all() and (path.high == 1).all() and path.mean[-1] < 0.99


def test_gradients_of_the_quadrature():
    """∇_m D(P‖N(m, s)) = (m − E_P[x])/s², ∇_s likewise; and D(N(m, s)‖Q) against differences."""
    p = two_peaks()
    gradient = jax.grad(lambda x: kl(p, DiagGaussian(x[:1], x[1:])))(jnp.array([0.3, 0.2]))
    second = 0.25 + 4 - 0.8**2 + (0.8 - 0.3) ** 2
    np.testing.assert_allclose(gradient, [(0.3 - 0.8) * np.exp(-0.4), 1 - second * np.exp(-0.4)], rtol=1e-9)
    reverse = jax.jit(lambda x: kl(DiagGaussian(x[:1], x[1:]), p))
    x, h = np.array([1.2, -0.3]), 1e-4
    slopes = [(reverse(x + h * e) - reverse(x - h * e)) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(jax.grad(reverse)(jnp.asarray(x)), slopes, rtol=1e-6)


# Of whole trajectories: what learning is


ALPHA = 0.7


class Paths:
    """Every trajectory of a small MDP, with log ρ(s_1)·Πp, its return, and log p_θ(τ) as a function of the model."""

    def __init__(self, branching, n_rewards):
        self.mdp = random_mdp(0, 3, 2, branching=branching, n_rewards=n_rewards, horizon=2)
        empty = make_model(
            self.mdp.observation_space, self.mdp.action_space, policy="tabular", key=jax.random.key(0), critic=False
        )
        self.model, self.expert = (self.filled(empty, seed) for seed in (0, 1))
        self.trajectory, self.probability = enumerate_trajectories(self.mdp, self.model)
        self.dynamics = jnp.log(possible_paths(self.mdp).probability)
        self.ret = jnp.sum(self.trajectory.reward, axis=0)

    @staticmethod
    def filled(model, seed):
        rng = np.random.default_rng(seed)
        return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)) if eqx.is_inexact_array(x) else x, model)

    def log_pi(self, model):
        return jnp.sum(action_log_probs(model, self.trajectory), axis=0)

    def divergence(self, model, log_target):
        """D(p_θ(τ)‖target)."""
        log_p = self.dynamics + self.log_pi(model)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_target))

    def gradient(self, f):
        return flat(jax.jit(lambda model: eqx.filter_grad(f)(model))(self.model))


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))])


@pytest.fixture(scope="module")
def noisy(x64):
    return Paths(branching=2, n_rewards=1)


@pytest.fixture(scope="module")
def certain(x64):
    return Paths(branching=1, n_rewards=1)


def test_forward_divergence_is_maximum_likelihood(noisy):
    """∇D(p_E(τ)‖p_θ(τ)) = −E_E[Σ_t ∇log π_θ(a_t|s_t)]: imitation, with every weight 1. The dynamics cancel."""
    log_expert = noisy.dynamics + noisy.log_pi(noisy.expert)
    forward = lambda model: jnp.sum(  # noqa: E731
        jnp.exp(log_expert) * (log_expert - noisy.dynamics - noisy.log_pi(model))
    )
    scores = gradient_samples(noisy.model, noisy.trajectory, jnp.ones(noisy.trajectory.mask.shape))
    likelihood = jax.tree.map(lambda g: jnp.tensordot(jnp.exp(log_expert), g, axes=1), scores)
    np.testing.assert_allclose(noisy.gradient(forward), -flat(likelihood), atol=1e-12)
    assert np.abs(flat(likelihood)).max() > 0.1


def soft_gradient(paths):
    """∇J_soft, by the library's own estimator averaged over every trajectory."""
    return flat(moments(paths.mdp, paths.model, Psi("reward_to_go", gamma=1.0, alpha=ALPHA)).mean)


def test_reverse_divergence_is_maximum_entropy(noisy):
    """P(τ) = ρ(s_1)·Πp(s_{t+1}|s_t, a_t)·e^{R(τ)/α}/Z: D(p_θ‖P) = log Z − J_soft(θ)/α, and so its gradient is
    −∇J_soft/α."""
    log_target = noisy.dynamics + noisy.ret / ALPHA
    gradient = noisy.gradient(lambda model: noisy.divergence(model, log_target))
    np.testing.assert_allclose(gradient, -soft_gradient(noisy) / ALPHA, atol=1e-12)
    assert np.abs(gradient).max() > 0.1
    policy = policy_probabilities(noisy.mdp, noisy.model, 1)[0]
    start = noisy.mdp.initial @ soft_policy_evaluation(noisy.mdp, policy, 1.0, ALPHA)[0]
    np.testing.assert_allclose(noisy.divergence(noisy.model, log_target), -start / ALPHA, rtol=1e-12)


def test_without_the_dynamics_in_the_target_it_is_another_problem(noisy, certain):
    """P̃(τ) ∝ e^{R(τ)/α}: the gradient also pushes towards where the dynamics are certain, by ∇E_θ[log ρΠp]. Where
    they are certain everywhere, nothing is pushed."""
    wrong = noisy.gradient(lambda model: noisy.divergence(model, noisy.ret / ALPHA))
    right = -soft_gradient(noisy) / ALPHA
    pushed = noisy.gradient(lambda model: jnp.sum(jnp.exp(noisy.dynamics + noisy.log_pi(model)) * noisy.dynamics))
    np.testing.assert_allclose(wrong, right + pushed, atol=1e-12)
    assert np.linalg.norm(wrong - right) > 0.2 * np.linalg.norm(right)
    same = certain.gradient(lambda model: certain.divergence(model, certain.ret / ALPHA))
    np.testing.assert_allclose(same, -soft_gradient(certain) / ALPHA, atol=1e-12)
