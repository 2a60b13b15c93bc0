"""Exact dynamic programming against brute force and closed forms; temporal differences against plain loops; and the
library's learned critics against it."""

from dataclasses import replace
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.collect import episode_collector
from policygrad.envs.core import autoreset
from policygrad.envs.tabular import chain, cliff, fork, grid, random_mdp, random_walk, short_corridor
from policygrad.ladder import Psi
from policygrad.learn import Hyper, Score, make_learner
from policygrad.measure import dynamic, enumerate_trajectories, exact
from policygrad.measure.dynamic import (
    n_step_td,
    offline_lambda_return,
    policy_evaluation,
    policy_iteration,
    sample_episodes,
    soft_policy_evaluation,
    soft_value_iteration,
    td_lambda,
    value_iteration,
)
from policygrad.models import make_model

pytestmark = pytest.mark.usefixtures("x64")

GAMMA, ALPHA = 0.9, 0.3


def policy_of(mdp, seed=0, times=()):
    return np.random.default_rng(seed).dirichlet(np.ones(mdp.n_actions), size=(*times, mdp.n_states))


# Values


def test_the_value_is_the_differentiable_one():
    mdp = random_mdp(0, 4, 3, n_terminal=1)
    for limited, times in ((mdp, ()), (replace(mdp, horizon=3), ()), (replace(mdp, horizon=3), (3,))):
        policy = policy_of(mdp, times=times)
        truth = exact.policy_evaluation(limited, policy, GAMMA)
        np.testing.assert_allclose(policy_evaluation(limited, policy, GAMMA), truth, rtol=0, atol=1e-12)


def test_a_horizon_may_be_given_and_a_time_limit_is_no_part_of_the_problem():
    mdp = random_mdp(0, 4, 2)
    policy, cut = policy_of(mdp), replace(mdp, time_limit=2)
    np.testing.assert_array_equal(policy_evaluation(cut, policy, GAMMA), policy_evaluation(mdp, policy, GAMMA))
    limited = replace(mdp, horizon=3)
    for solve in (value_iteration, lambda mdp, gamma, **given: soft_value_iteration(mdp, gamma, ALPHA, **given)):
        np.testing.assert_array_equal(solve(mdp, GAMMA, horizon=3).value, solve(limited, GAMMA).value)
    assert value_iteration(limited, GAMMA).policy.shape == (3, 4, 2)


def test_known_answers():
    np.testing.assert_allclose(value_iteration(chain(4), 0.5).value, [0.25, 0.5, 1.0, 0.0], atol=1e-12)
    limited = value_iteration(chain(4, horizon=2), 1.0)
    np.testing.assert_allclose(limited.value, [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]], atol=1e-12)
    for solve in (value_iteration, policy_iteration):
        assert solve(cliff(), 1.0).value[36] == -13
        assert solve(grid(), 1.0).value[0] == -6
        assert solve(short_corridor(), 1.0).value[0] == -3
        assert solve(fork(), 1.0).value[0] == 1
    walk = policy_evaluation(random_walk(), np.full((21, 2), 0.5), 1.0)
    np.testing.assert_allclose(walk[1:-1], np.arange(-9, 10) / 10, atol=1e-12)
    assert walk[0] == walk[-1] == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_best_policy_is_the_best_of_all(seed):
    mdp = random_mdp(seed, 4, 2, n_terminal=1)
    all_values = [policy_evaluation(mdp, np.eye(2)[list(acts)], GAMMA) for acts in product(range(2), repeat=4)]
    by_value, by_policy = value_iteration(mdp, GAMMA), policy_iteration(mdp, GAMMA)
    np.testing.assert_allclose(by_value.value, np.max(all_values, axis=0), atol=1e-11)
    for mine, theirs in zip(by_value, by_policy):
        np.testing.assert_allclose(mine, theirs, atol=1e-11)
    np.testing.assert_allclose(policy_evaluation(mdp, by_policy.policy, GAMMA), by_policy.value, atol=1e-12)


