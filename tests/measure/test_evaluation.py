"""Off-policy evaluation: intervals that cover, weights that do not overflow, a guess of Q that has not seen the
episode."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import bootstrap

from policygrad.envs.tabular import random_mdp
from policygrad.measure.evaluation import (
    ESTIMATORS,
    Sums,
    cross_fitted,
    fitted_q,
    interval,
    logged,
    mean_of,
    overlap,
    ratios,
    resampled,
)


def episodes(rng, n, n_steps=3, gap=1.0):
    """A coin with log-odds 0 under μ and ``gap`` under π, thrown ``n_steps`` times; a head pays one."""
    heads = rng.random((n_steps, n)) < 0.5
    p = 1 / (1 + np.exp(-gap))
    log_rho = np.log(np.where(heads, p, 1 - p) / 0.5)
    return logged(heads.astype(float), log_rho, np.ones_like(heads)), n_steps * p


def test_on_policy_all_estimators_are_the_mean():
    data, _ = episodes(np.random.default_rng(0), 50, gap=0.0)
    found = {name: make(data, 0.9).estimate for name, make in ESTIMATORS.items()}
    np.testing.assert_allclose(list(found.values()), (0.9 ** np.arange(3) @ data.reward).mean(), rtol=1e-12)


@pytest.fixture(scope="module")
def studied():
    """200 datasets of 60 episodes of four steps, played in a small world by another policy, with a cross-fitted Q; and
    the true J of π, backwards in time."""
    n, n_steps, rng = 200, 4, np.random.default_rng(2)
    mdp = random_mdp(12, 3, 2, branching=2, n_rewards=1, horizon=n_steps)
    pi, mu = (softmax(0.5 * rng.normal(size=(3, 2)), axis=-1) for _ in range(2))
    pays, truth = 1 + mdp.reward_value[..., 0], np.zeros(3)
    for _ in range(n_steps):
        truth = np.einsum("sa,saz,saz->s", pi, mdp.transition, pays + truth)
    draw = lambda p: np.argmax(rng.random((*p.shape[:-1], 1)) < np.cumsum(p, axis=-1), axis=-1)  # noqa: E731
    now, rows = draw(np.broadcast_to(mdp.initial, (n, 60, 3))), []
    for _ in range(n_steps):
        action = draw(mu[now])
        then = draw(mdp.transition[now, action])
        rows.append((now, action, pays[now, action, then], np.log(pi / mu)[now, action]))
        now = then
    sets = []
    for state, action, reward, log_rho in zip(*(np.stack(x, axis=1) for x in zip(*rows))):
        mask = np.ones(state.shape, bool)
        guess = cross_fitted(state, action, reward, mask, np.broadcast_to(pi, (n_steps, 3, 2)), 1.0)
        sets.append(logged(reward, log_rho, mask, *guess))
    return sets, mdp.initial @ truth


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_all_six_are_right_and_their_intervals_cover(studied, name):
    """Enough effective episodes (more than 30 of 60, in the mean): no bias that 200 datasets could see, and 95 %
    intervals that hold the truth in 86 to 98 % of them. Standard error of the coverage: 2 %."""
    sets, truth = studied
    found = [interval(ESTIMATORS[name](data, 1.0), n=200, seed=i) for i, data in enumerate(sets)]
    values = np.array([x.value for x in found])
    assert np.mean([overlap(data).effective for data in sets]) > 30
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(len(sets))
    assert 0.86 <= np.mean([x.low <= truth <= x.high for x in found]) <= 0.98


@pytest.mark.parametrize("name", ["is", "wis"])
def test_intervals_cover_the_truth(name):
    """200 datasets of 60 episodes, ESS about 30: 95 % intervals cover in at least 90 %, and in no more than 98.5 %."""
    rng, hits = np.random.default_rng(1), 0
    for seed in range(200):
        data, truth = episodes(rng, 60)
        found = interval(ESTIMATORS[name](data, 1.0), n=400, seed=seed)
        hits += found.low <= truth <= found.high
    assert 0.9 <= hits / 200 <= 0.985


def test_the_interval_is_bca():
    """Of skewed numbers: that of scipy, up to the noise of 20,000 resamples; plain percentiles are elsewhere."""
    x = np.random.default_rng(3).lognormal(sigma=1.2, size=60)
    found = interval(mean_of(x), n=20_000)
    theirs, plain = (
        bootstrap((x,), np.mean, n_resamples=20_000, method=method, rng=0).confidence_interval
        for method in ("BCa", "percentile")
    )
    np.testing.assert_allclose((found.low, found.high), theirs, rtol=0.012)
    assert plain.high < 0.97 * theirs.high


def test_resampling_is_drawing_whole_episodes():
    """The bootstrap of a ratio is that of its numerator and denominator together."""
    sums = Sums(np.array([[2.0], [6.0]]), np.array([[1.0], [3.0]]))
    assert set(np.round(resampled(sums, 200, np.random.default_rng(0)), 12)) == {2.0}
    sums = Sums(np.array([[0.0], [9.0]]), np.array([[1.0], [3.0]]))
    assert set(np.round(resampled(sums, 200, np.random.default_rng(0)), 12)) == {0.0, 2.25, 3.0}


def test_one_episode_says_nothing_about_its_spread():
    found = interval(mean_of(np.array([3.0])))
    assert found.value == 3 and np.isnan([found.low, found.high]).all()


def test_huge_weights_do_not_overflow_a_ratio():
    data, _ = episodes(np.random.default_rng(0), 8)
    far = data._replace(log_rho=data.log_rho + 500)
    for name in ("wis", "wpdis", "wdr"):
        np.testing.assert_allclose(ESTIMATORS[name](far, 1.0).estimate, ESTIMATORS[name](data, 1.0).estimate)


def test_overlap_in_closed_form():
    mask = np.ones((2, 4), bool)
    log_rho = np.zeros((2, 4))
    assert overlap(logged(log_rho, log_rho, mask)) == pytest.approx((4, 0.25, 1))
    log_rho = np.log([[1.0, 1, 1, 3], [1, 1, 1, 1]])
    assert overlap(logged(log_rho, log_rho, mask)) == pytest.approx((36 / 12, 0.5, 1.5))
    assert overlap(logged(log_rho, log_rho - np.log([[3.0], [1]]), mask)) == pytest.approx((36 / 12 / 2, 0.5, 0.5))


def test_equally_tiny_weights_are_no_overlap():
    """π does with probability 1e-10 what μ always did: no such episode says anything about π."""
    log_rho, mask = np.full((1, 50), np.log(1e-10)), np.ones((1, 50), bool)
    found = overlap(logged(np.ones((1, 50)), log_rho, mask))
    assert found == pytest.approx((50e-10, 1 / 50, 1e-10), rel=1e-9)


def test_after_its_end_an_episode_keeps_its_weight():
    mask = np.array([[True, True], [True, False]])
    data = logged(np.ones((2, 2)), np.log([[2.0, 4.0], [3.0, 100.0]]), mask)
    np.testing.assert_allclose(ESTIMATORS["pdis"](data, 1.0).top[:, 0], [2 + 6, 4])
    sums = ESTIMATORS["wpdis"](data, 1.0)
    assert ratios(sums.top.sum(0), sums.bottom.sum(0)) == pytest.approx(1 + 6 / 10)


def test_a_guess_has_not_seen_its_own_episode():
    rng = np.random.default_rng(0)
    state, action = rng.integers(0, 2, (3, 6)), rng.integers(0, 2, (3, 6))
    reward, mask, probs = rng.normal(size=(3, 6)), np.ones((3, 6), bool), np.full((3, 2, 2), 0.5)
    before, _ = cross_fitted(state, action, reward, mask, probs, 1.0)
    other = reward.copy()
    other[:, 2] += 100
    after, _ = cross_fitted(state, action, other, mask, probs, 1.0)
    changed = (after != before).any(axis=0)
    assert not changed[2] and changed.sum() == 3


def test_the_order_of_a_log_does_not_decide_what_is_fitted():
    """Two actions in turn, each paid 4: halves of even and odd episodes would each know one action, and say 2."""
    n = 200
    state, action = np.zeros((1, n), int), np.arange(n)[None] % 2
    reward, mask = np.full((1, n), 4.0), np.ones((1, n), bool)
    q, value = cross_fitted(state, action, reward, mask, np.full((1, 1, 2), 0.5), 1.0)
    np.testing.assert_allclose([q, value], 4, rtol=1e-12)


def test_an_end_is_worth_nothing_more():
    """One action, one state that pays 1 and ends the episode, padded with itself; the other pays 2 and goes on."""
    state = np.array([[0, 1], [0, 1], [0, 1]])
    mask = np.array([[True, True], [False, True], [False, True]])
    reward = np.where(state == 0, 1.0, 2.0) * mask
    q = fitted_q(state, np.zeros_like(state), reward, mask, np.ones((3, 2, 1)), 0.5)
    np.testing.assert_allclose(q[:, :, 0], [[1, 3.5], [1, 3], [1, 2]])


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_doubly_robust_has_no_bias_where_lengths_vary(p):
    """One state; action 0 pays one and goes on, action 1 ends; μ is even, π takes action 0 with probability p, and
    J = p/(1 − p). Every pair of episodes up to 40 rows: each is judged by a Q̂ of the other, however long that was."""
    longest, total = 40, 0.0
    for first in range(1, longest + 1):
        for second in range(1, longest + 1):
            length, n = np.array([first, second]), max(first, second)
            time = np.arange(n)[:, None]
            mask, action = time < length, (time == length - 1).astype(int)
            reward = np.where(mask & (action == 0), 1.0, 0.0)
            log_rho = np.where(mask, np.log(np.where(action == 0, p, 1 - p) / 0.5), 0.0)
            probs = np.broadcast_to([p, 1 - p], (n, 1, 2))
            q, value = cross_fitted(np.zeros_like(action), action, reward, mask, probs, 1.0)
            found = ESTIMATORS["dr"](logged(reward, log_rho, mask, q, value), 1.0).estimate
            total += 0.5 ** (first + second) * found
    assert total == pytest.approx(p / (1 - p), abs=1e-6)
