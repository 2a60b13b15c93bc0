"""Bandits: signs, weights, bounds and what cannot be."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad.bandits as bandits
from policygrad.bandits import linucb, squarecb
from policygrad.bandits.bandit import require_finite
from policygrad.bandits.explorers import gamma_schedule, inverse_gap_weighting

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def rows(count=30, d=3, k=3, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, d)), random.integers(0, k, count), random.random(count)


def test_a_batch_is_its_rows_in_order():
    bandit = squarecb(3, 3, oracle="gradient")
    x, action, reward = rows()
    together = bandit.learn(bandit.init(KEY), x, action, reward)
    state = bandit.init(KEY)
    for row in zip(x, action, reward):
        state = bandit.learn(state, *row)
    assert int(state.rows) == int(together.rows) == 30
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), state, together)
    many, one = bandit.predict(state, x), bandit.predict(state, x[3])
    np.testing.assert_allclose(many.probabilities[3], one.probabilities, atol=1e-12)


def test_probabilities_are_those_of_the_scores_and_of_gamma():
    bandit = squarecb(3, 3, gamma_scale=2.0, gamma_exponent=0.25, min_exploration=0.3)
    x, action, reward = rows()
    state = bandit.learn(bandit.init(KEY), x, action, reward)
    scores, probabilities = bandit.predict(state, x)
    expected = 0.7 * inverse_gap_weighting(scores, gamma_schedule(30, 2.0, 0.25)) + 0.1
    np.testing.assert_allclose(probabilities, expected, atol=1e-12)


@pytest.mark.parametrize("losses", [False, True])
def test_scores_are_clipped_to_the_range_of_the_rewards(losses):
    bandit, free = squarecb(3, 3, losses=losses), squarecb(3, 3, losses=losses, clip=False)
    x, action, reward = rows()
    state = free.learn(bandit.init(KEY), x, action, 5 * reward)
    scores, raw = bandit.predict(state, 9 * x).scores, free.predict(state, 9 * x).scores
    low, high = (-1, 0) if losses else (0, 1)
    assert raw.min() < low and raw.max() > high
    np.testing.assert_array_equal(scores, jnp.clip(raw, low, high))


def test_losses_are_rewards_with_the_sign_swapped():
    """With the prior in the middle, learning from 1 − r as a loss is learning from r as a reward."""
    x, action, reward = rows()
    of_rewards, of_losses = squarecb(3, 3), squarecb(3, 3, losses=True)
    one = of_rewards.predict(of_rewards.learn(of_rewards.init(KEY), x, action, reward), x)
    other = of_losses.predict(of_losses.learn(of_losses.init(KEY), x, action, 1 - reward), x)
    np.testing.assert_allclose(other.scores + 1, one.scores, atol=1e-12)
    np.testing.assert_allclose(other.probabilities, one.probabilities, atol=1e-10)


def test_before_anything_is_learned_every_action_has_the_prior():
    bandit = squarecb(4, 3, prior=0.2)
    scores, probabilities = bandit.predict(bandit.init(KEY), rows()[0])
    assert (scores == 0.2).all() and np.allclose(probabilities, 0.25)


def test_a_propensity_weighs_a_row_as_uniform_choices_would_have():
    bandit = squarecb(3, 3, clip=False, prior=0.0)
    x, action, reward = rows()
    propensity = np.random.default_rng(1).uniform(0.1, 1, 30)
    state = bandit.learn(bandit.init(KEY), x, action, reward, propensity)
    own, weight = action == 1, 1 / (3 * propensity)
    left = np.eye(3) + (x[own] * weight[own, None]).T @ x[own]
    theta = np.linalg.solve(left, x[own].T @ (weight[own] * reward[own]))
    np.testing.assert_allclose(bandit.predict(state, x).scores[:, 1], x @ theta, atol=1e-12)


def test_linucb_takes_the_highest_upper_bound():
    bandit = linucb(3, 3, alpha=0.8, ridge=2.0, prior=0.0)
    x, action, reward = rows()
    state = bandit.learn(bandit.init(KEY), x, action, reward)
    context = np.random.default_rng(2).normal(size=(50, 3))
    bound = np.empty((50, 3))
    for a in range(3):
        inverse = np.linalg.inv(2.0 * np.eye(3) + x[action == a].T @ x[action == a])
        theta = inverse @ x[action == a].T @ reward[action == a]
        bound[:, a] = context @ theta + 0.8 * np.sqrt(np.einsum("ti,ij,tj->t", context, inverse, context))
    found = bandit.predict(state, context).probabilities
    np.testing.assert_array_equal(found, np.eye(3)[bound.argmax(1)])
    greedy = (context @ state.oracle.weight.T).argmax(1)
    assert (greedy != bound.argmax(1)).any(), "the width must matter somewhere"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("squarecb", dict(gamma_scale=-1.0), "gamma_scale is -1.0"),
        ("squarecb", dict(gamma_exponent=float("nan")), "gamma_exponent is nan"),
        ("squarecb", dict(min_exploration=1.5), "min_exploration is 1.5; choose a share from 0 to 1"),
        ("squarecb", dict(oracle="forest"), "no oracle 'forest': choose one of linear, gradient, network"),
        ("squarecb", dict(prior=float("inf")), "prior is inf"),
        ("epsilon_greedy", dict(epsilon=2.0), "epsilon is 2.0"),
        ("softmax", dict(temperature=0.0), "temperature is 0.0"),
        ("linucb", dict(alpha=-0.1), "alpha is -0.1"),
    ],
)
def test_options_that_make_no_sense(name, options, words):
    with pytest.raises(ValueError, match=words):
        bandits.EXPLORERS[name](3, 4, **options)


def test_one_action_is_no_choice():
    with pytest.raises(ValueError, match="at least 2 and 1"):
        squarecb(1, 4)


WRONG_ROWS = [
    (dict(action=7), r"action is 7; the actions are 0 to 2"),
    (dict(action=-1), r"action is -1; the actions"),
    (dict(action=0.5), r"action is 0.5; the actions"),
    (dict(reward=float("nan")), r"reward is nan; it must be a finite number"),
    (dict(reward=1.5), r"reward is 1.5; it must be from 0 to 1"),
    (dict(propensity=0.0), r"propensity is 0; it must be above 0"),
    (dict(propensity=1.1), r"propensity is 1.1; it must be above 0 and at most 1"),
    (dict(features=np.zeros(4)), r"the shape \(4,\); the bandit was made for 3 features"),
    (dict(features=np.array([0, np.inf, 0])), r"features hold a number that is not finite"),
    (dict(action=[0, 1]), r"action has the shape \(2,\) and features \(3,\): give one action a row"),
]


@pytest.mark.parametrize(("change", "words"), WRONG_ROWS)
def test_a_row_that_cannot_be(change, words):
    bandit = squarecb(3, 3)
    row = dict(features=np.ones(3), action=1, reward=0.5, propensity=0.5) | change
    with pytest.raises(ValueError, match=words):
        bandit.learn(bandit.init(KEY), **row)


def test_the_first_bad_row_of_a_batch_is_named_and_what_is_traced_passes():
    bandit, free = squarecb(3, 3), squarecb(3, 3, clip=False)
    x, action, reward = rows(3)
    state = bandit.init(KEY)
    with pytest.raises(ValueError, match="reward is 4"):
        bandit.learn(state, x, action, np.array([0.5, 4.0, -7.0]))
    free.learn(state, x, action, np.array([0.5, 4.0, -7.0]))
    traced = jax.jit(bandit.learn)(state, x, action, reward)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), traced, bandit.learn(state, x, action, reward)
    )
    with pytest.raises(ValueError, match="made for 3 features"):
        bandit.predict(state, np.ones(4))


def test_what_has_diverged_is_refused():
    fine = {"weights": jnp.ones(3), "rows": jnp.zeros((), jnp.int32)}
    require_finite("squarecb", fine)
    with pytest.raises(RuntimeError, match="squarecb has diverged"):
        require_finite("squarecb", fine, jnp.asarray([0.0, jnp.nan]))


def test_the_pages_snippet_runs_as_printed():
    page = (Path(__file__).parents[2] / "docs" / "30-bandits.md").read_text(encoding="utf-8")
    names = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    assert int(names["state"].rows) == 1 and names["probabilities"].shape == (3,)