def test_value_iteration_keeps_its_promise_near_one():
    """γ = 0.99: the last change is a hundredth of the error."""
    mdp = random_mdp(0, 4, 2)
    truth, found = policy_iteration(mdp, 0.99).value, value_iteration(mdp, 0.99, tolerance=1e-9).value
    assert np.max(np.abs(found - truth)) <= 1e-9 * np.max(np.abs(truth))


def test_actions_that_are_equally_good_share_the_probability():
    policy = value_iteration(grid(2, 2), 1.0).policy
    np.testing.assert_array_equal(policy[0], [0, 0.5, 0.5, 0])


# Maximum entropy


def test_the_soft_value_sums_over_all_action_sequences():
    """Deterministic dynamics and rewards: V_0(s) = α log Σ_{a_1 … a_T} exp(R/α)."""
    mdp = random_mdp(2, 4, 2, branching=1, n_rewards=1)
    successor, reward = mdp.transition.argmax(-1), dynamic.model_of(mdp).reward
    totals = []
    for actions in product(range(2), repeat=5):
        state, total = np.arange(4), 0.0
        for a in actions:
            total, state = total + reward[state, a], successor[state, a]
        totals.append(total)
    expected = ALPHA * np.log(np.sum(np.exp(np.array(totals) / ALPHA), axis=0))
    np.testing.assert_allclose(soft_value_iteration(mdp, 1.0, ALPHA, horizon=5).value[0], expected, rtol=1e-12)


@pytest.mark.parametrize("horizon", [None, 3])
def test_what_another_policy_loses_is_its_divergence_from_the_best(horizon):
    """V* − V^π = α·E_π[Σ_t γ^t D(π(·|s_t)‖π*(·|s_t))], with soft values."""
    mdp = random_mdp(1, 4, 3, n_terminal=1, horizon=horizon)
    best, policy = soft_value_iteration(mdp, GAMMA, ALPHA), policy_of(mdp)
    np.testing.assert_allclose(best.policy.sum(-1), 1, rtol=1e-12)
    np.testing.assert_allclose(soft_policy_evaluation(mdp, best.policy, GAMMA, ALPHA), best.value, atol=1e-11)
    lost = best.value - soft_policy_evaluation(mdp, policy, GAMMA, ALPHA)
    assert (lost > -1e-12).all() and lost.max() > 0.1
    times = 1 if horizon is None else horizon
    price = ALPHA * (np.log(policy) - np.log(best.policy)).reshape(times, 4, 3)
    by_hand = np.zeros(4)
    for t in reversed(range(400 if horizon is None else horizon)):
        paid = price[t % times] + GAMMA * np.einsum("sax,x->sa", mdp.transition, by_hand)
        by_hand = np.sum(policy * paid, axis=-1) * ~mdp.terminal
    np.testing.assert_allclose(lost if horizon is None else lost[0], by_hand, atol=1e-11)


def test_without_a_price_on_entropy_it_is_the_hard_problem():
    mdp = random_mdp(0, 4, 3)
    np.testing.assert_allclose(
        soft_value_iteration(mdp, GAMMA, 1e-6).value, value_iteration(mdp, GAMMA).value, atol=1e-4
    )
    flat = soft_value_iteration(mdp, GAMMA, 1e6).policy
    np.testing.assert_allclose(flat, 1 / 3, atol=1e-4)


def test_an_end_has_no_entropy():
    mdp = chain(3, horizon=4)
    assert not soft_value_iteration(mdp, 1.0, ALPHA).value[:, 2].any()
    assert not soft_policy_evaluation(mdp, np.full((3, 2), 0.5), 1.0, ALPHA)[:, 2].any()


