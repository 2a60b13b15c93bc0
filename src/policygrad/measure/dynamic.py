"""Exact dynamic programming, hard and soft, for a :class:`TabularMDP`: what a critic must learn, and what is best.

Everything rests on one backup, with V zero at ends:

    Q(s, a) = r(s, a) + γ Σ_{s'} P(s' | s, a)·V(s')              r(s, a) = E[r | s, a]

A policy's value is V = Σ_a π(a | s)·(Q(s, a) − α log π(a | s)); the best one is V = α log Σ_a exp(Q(s, a)/α), and
max_a Q(s, a) at α = 0. With a horizon T all of them depend on the time, and are found backwards from V_T = 0.

NumPy, float64. The time limit of an MDP is no part of it: the problem goes on where watching it stops. A policy's value
that JAX can differentiate is :func:`policygrad.measure.exact.policy_evaluation`.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import softmax, xlogy

from policygrad.envs.tabular import TabularMDP, cdf

EPS = float(np.finfo(np.float64).eps)


class Solution(NamedTuple):
    """The best that can be done. With a horizon T the first axis is the time: ``[T+1, S]``, ``[T, S, A]``."""

    value: Float[np.ndarray, "*T S"]
    """V, in units of return; zero at terminal states and at the horizon."""
    q: Float[np.ndarray, "*T S A"]
    """Q(s, a); zero at terminal states."""
    policy: Float[np.ndarray, "*T S A"]
    """π(a | s). Hard: the greedy action, split evenly where several are best. Soft: exp((Q − V)/α)."""


class Model(NamedTuple):
    """The MDP's means and probabilities, where no end is left and none is entered."""

    reward: Float[np.ndarray, "S A"]
    transition: Float[np.ndarray, "S A S"]
    alive: Any
    """Bool ``[S]``: no terminal state."""


def model_of(mdp: TabularMDP) -> Model:
    """r(s, a) = Σ_{s', r} P(s' | s, a)·P(r | s, a, s')·r, and P(s' | s, a) between states that are no ends."""
    alive = ~mdp.terminal
    reward = np.sum(mdp.transition * np.sum(mdp.reward_prob * mdp.reward_value, axis=-1), axis=-1)
    return Model(reward * alive[:, None], mdp.transition * alive * alive[:, None, None], alive)


def backup(model: Model, value: Float[np.ndarray, "*T S"], gamma: float) -> Float[np.ndarray, "*T S A"]:
    """Q(s, a) = r(s, a) + γ Σ_{s'} P(s' | s, a)·V(s'). Bellman (1957); Sutton & Barto (2018), eq. 4.6."""
    return model.reward + gamma * np.tensordot(value, model.transition, axes=(-1, -1))


# A policy's value


def policy_evaluation(
    mdp: TabularMDP, policy: Any, gamma: float, *, horizon: int | None = None
) -> Float[np.ndarray, "*T S"]:
    """V^π, by a linear solve or backwards in time. Sutton & Barto (2018), §4.1. See :func:`soft_policy_evaluation`."""
    return soft_policy_evaluation(mdp, policy, gamma, alpha=0.0, horizon=horizon)


