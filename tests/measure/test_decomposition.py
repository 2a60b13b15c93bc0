"""The parts of the variance against their exact values on small worlds, and the coverage of their intervals."""

import threading

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.envs.core import autoreset
from policygrad.envs.memory import remember
from policygrad.envs.probes import ContinuousActionReward
from policygrad.envs.tabular import TabularMDP, random_mdp
from policygrad.ladder import Psi
from policygrad.learn import steps_from
from policygrad.measure import enumerate_trajectories, table_critic
from policygrad.measure.decomposition import decompose, decompose_host
from policygrad.models import make_model

GAMMA = 0.9
PARTS = ("trajectory", "action", "state")


def policy(mdp, seed=0):
    """A softmax table with normal logits."""
    empty = make_model(mdp.observation_space, mdp.action_space, key=jax.random.key(0), policy="tabular")
    logits = np.random.default_rng(seed).normal(size=empty.actor.head.last.rows.shape)
    return jax.tree.map(lambda x: jnp.asarray(logits, jnp.float32) if x.shape == logits.shape else x, empty)


def exact(mdp, model, discounted, value=None):
    """The three parts and what the best baseline takes away, by writing down every trajectory.

    A row (t, s, a) has the score e_s ⊗ (e_a − π(·|s)); the return's moments given (t, s, a) are weighted sums.
    """
    trajectory, probability = enumerate_trajectories(mdp, model)
    psi = Psi("reward_to_go", gamma=GAMMA)
    returns = np.asarray(psi(steps_from(model, trajectory, psi)), np.float64)
    n_steps, s, a = len(returns), mdp.n_states, mdp.n_actions
    mass, first, second = np.zeros((3, n_steps, s, a))
    weight = np.asarray(probability, np.float64) * np.asarray(trajectory.mask)
    for power, table in enumerate((mass, first, second)):
        np.add.at(table, (trajectory.time, trajectory.obs, trajectory.action), weight * returns**power)
    visited = mass > 0
    q = np.divide(first, mass, out=np.zeros_like(mass), where=visited)
    variance = np.divide(second, mass, out=np.zeros_like(mass), where=visited) - q**2
    d = mass * (GAMMA ** np.arange(n_steps)[:, None, None] if discounted else 1)
    d /= d.sum()
    state = d.sum(axis=2)

    pi = np.asarray(jax.nn.softmax(model.actor.head.last.rows, axis=-1), np.float64)
    score = np.eye(a)[None] - pi[:, None, :]  # [S, a, A]: the row of its own state, all others are zero
    squared = (score**2).sum(axis=2)
    b = np.zeros(s) if value is None else value
    centred = q - b[None, :, None]
    mean = np.einsum("sa,tsa,sax->tsx", pi, centred, score)  # E_a of g·(Q − b)
    grand = np.einsum("ts,tsx->sx", state, mean)
    length = np.einsum("sa,tsa,sa->ts", pi, centred**2, squared)
    fisher = (pi * squared).sum(axis=1)
    toward = np.einsum("sa,tsa,sa->ts", pi, centred, squared)
    return {
        "trajectory": (d * variance * squared).sum(),
        "action": (state * (length - (mean**2).sum(axis=2))).sum(),
        "state": (state * (mean**2).sum(axis=2)).sum() - (grand**2).sum(),
        "removable": (state * toward**2 / fisher).sum(),
    }


def covers(estimate, truth):
    return estimate.low <= truth <= estimate.high