# What is refused


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda mdp: policy_evaluation(mdp, np.ones((3, 2)), GAMMA), r"policy\[0\] is \(1, 1\).* sum to 1"),
        (lambda mdp: policy_evaluation(mdp, [[1.5, -0.5]] * 3, GAMMA), "≥ 0"),
        (lambda mdp: policy_evaluation(mdp, np.full((3, 2), np.nan), GAMMA), "sum to 1"),
        (lambda mdp: policy_evaluation(mdp, np.ones((2, 3)) / 3, GAMMA), r"shape \(2, 3\)"),
        (lambda mdp: policy_evaluation(mdp, np.full((3, 2), 0.5), 1.0), "may never end"),
        (lambda mdp: policy_evaluation(mdp, np.full((3, 2), 0.5), 1.1), "gamma is 1.1"),
        (lambda mdp: soft_value_iteration(mdp, 0.9, -1.0), "alpha is -1"),
        (lambda mdp: value_iteration(mdp, 0.9, horizon=0), "horizon is 0"),
        (lambda mdp: value_iteration(mdp, 1.0, max_iterations=50), "gamma < 1"),
        (lambda mdp: policy_iteration(replace(mdp, horizon=2), 0.9), "value_iteration"),
        (lambda mdp: sample_episodes(mdp, np.ones((3, 2)) / 2, 1, np.random.default_rng(0), max_steps=9), "time_limit"),
    ],
)  # fmt: skip
def test_what_has_no_answer_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(random_mdp(0, 3, 2))


# Temporal differences


MDP = random_mdp(5, 4, 2, n_terminal=1, time_limit=6)
ETA = np.array([0.1, 0.5])


@pytest.fixture(scope="module", params=["as played", "all cut"])
def played(request):
    """Six episodes side by side, some ended and some cut; or as if all were cut where they are over."""
    episodes = sample_episodes(MDP, policy_of(MDP), 6, np.random.default_rng(1))
    assert set(episodes.terminated) == {True, False} and len(set(episodes.length)) > 2
    return episodes if request.param == "as played" else episodes._replace(terminated=np.zeros(6, bool))


def some_value(played):
    """Where all is cut, the last state is worth something whatever it is."""
    value = np.random.default_rng(2).normal(size=(2, 6, 4))
    value[..., MDP.terminal] = 0 if played.terminated.any() else 1
    return value


def by_hand(played, stream, eta, targets):
    """V of one stream after the episode; ``targets(v, states, rewards, t)`` is what V(s_t) moves to."""
    v, n = some_value(played)[eta, stream].copy(), played.length[stream]
    states, rewards = played.state[: n + 1, stream], played.reward[:n, stream]
    for t in range(n):
        v[states[t]] += ETA[eta] * (targets(v, states, rewards, t) - v[states[t]])
    return v


@pytest.mark.parametrize("n", [1, 3, 9])
def test_n_step_td_is_what_the_book_says(played, n):
    def target(v, states, rewards, t):
        end = min(t + n, len(rewards))
        return sum(GAMMA**k * r for k, r in enumerate(rewards[t:end])) + GAMMA ** (end - t) * v[states[end]]

    found = n_step_td(some_value(played), played, n, ETA, GAMMA)
    for stream, eta in product(range(6), range(2)):
        np.testing.assert_allclose(found[eta, stream], by_hand(played, stream, eta, target), rtol=1e-12, atol=1e-14)


def test_the_offline_lambda_return_mixes_the_n_step_returns(played):
    lam = 0.7

    def target(v, states, rewards, t):
        old, left = frozen, len(rewards) - t
        g = [sum(GAMMA**k * r for k, r in enumerate(rewards[t : t + n])) + GAMMA**n * old[states[t + n]]
             for n in range(1, left + 1)]  # fmt: skip
        return (1 - lam) * sum(lam ** (n - 1) * g[n - 1] for n in range(1, left)) + lam ** (left - 1) * g[-1]

    found = offline_lambda_return(some_value(played), played, lam, ETA, GAMMA)
    for stream, eta in product(range(6), range(2)):
        frozen = some_value(played)[eta, stream]
        np.testing.assert_allclose(found[eta, stream], by_hand(played, stream, eta, target), rtol=1e-12, atol=1e-14)


def test_td_lambda_between_its_two_ends(played):
    """λ = 0 is TD(0). Otherwise, while V changes little, it is the off-line λ-return: they differ by O(η²)."""
    np.testing.assert_allclose(
        td_lambda(some_value(played), played, 0.0, ETA, GAMMA),
        n_step_td(some_value(played), played, 1, ETA, GAMMA),
        atol=1e-14,
    )
    start, moved = some_value(played), []
    for eta in (1e-4, 1e-5):
        online, offline = (f(start, played, 0.7, eta, GAMMA) - start for f in (td_lambda, offline_lambda_return))
        assert np.abs(offline).max() > eta
        moved.append(np.abs(online - offline).max())
    assert moved[1] < 0.02 * moved[0] < 1e-6