def soft_policy_evaluation(
    mdp: TabularMDP, policy: Any, gamma: float, alpha: float, *, horizon: int | None = None
) -> Float[np.ndarray, "*T S"]:
    """The value of a policy that is paid r − α log π(a | s): V^π(s) = E[Σ_t γ^t (r_t − α log π(a_t | s_t))].

    - without a horizon: V^π = (I − γP_π)⁻¹ r_π, ``[S]``; with γ = 1 the policy must end for sure.
    - otherwise V_t = Σ_a π_t(a | s)·(Q_t(s, a) − α log π_t(a | s)) backwards from V_T = 0, ``[T+1, S]``.

    Haarnoja et al. (2018), "Soft actor-critic", eq. 3.

    Args:
        policy: π(a | s), ``[S, A]``; with a horizon also one for each time, ``[T, S, A]``.
        gamma: γ in [0, 1].
        alpha: α ≥ 0, the price of a nat of entropy, in units of reward.
        horizon: T; by default the MDP's own, or that of a policy with a time axis.

    Raises:
        ValueError: a policy of another shape or whose rows are no probabilities; γ = 1 and a policy that may never end.
    """
    require(gamma=gamma, alpha=alpha)
    policy, horizon = checked_policy(mdp, policy, horizon)
    model = model_of(mdp)
    bonus = -alpha * np.sum(xlogy(policy, policy), axis=-1) * model.alive
    if horizon is None:
        reward = np.sum(policy * model.reward, axis=-1) + bonus
        transition = np.einsum("sa,sax->sx", policy, model.transition)
        return solve(transition, reward, gamma)
    values = [np.zeros(mdp.n_states)]
    for probs, extra in zip(policy[::-1], bonus[::-1]):
        values.append(np.sum(probs * backup(model, values[-1], gamma), axis=-1) + extra)
    return np.stack(values[::-1])


def solve(transition: np.ndarray, reward: np.ndarray, gamma: float) -> np.ndarray:
    """(I − γP)⁻¹ r."""
    if gamma == 1 and np.max(np.abs(np.linalg.eigvals(transition))) > 1 - 1e-12:
        raise ValueError("this policy may never end, so with gamma = 1 it has no value: give gamma < 1 or a horizon")
    return np.linalg.solve(np.eye(len(reward)) - gamma * transition, reward)


# The best policy


def value_iteration(mdp: TabularMDP, gamma: float, *, horizon: int | None = None, **stop: Any) -> Solution:
    """V*, Q* and the greedy policy, by V ← max_a Q(·, a); with a horizon exactly, backwards in time. Bellman (1957);
    Sutton & Barto (2018), §4.4. For the arguments see :func:`soft_value_iteration`."""
    return soft_value_iteration(mdp, gamma, alpha=0.0, horizon=horizon, **stop)


def soft_value_iteration(
    mdp: TabularMDP,
    gamma: float,
    alpha: float,
    *,
    horizon: int | None = None,
    tolerance: float = 1e-12,
    max_iterations: int = 100_000,
) -> Solution:
    """The maximum-entropy solution: V = α log Σ_a exp(Q(s, a)/α), π(a | s) = exp((Q(s, a) − V(s))/α).

    It maximises E[Σ_t γ^t (r_t − α log π(a_t | s_t))]; α = 0 is the hard maximum. Ziebart (2010), "Modeling purposeful
    adaptive behavior with the principle of maximum causal entropy"; Haarnoja et al. (2017), "Reinforcement learning
    with deep energy-based policies".

    Args:
        gamma: γ in [0, 1].
        alpha: α ≥ 0, the price of a nat of entropy, in units of reward.
        horizon: T; by default the MDP's own. The solution is then exact, and has a time axis.
        tolerance: without a horizon and with γ < 1, no entry of V is wrong by more than this, relative to the largest;
            or by what rounding allows. With γ = 1 there is no such bound: the last step was below it, no more.

    Raises:
        ValueError: it does not converge: with γ close to 1 in so few iterations, or with γ = 1 at all, as where never
            to end is worth more than any number.
    """
    require(gamma=gamma, alpha=alpha)
    model, horizon = model_of(mdp), horizon_of(mdp, horizon)
    value = np.zeros(mdp.n_states)
    if horizon is not None:
        values, qs = [value], []
        for _ in range(horizon):
            qs.append(backup(model, values[-1], gamma))
            values.append(best(qs[-1], alpha) * model.alive)
        found, q = np.stack(values[::-1]), np.stack(qs[::-1])
        return Solution(found, q, greedy(q, alpha))
    small = max(tolerance * (1 - gamma), 4 * EPS)  # ‖V − V*‖ ≤ γ/(1 − γ)·‖V − V_before‖
    for _ in range(max_iterations):
        value, before = best(backup(model, value, gamma), alpha) * model.alive, value
        if np.max(np.abs(value - before)) <= small * max(1.0, float(np.max(np.abs(value)))):
            q = backup(model, value, gamma)
            return Solution(value, q, greedy(q, alpha))
    failed = f"value iteration did not converge in {max_iterations:,} iterations"
    if gamma == 1:
        raise ValueError(
            f"{failed} with gamma = 1: episodes may last too long, or for ever; give gamma < 1 or a horizon"
        )
    other = "policy iteration, which needs few, " if alpha == 0 else ""
    raise ValueError(f"{failed}, each of which comes nearer only by gamma = {gamma}: take {other}or a smaller gamma")


