"""Densities that integrate to one, and the moments that SciPy or a sum over all actions gives."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.models import (
    Bernoulli,
    Beta,
    Categorical,
    DiagGaussian,
    Product,
    StateDependent,
    TanhGaussian,
)

LOW, HIGH = jnp.asarray([-2.0]), jnp.asarray([3.0])
GRID = np.linspace(-2, 3, 20_001)[1:-1, None]
LINE = np.linspace(-12, 12, 20_001)[:, None]
WIDE = jnp.asarray([[0.3, -0.2, 0.1]]), jnp.asarray([[0.1, -0.4, 0.0]])


def features_gaussian(mean, features=(0.5, -1.0, 0.2), shift=0.0):
    features = jnp.asarray(features)
    log_std = shift + jnp.linspace(-0.5, 0.3, 3 * len(mean)).reshape(3, len(mean))
    return StateDependent(jnp.asarray(mean), features, log_std)


CONTINUOUS = {
    "gaussian": (DiagGaussian(jnp.asarray([0.4]), jnp.asarray([-0.3])), LINE),
    "tanh": (TanhGaussian(jnp.asarray([0.4]), jnp.asarray([-0.3]), LOW, HIGH), GRID),
    "beta": (Beta(jnp.asarray([1.7]), jnp.asarray([3.2]), LOW, HIGH), GRID),
    "gsde": (features_gaussian([0.4]), LINE),
}
OTHERS = {
    "gaussian": DiagGaussian(jnp.asarray([-0.1]), jnp.asarray([0.2])),
    "tanh": TanhGaussian(jnp.asarray([-0.1]), jnp.asarray([0.2]), LOW, HIGH),
    "beta": Beta(jnp.asarray([2.5]), jnp.asarray([1.4]), LOW, HIGH),
    "gsde": features_gaussian([-0.1], shift=0.3),
}
LOGITS = jnp.asarray([0.3, -0.5, 1.2])
DISCRETE = {
    "categorical": (Categorical(LOGITS), Categorical(LOGITS[::-1]), np.arange(3)),
    "two": (Categorical(LOGITS[:2]), Categorical(LOGITS[1:]), np.arange(2)),
    "bernoulli": (Bernoulli(LOGITS), Bernoulli(-LOGITS), np.array(list(itertools.product([0, 1], repeat=3)))),
    "multidiscrete": (
        Product((Categorical(LOGITS), Categorical(LOGITS[:2])), (2,)),
        Product((Categorical(-LOGITS), Categorical(LOGITS[1:])), (2,)),
        np.array(list(itertools.product(range(3), range(2)))),
    ),
}


@jax.jit
def densities(distribution, actions):
    return jax.vmap(distribution.log_prob)(actions)


@jax.jit
def summary(distribution, other):
    """Entropy, divergence, divergence from itself."""
    return distribution.entropy(), distribution.kl(other), distribution.kl(distribution)


@jax.jit
def sampled(distribution):
    return jax.vmap(distribution.sample)(distribution.draw(jax.random.key(0), (20_000,)))


def log_probs(distribution, actions):
    return np.asarray(densities(distribution, jnp.asarray(actions)), np.float64)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_density_integrates_to_one_and_to_its_entropy_and_divergence(name):
    distribution, grid = CONTINUOUS[name]
    log_p, log_q, x = log_probs(distribution, grid), log_probs(OTHERS[name], grid), grid[:, 0]
    p = np.exp(log_p)
    entropy, divergence, zero = summary(distribution, OTHERS[name])
    assert np.trapezoid(p, x) == pytest.approx(1, abs=2e-4)
    assert entropy == pytest.approx(-np.trapezoid(p * log_p, x), abs=2e-3)
    assert divergence == pytest.approx(np.trapezoid(p * (log_p - log_q), x), abs=2e-3)
    assert zero == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_sum_to_one_and_to_their_entropy_and_divergence(name):
    distribution, other, actions = DISCRETE[name]
    log_p, log_q = log_probs(distribution, actions), log_probs(other, actions)
    p = np.exp(log_p)
    entropy, divergence, _ = summary(distribution, other)
    assert p.sum() == pytest.approx(1, abs=1e-6)
    assert entropy == pytest.approx(-(p * log_p).sum(), abs=1e-6)
    assert divergence == pytest.approx((p * (log_p - log_q)).sum(), abs=1e-6)
    np.testing.assert_array_equal(distribution.mode(), actions[p.argmax()])


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_samples_follow_the_density(name):
    """The mean of −log π over samples is the entropy, and that of the actions their expectation."""
    distribution = CONTINUOUS[name][0] if name in CONTINUOUS else DISCRETE[name][0]
    actions = np.asarray(sampled(distribution))
    log_p = log_probs(distribution, actions)
    assert -log_p.mean() == pytest.approx(float(summary(distribution, distribution)[0]), abs=5 * log_p.std() / 140)
    support = CONTINUOUS[name][1] if name in CONTINUOUS else DISCRETE[name][2]
    p = np.exp(log_probs(distribution, support)).reshape(-1, *[1] * (support.ndim - 1))
    expected = (p * support).sum(0) / p.sum()
    np.testing.assert_allclose(actions.mean(0), expected, atol=5 * actions.std() / 140)


def test_beta_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.beta(1.7, 3.2, loc=-2, scale=5)
    ours = CONTINUOUS["beta"][0]
    x = np.linspace(-1.99, 2.99, 50)[:, None]
    np.testing.assert_allclose(log_probs(ours, x), theirs.logpdf(x[:, 0]), atol=1e-4)
    assert float(summary(ours, ours)[0]) == pytest.approx(theirs.entropy(), abs=1e-5)
    assert float(ours.mode()[0]) == pytest.approx(-2 + 5 * 0.7 / 2.9, abs=1e-5)
    assert np.isfinite(log_probs(ours, np.array([[-2.0], [3.0]]))).all()  # a sample may round to a bound
    assert Beta(jnp.ones(1), jnp.ones(1), LOW, HIGH).mode() == pytest.approx(0.5)


@pytest.mark.parametrize("make", [DiagGaussian, TanhGaussian, Beta])
def test_a_box_of_any_shape_is_the_sum_of_its_entries(make):
    first, second = (jnp.abs(x) + 1 for x in WIDE) if make is Beta else WIDE
    limits = () if make is DiagGaussian else (jnp.full((1, 3), -1.0), jnp.full((1, 3), 2.0))
    whole = make(first, second, *limits)
    rows = [make(*(x[0, i : i + 1] for x in (first, second, *limits))) for i in range(3)]
    action = sampled(whole)[0]
    assert action.shape == whole.mode().shape == (1, 3)
    each = [float(densities(one, action[:, i : i + 1])[0]) for i, one in enumerate(rows)]
    assert densities(whole, action[None])[0] == pytest.approx(sum(each), rel=1e-5)
    assert summary(whole, whole)[0] == pytest.approx(sum(float(summary(one, one)[0]) for one in rows), rel=1e-5)


def test_smooth_exploration_holds_its_noise_over_a_window():
    """The same E in every row of a column, and the variance Σ_j φ_j² σ_ji² over draws."""
    distribution = features_gaussian([0.4, -0.3])
    noise = distribution.draw(jax.random.key(0), (5, 3))
    assert noise.shape == (5, 3, 3, 2)
    assert (noise == noise[0]).all() and (noise[0, 0] != noise[0, 1]).all()
    fresh = distribution.draw(jax.random.key(0), (20_000,))
    assert (fresh[0] != fresh[1]).all()
    actions = np.asarray(jax.vmap(distribution.sample)(fresh))
    variance = np.asarray(distribution.features) ** 2 @ np.exp(2 * np.asarray(distribution.log_std))
    np.testing.assert_allclose(actions.var(0), variance, rtol=0.05)
    np.testing.assert_allclose(distribution.base.log_std, 0.5 * np.log(variance), rtol=1e-4, atol=1e-6)
    leak = jax.grad(lambda x: StateDependent(distribution.mean, x, distribution.log_std).entropy())
    assert not leak(distribution.features).any()


def test_a_product_of_a_tree_is_the_sum_of_its_parts():
    parts = {"move": Categorical(LOGITS), "arms": (CONTINUOUS["gaussian"][0], Bernoulli(LOGITS[:2]))}
    product = Product(parts)
    action = product.sample(product.draw(jax.random.key(0), ()))
    assert set(action) == {"move", "arms"} and action["arms"][0].shape == (1,) and action["arms"][1].shape == (2,)
    each = [
        parts["move"].log_prob(action["move"]),
        parts["arms"][0].log_prob(action["arms"][0]),
        parts["arms"][1].log_prob(action["arms"][1]),
    ]
    assert product.log_prob(action) == pytest.approx(float(sum(each)), rel=1e-5)
    assert product.kl(product) == pytest.approx(0, abs=1e-6)
    assert jax.tree.structure(product.mode()) == jax.tree.structure(action)


MASK = np.array([True, False, True, True])


def test_masked_actions_have_probability_zero_and_no_gradient_that_is_not_finite():
    logits = jnp.asarray([0.3, 9.0, -0.5, 1.2])
    masked, valid = Categorical(logits, MASK), Categorical(logits[MASK])
    p = np.exp(log_probs(masked, np.arange(4)))
    assert p[1] == 0
    np.testing.assert_allclose(p[MASK], jax.nn.softmax(logits[MASK]), rtol=1e-5)
    assert masked.entropy() == pytest.approx(float(valid.entropy()), rel=1e-5)
    for quantity in ("entropy", "mode"):
        assert np.isfinite(getattr(masked, quantity)())
    gradient = jax.jit(jax.grad(lambda x: Categorical(x, MASK).entropy() + Categorical(x, MASK).log_prob(2)))(logits)
    assert np.isfinite(gradient).all() and gradient[1] == 0


@pytest.mark.parametrize("k", [2, 4])
def test_an_invalid_action_is_never_sampled(k):
    distribution = Categorical(jnp.linspace(0, 5, k), np.arange(k) != k - 1)  # the likeliest one is invalid
    noise = distribution.draw(jax.random.key(0), (100_000,))
    assert not (jax.vmap(distribution.sample)(noise) == k - 1).any()
    assert distribution.mode() == k - 2


def test_a_row_without_a_valid_action_is_no_nan():
    def everything(logits):
        distribution = Categorical(logits, np.zeros(3, bool))
        return distribution.log_prob(1) + distribution.entropy()

    value, gradient = jax.jit(jax.value_and_grad(everything))(LOGITS)
    assert np.isfinite(value) and np.isfinite(gradient).all()