def test_an_end_has_no_value_and_a_cut_has():
    mdp = chain(3, horizon=1)
    ended, cut = (
        sample_episodes(mdp, [[1.0, 0.0]] * 3, 1, np.random.default_rng(0))
        for mdp in (mdp, replace(mdp, horizon=None, time_limit=1))
    )
    value = np.full((1, 1, 3), 2.0)
    for update in (lambda e: n_step_td(value, e, 2, 0.5, GAMMA), lambda e: td_lambda(value, e, 0.9, 0.5, GAMMA),
                   lambda e: offline_lambda_return(value, e, 0.9, 0.5, GAMMA)):  # fmt: skip
        np.testing.assert_allclose([update(e)[0, 0, 0] for e in (ended, cut)], [1.0, 1.0 + 0.5 * GAMMA * 2])


def test_the_episodes_are_those_of_the_mdp():
    """Frequencies of the first (action, successor, reward) from 20,000 episodes, within five standard errors."""
    mdp, n = replace(MDP, time_limit=2), 20_000
    policy = policy_of(mdp)
    played = sample_episodes(mdp, policy, n, np.random.default_rng(3))
    joint = mdp.initial[:, None, None, None] * policy[:, :, None, None] * mdp.transition[..., None] * mdp.reward_prob
    for s, x, m in product(range(3), range(4), range(2)):
        for a in range(2):
            seen = np.mean((played.state[0] == s) & (played.reward[0] == mdp.reward_value[s, a, x, m]))
            assert abs(seen - joint[s, a, x, m]) < 5 * np.sqrt(joint[s, a, x, m] / n) + 1e-9
    over = mdp.terminal[played.state[1]]
    np.testing.assert_array_equal(played.length, np.where(over, 1, 2))
    assert not played.reward[1, over].any()


def test_the_random_walk_of_the_book():
    """Sutton & Barto, figure 7.2: over 10 episodes the least error is that of n = 4 near η = 0.4, just above 0.25."""
    mdp, rng = random_walk(), np.random.default_rng(0)
    uniform, eta = np.full((21, 2), 0.5), np.array([0.2, 0.4, 0.8])
    truth, error = policy_evaluation(mdp, uniform, 1.0), {1: 0, 4: 0, 16: 0}
    values = {n: np.zeros((3, 100, 21)) for n in error}
    for _ in range(10):
        episodes = sample_episodes(mdp, uniform, 100, rng)
        for n in values:
            values[n] = n_step_td(values[n], episodes, n, eta, 1.0)
            error[n] += np.sqrt(np.mean((values[n] - truth)[..., 1:-1] ** 2, axis=-1)).mean(axis=-1) / 10
    least = {n: (e.min(), eta[e.argmin()]) for n, e in error.items()}
    assert min(least.values()) == least[4] and 0.25 < least[4][0] < 0.27 and least[4][1] == 0.4
    assert least[1][1] == 0.8 and least[16][1] == 0.2


# The learned critics


def forwards(seed):
    """A random MDP of five states that only go upwards: within four steps every episode has ended."""
    mdp = random_mdp(seed, 5, 2, n_rewards=1, n_terminal=1)
    upwards = np.where(
        mdp.terminal[:, None, None], mdp.transition, np.triu(np.ones((5, 5)), 1)[:, None] * mdp.transition
    )
    return replace(mdp, transition=upwards / upwards.sum(axis=-1, keepdims=True))


WORLD = forwards(7)
TARGETS = {
    "monte_carlo": dict(target="reward_to_go"),
    "td0": dict(target="td0"),
    "n_step": dict(target="n_step", n=2),
    "lambda_return": dict(target="lambda_return", lam=0.7),
    "vtrace": dict(target="vtrace", correction="vtrace", lam=0.7, rho_bar=np.inf, c_bar=1.0),
}