def policy_iteration(mdp: TabularMDP, gamma: float, *, max_iterations: int = 1000) -> Solution:
    """The best policy by evaluating it exactly and acting greedily on that, until no action changes: V* exactly, in
    few steps. Howard (1960); Sutton & Barto (2018), §4.3. It starts from the uniform policy.

    Raises:
        ValueError: an MDP with a horizon, which :func:`value_iteration` solves in one pass; γ = 1 and a policy that may
            never end.
    """
    if mdp.horizon is not None:
        raise ValueError("policy iteration is for problems without a horizon: value_iteration solves this one exactly")
    model, policy = model_of(mdp), np.full((mdp.n_states, mdp.n_actions), 1 / mdp.n_actions)
    for _ in range(max_iterations):
        value = policy_evaluation(mdp, policy, gamma)
        q = backup(model, value, gamma)
        kept = np.sum(policy * q, axis=-1) >= np.max(q, axis=-1) - rounding(q)  # all that it does is best already
        if kept.all():
            return Solution(value, q, greedy(q, 0.0))
        policy = np.where(kept[:, None], policy, greedy(q, 0.0))
    raise ValueError(f"policy iteration did not end after {max_iterations} policies")


def best(q: Float[np.ndarray, "... A"], alpha: float) -> Float[np.ndarray, "..."]:
    """α log Σ_a exp(Q/α); its limit max_a Q at α = 0."""
    most = np.max(q, axis=-1)
    return most if alpha == 0 else most + alpha * np.log(np.sum(np.exp(below_best(q, alpha)), axis=-1))


def below_best(q: Float[np.ndarray, "... A"], alpha: float) -> Float[np.ndarray, "... A"]:
    """(Q − max_a Q)/α: 0 for the best, and −∞ where that overflows."""
    with np.errstate(over="ignore"):
        return (q - np.max(q, axis=-1, keepdims=True)) / alpha


def greedy(q: Float[np.ndarray, "... A"], alpha: float) -> Float[np.ndarray, "... A"]:
    """exp((Q − V)/α); at α = 0 the best action, split evenly where several are best up to rounding."""
    if alpha > 0:
        return softmax(below_best(q, alpha), axis=-1)
    chosen = q >= np.max(q, axis=-1, keepdims=True) - rounding(q)
    return chosen / np.sum(chosen, axis=-1, keepdims=True)


def rounding(q: np.ndarray) -> float:
    """Differences below this are none."""
    return 1e-10 * max(1.0, float(np.max(np.abs(q), initial=0.0)))


# What is refused


def require(*, gamma: float, alpha: float = 0.0) -> None:
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma is {gamma}; give a number from 0 to 1")
    if not 0 <= alpha < np.inf:
        raise ValueError(f"alpha is {alpha}; give a number that is 0 or more")


def horizon_of(mdp: TabularMDP, horizon: int | None) -> int | None:
    if horizon is not None and horizon < 1:
        raise ValueError(f"horizon is {horizon}; give a positive number of steps")
    return mdp.horizon if horizon is None else horizon