@pytest.mark.parametrize("discounted", [pytest.param(True, marks=pytest.mark.slow), False])
def test_unbiased_and_with_intervals_that_cover(discounted):
    """200 measurements of 200 states: each estimate is right on average, each 95 % interval in nine of ten or more."""
    mdp = random_mdp(3, 3, 3, n_rewards=2, n_terminal=1, horizon=3)
    mdp = TabularMDP(
        mdp.initial, mdp.transition, mdp.reward_value + 1, mdp.reward_prob, mdp.terminal, horizon=3, time_limit=3
    )
    model, value = policy(mdp), np.array([1.5, 0.5, 0.0])
    stream, critic = autoreset(mdp), table_critic(mdp, value)
    truths = {"plain": exact(mdp, model, discounted), "value": exact(mdp, model, discounted, value)}
    assert truths["plain"]["trajectory"] == pytest.approx(truths["value"]["trajectory"])
    assert truths["plain"]["state"] == pytest.approx(truths["value"]["state"]), "b(s) changes the action's part alone"

    options = {"states": 200, "actions": 3, "continuations": 2, "critic": critic}
    found = [decompose(stream, model, gamma=GAMMA, discounted=discounted, seed=seed, **options) for seed in range(200)]
    asked = {(how, name): [getattr(getattr(f, how), name).variance for f in found] for how in truths for name in PARTS}
    expected = {key: truths[key[0]][key[1]] for key in asked}
    for how, truth in truths.items():
        asked[how, "total"] = [getattr(f, how).total for f in found]
        expected[how, "total"] = sum(truth[name] for name in PARTS)
    asked["value", "removable"] = [f.removable.variance for f in found]
    asked["value", "best"] = [f.best.variance for f in found]
    expected["value", "removable"] = truths["value"]["removable"]
    expected["value", "best"] = truths["plain"]["action"] - truths["plain"]["removable"]
    for key, estimates in asked.items():
        values = np.array([e.value for e in estimates])
        away = abs(values.mean() - expected[key]) / (values.std() / np.sqrt(len(values)))
        coverage = np.mean([covers(e, expected[key]) for e in estimates])
        print(key, f"{expected[key]:.4f} {values.mean():.4f} {away:.1f} {coverage:.3f}")
        assert away < 4, key
        assert 0.89 <= coverage <= 0.99, key
    share = truths["value"]["action"] / expected["value", "total"]
    assert np.mean([f.value.action.share.low <= share <= f.value.action.share.high for f in found]) > 0.89


def bandit(rewards, prob=None):
    """One state, one step; each arm pays one of its rewards."""
    values = np.asarray(rewards, float).reshape(1, len(rewards), 1, -1)
    return TabularMDP(np.ones(1), np.ones((1, len(rewards), 1)), values, prob, horizon=1, time_limit=1)


def test_two_arms_leave_nothing_to_the_best_baseline():
    """With b* = (1 − p)·r_0 + p·r_1 both arms give the same term."""
    mdp = bandit([[1.0], [3.0]])
    model = policy(mdp, seed=1)
    found = decompose(autoreset(mdp), model, gamma=1.0, discounted=False, states=400, actions=3)
    p, q = np.asarray(jax.nn.softmax(model.actor.head.last.rows[0]), np.float64)
    terms = np.array([q * 1.0, -p * 3.0])  # along (1, −1), whose squared length is 2
    truth = 2 * (p * terms[0] ** 2 + q * terms[1] ** 2 - (p * terms[0] + q * terms[1]) ** 2)
    assert found.value is None
    assert found.plain.trajectory.variance.value == 0, "nothing happens after the action"
    action = found.plain.action.variance
    assert abs(action.value - truth) < 4 * action.error and action.told_from_zero
    assert abs(found.plain.state.variance.value) <= 4 * found.plain.state.variance.error, "there is one state"
    assert abs(found.best.variance.value) <= 4 * found.best.variance.error + 1e-6
    assert "can help" in found.verdict


def test_a_single_state_with_random_pay():
    """The trajectory's part is E‖g‖²·Var(r); the state's is zero."""
    mdp = bandit([[0.0, 2.0], [0.0, 2.0]])
    model = policy(mdp)
    found = decompose(
        autoreset(mdp), model, gamma=1.0, discounted=False, states=400, critic=table_critic(mdp, np.ones(1))
    )
    p, q = np.asarray(jax.nn.softmax(model.actor.head.last.rows[0]), np.float64)
    assert found.value.trajectory.variance.value == pytest.approx(2 * p * q, rel=0.1)
    assert found.value.trajectory.share.value > 0.95
    for part in (found.value.action, found.value.state, found.removable):
        assert abs(part.variance.value) <= 4 * part.variance.error, "V is the best baseline here"
    assert "no baseline" in found.verdict