def table_model(key):
    return make_model(WORLD.observation_space, WORLD.action_space, key=key, policy="tabular")


def with_tables(model, logits, value):
    at = lambda m: (m.actor.head.last.rows, m.critic.last.rows)  # noqa: E731
    return eqx.tree_at(at, model, (jnp.asarray(logits), jnp.asarray(value)[:, None]))


@pytest.mark.parametrize(("name", "mu_seed"), [*((name, 0) for name in TARGETS), ("vtrace", 1)])
def test_a_learned_critic_comes_to_the_exact_value(name, mu_seed):
    """The learner's own regression targets, averaged over every trajectory: V ← E[target | s] has V^π for its limit.
    Monte Carlo needs whole episodes; for all others they are cut after two steps. V-trace learns from μ's as well."""
    world = replace(WORLD, time_limit=4 if name == "monte_carlo" else 2)
    learner = make_learner(
        table_model, Psi(baseline="value", gamma=GAMMA, **TARGETS[name]), kind=Score(),
        hyper=Hyper(0.1, 0.0, 0.5, np.inf), critic_target=name,
    )  # fmt: skip
    policy = policy_of(WORLD)
    empty = table_model(jax.random.key(0))
    model = with_tables(empty, np.log(policy), np.zeros(5))
    behaviour = with_tables(empty, np.log(policy_of(WORLD, mu_seed)), np.zeros(5))
    trajectory, probability = enumerate_trajectories(world, model, behaviour=behaviour)
    state = learner.init(jax.random.key(0))

    @jax.jit
    def expected(value):
        params = eqx.filter(with_tables(empty, np.log(policy), value), eqx.is_array)
        target = learner.weigh(state._replace(params=params), trajectory).returns
        visit = probability * trajectory.mask * (trajectory.obs == jnp.arange(5)[:, None, None])
        return jnp.sum(visit * target, axis=(1, 2)) / jnp.maximum(jnp.sum(visit, axis=(1, 2)), 1e-30)

    exact_value, value = policy_evaluation(WORLD, policy, GAMMA), jnp.zeros(5)
    np.testing.assert_allclose(expected(exact_value), exact_value, atol=1e-12)
    for _ in range(5 if name == "monte_carlo" else 30):
        value = expected(value)
    np.testing.assert_allclose(value, exact_value, atol=1e-10)
    assert np.abs(exact_value).max() > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_learner_arrives_there_by_its_own_updates(name):
    """The whole learner on sampled episodes. One action, so that the policy stays what it is: 400 updates by SGD of 64
    episodes, seed 0; the mean of V over the second half, within 0.03."""
    mdp = forwards(7)
    mdp = replace(mdp, transition=mdp.transition[:, :1], reward_value=mdp.reward_value[:, :1],
                  reward_prob=mdp.reward_prob[:, :1], time_limit=4)  # fmt: skip
    learner = make_learner(
        lambda key: make_model(mdp.observation_space, mdp.action_space, key=key, policy="tabular"),
        Psi(baseline="value", gamma=GAMMA, **TARGETS[name]), kind=Score(), hyper=Hyper(0.5, 0.0, 0.5, np.inf),
        per="step", critic_target=name, optimizer="sgd",
    )  # fmt: skip
    collector = episode_collector(autoreset(mdp), 64)

    def update(loop, key):
        state, streams = loop
        streams, trajectory, _ = collector.collect(learner.model(state), streams, key)
        state, _ = learner.update(state, trajectory, key)
        return (state, streams), learner.model(state).critic.last.rows[:, 0]

    @jax.jit
    def run(key):
        state = learner.init(key)
        streams = collector.init(learner.model(state), key)
        return jax.lax.scan(update, (state, streams), jax.random.split(key, 400))[1]

    value = run(jax.random.key(0))
    truth = policy_evaluation(mdp, np.ones((5, 1)), GAMMA)
    np.testing.assert_allclose(value[200:, :-1].mean(axis=0), truth[:-1], atol=0.03)
    assert np.abs(truth).max() > 0.3