def checked_policy(mdp: TabularMDP, policy: Any, horizon: int | None) -> tuple[np.ndarray, int | None]:
    """The policy as float64, and the horizon that it is for; with a horizon the policy has a time axis."""
    policy, horizon = np.asarray(policy, np.float64), horizon_of(mdp, horizon)
    shape = (mdp.n_states, mdp.n_actions)
    if policy.shape == shape and horizon is not None:
        policy = np.broadcast_to(policy, (horizon, *shape))
    elif policy.ndim == 3 and horizon is None:
        horizon = len(policy)
    wanted = shape if horizon is None else (horizon, *shape)
    if policy.shape != wanted:
        raise ValueError(f"the policy has shape {policy.shape}, but this problem asks for {wanted}: (states, actions)")
    wrong = np.argwhere(~(np.isclose(policy.sum(axis=-1), 1, rtol=0, atol=1e-6) & (policy >= 0).all(axis=-1)))
    if len(wrong):
        row = tuple(int(i) for i in wrong[0])
        numbers = ", ".join(f"{p:.6g}" for p in policy[row])
        raise ValueError(f"policy[{', '.join(map(str, row))}] is ({numbers}): probabilities must be ≥ 0 and sum to 1")
    return policy, horizon


# A policy's value learned from episodes: Sutton & Barto (2018), §§6.1, 7.1, 12.1 and 12.2


class Episodes(NamedTuple):
    """One episode in each of R independent streams, padded to T rows with reward 0."""

    state: Any
    """Int ``[T+1, R]``; after the episode its last state stays."""
    reward: Float[np.ndarray, "T R"]
    length: Any
    """Int ``[R]``, in steps."""
    terminated: Any
    """Bool ``[R]``: it came to an end; otherwise the time limit cut it, and its last state has a value."""


def sample_episodes(
    mdp: TabularMDP, policy: Any, n_streams: int, rng: np.random.Generator, *, max_steps: int = 100_000
) -> Episodes:
    """Play one episode in each stream.

    Raises:
        ValueError: an episode of more than ``max_steps`` steps, in an MDP without a time limit.
    """
    probs = checked_policy(mdp, policy, mdp.horizon)[0]
    by_time = [cdf(p) for p in probs] if probs.ndim == 3 else None
    choices, moves, pays = cdf(probs), cdf(mdp.transition), cdf(mdp.reward_prob)
    state = np.searchsorted(cdf(mdp.initial), rng.random(n_streams), side="right")
    running, length = np.ones(n_streams, bool), np.zeros(n_streams, int)
    states, rewards = [state], list[np.ndarray]()
    while running.any() and len(rewards) != mdp.time_limit:
        if len(rewards) == max_steps:
            raise ValueError(f"an episode did not end in {max_steps} steps: give the MDP a time_limit")
        chances = choices if by_time is None else by_time[len(rewards)]
        u = rng.random((3, n_streams, 1))
        action = np.sum(u[0] >= chances[state], axis=-1)
        successor = np.sum(u[1] >= moves[state, action], axis=-1)
        outcome = np.sum(u[2] >= pays[state, action, successor], axis=-1)
        rewards.append(np.where(running, mdp.reward_value[state, action, successor, outcome], 0.0))
        state = np.where(running, successor, state)
        states.append(state)
        length += running
        running &= ~mdp.terminal[state] & (len(rewards) != mdp.horizon)
    return Episodes(np.stack(states), np.stack(rewards), length, ~running)