@pytest.mark.slow
def test_memory_and_continuous_actions():
    """A recurrent policy sees its past, a Gaussian one has no list of actions: the parts add up to the total."""
    mdp = random_mdp(3, 4, 2, horizon=3, time_limit=3)
    env = remember(mdp)
    model = make_model(env.observation_space, env.action_space, policy="gru", net=(4,), key=jax.random.key(1))
    found = decompose(autoreset(env), model, gamma=GAMMA, discounted=True, states=16, actions=2, continuations=2)
    parts = sum(getattr(found.value, name).variance.value for name in PARTS)
    assert parts == pytest.approx(found.value.total.value) and found.value.total.value > 0

    env = ContinuousActionReward()
    model = make_model(env.observation_space, env.action_space, net=(), key=jax.random.key(1), log_std_init=-1.0)
    found = decompose(autoreset(env), model, gamma=1.0, discounted=False, states=64, actions=8, continuations=2)
    assert found.plain.trajectory.variance.value == 0 and found.plain.action.variance.told_from_zero


class World(gymnasium.Env):
    """A TabularMDP as a Gymnasium environment, to be copied."""

    def __init__(self, mdp):
        self.mdp, self.observation_space, self.action_space = mdp, mdp.observation_space, mdp.action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s, self.t = self.np_random.choice(self.mdp.n_states, p=self.mdp.initial), 0
        return int(self.s), {}

    def step(self, action):
        mdp, s = self.mdp, self.s
        self.s, self.t = self.np_random.choice(mdp.n_states, p=mdp.transition[s, action]), self.t + 1
        reward = self.np_random.choice(mdp.reward_value[s, action, self.s], p=mdp.reward_prob[s, action, self.s])
        return int(self.s), float(reward), bool(mdp.terminal[self.s] or self.t >= mdp.horizon), False, {}


class Locked(World):
    def __init__(self, mdp):
        super().__init__(mdp)
        self.lock = threading.Lock()


def test_copies_of_host_environments():
    mdp = random_mdp(3, 4, 2, n_rewards=2, n_terminal=1, horizon=3)
    model, value = policy(mdp), np.array([0.5, -0.5, 1.0, 0.0])
    truth = exact(mdp, model, True, value)
    found = decompose_host(
        lambda: World(mdp), model, gamma=GAMMA, discounted=True, states=300, actions=2, continuations=2,
        critic=table_critic(mdp, value), max_episode_steps=3,
    )  # fmt: skip
    for name in PARTS:
        part = getattr(found.value, name).variance
        print(name, truth[name], part)
        assert part.error > 0 and abs(part.value - truth[name]) < 4 * part.error


def begun_anew(env):
    """What a deep copy of some simulators is."""
    fresh = World(env.mdp)
    fresh.reset(seed=0)
    return fresh


def test_environments_that_cannot_be_copied_are_refused():
    mdp = random_mdp(3, 4, 2, horizon=3)
    options = {"gamma": GAMMA, "discounted": True, "states": 16, "max_episode_steps": 3}
    with pytest.raises(ValueError, match=r"Locked cannot be copied in the middle of an episode.*give clone"):
        decompose_host(lambda: Locked(mdp), policy(mdp), **options)
    for clone in (lambda env: env, begun_anew):  # shares its state; is no copy of it
        with pytest.raises(ValueError, match=r"does not go on as the original.*give clone"):
            decompose_host(lambda: World(mdp), policy(mdp), clone=clone, **options)
    with pytest.raises(ValueError, match="give max_episode_steps"):
        decompose_host(lambda: World(mdp), policy(mdp), **options | {"max_episode_steps": None})


def test_what_makes_no_sense_is_refused():
    mdp = random_mdp(3, 4, 2, horizon=3)
    options = {"gamma": GAMMA, "discounted": True}
    with pytest.raises(ValueError, match="need a time limit: give max_episode_steps"):
        decompose(autoreset(mdp), policy(mdp), **options)
    with pytest.raises(ValueError, match="at least 16 states, 2 actions and 2 continuations"):
        decompose(autoreset(mdp, 3), policy(mdp), continuations=1, **options)
    silent = bandit([[0.0], [0.0]])
    with pytest.raises(ValueError, match="no variance to take apart"):
        decompose(autoreset(silent), policy(silent), states=16, **options)