def n_step_td(value: Float[np.ndarray, "K R S"], episodes: Episodes, n: int, step_size: Any, gamma: float) -> Any:
    """n-step TD, after one episode: for t = 0, 1, … in turn

        V(s_t) ← V(s_t) + η·[Σ_{i<n} γ^i r_{t+i} + γ^n V(s_{t+n}) − V(s_t)],

    with the sum cut, and V zero, at the episode's end. n = 1 is TD(0); an n of at least T is Monte Carlo.

    Args:
        value: V before the episode, for each of K step sizes and R streams; a changed copy is returned.
        step_size: η, ``[K]`` or a number.
    """
    n_rows, rows = len(episodes.reward), np.arange(len(episodes.reward))[:, None]
    behind = np.zeros((n_rows + n + 1, len(episodes.length)))
    padded = np.concatenate([episodes.reward, np.zeros((n, len(episodes.length)))])
    for t in reversed(range(n_rows)):
        behind[t] = padded[t] + gamma * behind[t + 1] - gamma**n * padded[t + n]
    reached = np.minimum(rows + n, episodes.length)
    lives_on = (reached < episodes.length) | ~episodes.terminated
    discount = np.where(lives_on, gamma ** np.maximum(reached - rows, 0), 0.0)
    return sweep(value, episodes, step_size, behind[:n_rows], discount, np.take_along_axis(episodes.state, reached, 0))


def offline_lambda_return(
    value: Float[np.ndarray, "K R S"], episodes: Episodes, lam: float, step_size: Any, gamma: float
) -> Float[np.ndarray, "K R S"]:
    """The off-line λ-return algorithm: V(s_t) ← V(s_t) + η·[G_t − V(s_t)] for t = 0, 1, … in turn, once the episode is
    over, with G_t = r_t + γ·[(1 − λ)·V(s_{t+1}) + λ·G_{t+1}] of the V from before it. S&B §12.1. The arguments are
    those of :func:`n_step_td`."""
    rows, streams = np.arange(len(episodes.reward))[:, None], np.arange(len(episodes.length))
    following = value[:, streams, episodes.state[1:]] * ((rows + 1 < episodes.length) | ~episodes.terminated)
    returns = np.zeros_like(following)
    later = following[:, -1]
    for t in reversed(range(len(rows))):
        ahead = np.where(t + 1 < episodes.length, (1 - lam) * following[:, t] + lam * later, following[:, t])
        later = returns[:, t] = episodes.reward[t] + gamma * ahead
    return sweep(value, episodes, step_size, np.moveaxis(returns, 1, 0), np.zeros(rows.shape), episodes.state)


def sweep(value: Any, episodes: Episodes, step_size: Any, target: Any, discount: Any, reached: Any) -> Any:
    """V(s_t) ← V(s_t) + η·[target_t + discount_t·V(reached_t) − V(s_t)], for t = 0, 1, … in turn."""
    value, streams, eta = value.copy(), np.arange(len(episodes.length)), np.reshape(step_size, (-1, 1))
    for t, state in enumerate(episodes.state[:-1]):
        error = target[t] + discount[t] * value[:, streams, reached[t]] - value[:, streams, state]
        value[:, streams, state] += eta * (t < episodes.length) * error
    return value


def td_lambda(
    value: Float[np.ndarray, "K R S"], episodes: Episodes, lam: float, step_size: Any, gamma: float
) -> Float[np.ndarray, "K R S"]:
    """TD(λ) with accumulating traces, after one episode: e(s) ← γλ·e(s) + 1[s = s_t] and V ← V + η·δ_t·e with
    δ_t = r_t + γ·V(s_{t+1}) − V(s_t). Sutton (1988); S&B §12.2. The arguments are those of :func:`n_step_td`."""
    value, streams, eta = value.copy(), np.arange(len(episodes.length)), np.reshape(step_size, (-1, 1))
    trace = np.zeros(value.shape[1:])
    for t, (state, successor) in enumerate(zip(episodes.state[:-1], episodes.state[1:])):
        lives_on = (t + 1 < episodes.length) | ~episodes.terminated
        delta = episodes.reward[t] + gamma * lives_on * value[:, streams, successor] - value[:, streams, state]
        trace *= gamma * lam
        trace[streams, state] += 1
        value += (eta * (t < episodes.length) * delta)[..., None] * trace
    return value
