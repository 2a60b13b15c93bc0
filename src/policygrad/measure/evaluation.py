"""Off-policy evaluation: what a policy π would earn, from episodes that another policy μ has played. NumPy, float64,
arrays in.

    J(π) = E_π[Σ_t γ^t r_t] = E_μ[ρ_{1:T} Σ_t γ^t r_t],    ρ_{1:t} = Π_{k≤t} π(a_k|·)/μ(a_k|·)

Every estimator here is a sum of ratios, each of two sums over the N episodes:

    Ĵ = Σ_k  Σ_i a_ik / Σ_i b_ik

To resample episodes is then to weigh them, so one bootstrap and one jackknife serve them all. An episode ends where it
was cut: what is estimated is the return that is watched.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr, ndtri, softmax

from policygrad.measure.statistics import Estimate

CHUNK = 4_000_000
"""Resampled counts held in memory at once."""


class Logged(NamedTuple):
    """N whole episodes, padded to T rows, seen by π: all that an estimator may look at."""

    reward: Float[np.ndarray, "T N"]
    log_rho: Float[np.ndarray, "T N"]
    """log π(a_t|·) − log μ(a_t|·), in nats."""
    mask: Bool[np.ndarray, "T N"]
    q: Float[np.ndarray, "T N"]
    """Q̂(s_t, a_t), any guess that the episode itself had no part in; zeros: none."""
    value: Float[np.ndarray, "T N"]
    """Σ_a π(a|s_t)·Q̂(s_t, a) of the same guess."""


def logged(
    reward: np.ndarray,
    log_rho: np.ndarray,
    mask: np.ndarray,
    q: np.ndarray | None = None,
    value: np.ndarray | None = None,
) -> Logged:
    """The same in float64, with zeros on padded rows: after its end an episode earns nothing and keeps its weight."""
    nothing = np.zeros(mask.shape)
    parts = (reward, log_rho, nothing if q is None else q, nothing if value is None else value)
    clean = [np.where(mask, np.asarray(x, np.float64), 0.0) for x in parts]
    return Logged(clean[0], clean[1], np.asarray(mask, bool), clean[2], clean[3])


class Sums(NamedTuple):
    """Ĵ = Σ_k Σ_i top_ik / Σ_i bottom_ik."""

    top: Float[np.ndarray, "N K"]
    bottom: Float[np.ndarray, "N K"]

    @property
    def estimate(self) -> float:
        return float(ratios(self.top.sum(0), self.bottom.sum(0)))


def ratios(top: Float[np.ndarray, "... K"], bottom: Float[np.ndarray, "... K"]) -> Float[np.ndarray, "..."]:
    """Σ_k top_k / bottom_k; a term without weight is zero."""
    return np.sum(np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0), axis=-1)


def mean_of(terms: Float[np.ndarray, "N"]) -> Sums:
    return Sums(terms[:, None], np.ones((len(terms), 1)))


def discounts(n_steps: int, gamma: float) -> Float[np.ndarray, "T 1"]:
    return np.power(float(gamma), np.arange(n_steps))[:, None]


def log_weights(data: Logged) -> Float[np.ndarray, "T N"]:
    """log ρ_{1:t}."""
    return np.cumsum(data.log_rho, axis=0)


def relative(log_weight: Float[np.ndarray, "... N"]) -> Float[np.ndarray, "... N"]:
    """Weights up to a common factor, which a ratio does not see: none overflows."""
    return np.exp(log_weight - log_weight.max(-1, keepdims=True))


# The estimators: episodes and γ in, the terms of the ratios out


def importance_sampling(data: Logged, gamma: float) -> Sums:
    """(1/N) Σ_i ρ_{1:T} Σ_t γ^t r_t: unbiased, with variance exponential in T. Precup, Sutton & Singh (2000)."""
    return mean_of(np.exp(log_weights(data)[-1]) * np.sum(discounts(len(data.mask), gamma) * data.reward, axis=0))


def weighted(data: Logged, gamma: float) -> Sums:
    """Σ_i ρ_i R_i / Σ_i ρ_i, with ρ = ρ_{1:T} and R = Σ_t γ^t r_t: biased and consistent, and never outside the
    returns seen. Precup, Sutton & Singh (2000)."""
    weight = relative(log_weights(data)[-1])
    return Sums((weight * np.sum(discounts(len(data.mask), gamma) * data.reward, axis=0))[:, None], weight[:, None])


def per_decision(data: Logged, gamma: float) -> Sums:
    """(1/N) Σ_i Σ_t γ^t ρ_{1:t} r_t: what comes after r_t does not weigh it. Unbiased. Precup et al. (2000)."""
    return mean_of(np.sum(discounts(len(data.mask), gamma) * np.exp(log_weights(data)) * data.reward, axis=0))


def weighted_per_decision(data: Logged, gamma: float) -> Sums:
    """Σ_t γ^t Σ_i ρ_{1:t} r_t / Σ_i ρ_{1:t}: biased and consistent. Precup, Sutton & Singh (2000); Thomas (2015)."""
    weight = relative(log_weights(data))
    return Sums((discounts(len(weight), gamma) * weight * data.reward).T, weight.T)


def doubly_robust(data: Logged, gamma: float) -> Sums:
    """(1/N) Σ_i Σ_t γ^t [ρ_{1:t−1} V̂(s_t) + ρ_{1:t} (r_t − Q̂(s_t, a_t))]: unbiased whatever Q̂ is, and quiet where Q̂
    is right. Jiang & Li (2016), "Doubly robust off-policy value evaluation for reinforcement learning"."""
    weight = np.exp(log_weights(data))
    before = np.concatenate([np.ones_like(weight[:1]), weight[:-1]])
    rows = before * data.value + weight * (data.reward - data.q)
    return mean_of(np.sum(discounts(len(weight), gamma) * rows, axis=0))


def weighted_doubly_robust(data: Logged, gamma: float) -> Sums:
    """The same with ρ_{1:t} / Σ_j ρ_{1:t} in place of ρ_{1:t} / N. Thomas & Brunskill (2016), "Data-efficient
    off-policy policy evaluation for reinforcement learning"."""
    log_weight = log_weights(data)
    weight, before = (
        relative(x) for x in (log_weight, np.concatenate([np.zeros_like(log_weight[:1]), log_weight[:-1]]))
    )
    gammas = discounts(len(weight), gamma)
    top = np.concatenate([gammas * before * data.value, gammas * weight * (data.reward - data.q)])
    return Sums(top.T, np.concatenate([before, weight]).T)


ESTIMATORS: Mapping[str, Callable[[Logged, float], Sums]] = {
    "is": importance_sampling,
    "wis": weighted,
    "pdis": per_decision,
    "wpdis": weighted_per_decision,
    "dr": doubly_robust,
    "wdr": weighted_doubly_robust,
}
"""By the field's short names; a leading w: self-normalised weights."""
NEED_Q = frozenset({"dr", "wdr"})
UNBIASED = frozenset({"is", "pdis", "dr"})


# What the data are worth, and how sure an estimate is


class Overlap(NamedTuple):
    """Of the episodes' weights ρ_i."""

    effective: float
    """(Σ_i ρ_i)² / Σ_i ρ_i² · min(1, ρ̄), in episodes. Kong (1992), who only compares the weights with each other; where
    all are equally tiny, their mean tells."""
    largest_share: float
    """The largest ρ_i / Σ_j ρ_j."""
    mean_weight: float
    """ρ̄ = (1/N) Σ_i ρ_i. E_μ[ρ] is the probability that π does what μ may do: one, where the data cover π."""


def overlap(data: Logged) -> Overlap:
    """What the data say about π."""
    log_weight = log_weights(data)[-1]
    share = softmax(log_weight)
    with np.errstate(over="ignore"):
        mean = float(np.mean(np.exp(log_weight)))
    return Overlap(float(min(1.0, mean) / np.sum(share**2)), float(share.max()), mean)


def interval(sums: Sums, *, level: float = 0.95, n: int = 2000, seed: int = 0) -> Estimate:
    """Ĵ with its BCa bootstrap interval: the percentiles of n resamples of whole episodes, moved by the bias and the
    skewness that the resamples and the jackknife show. Heavy weights are skewed, and plain percentiles then too low.
    Efron (1987), "Better bootstrap confidence intervals".

    ``error`` is the bootstrap's standard error. Of fewer than two episodes, or where weights overflow, nothing is
    known: NaN.
    """
    value, episodes = sums.estimate, len(sums.top)
    if episodes < 2 or not np.isfinite(value):
        return Estimate(value, np.nan, np.nan, np.nan)
    replicates = resampled(sums, n, np.random.default_rng(seed))
    without = ratios(sums.top.sum(0) - sums.top, sums.bottom.sum(0) - sums.bottom)
    skew = without.mean() - without
    skew = skew / (np.abs(skew).max() or 1.0)  # of no unit, and no power of it overflows
    spread = np.sum(skew**2)
    acceleration = np.sum(skew**3) / (6 * spread**1.5) if spread > 0 else 0.0
    below = np.mean(replicates < value) + np.mean(replicates == value) / 2
    shift = ndtri(np.clip(below, 1 / (2 * n), 1 - 1 / (2 * n)))
    z = shift + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(replicates, ndtr(shift + z / np.maximum(1 - acceleration * z, 1e-6)))
    return Estimate(value, float(replicates.std(ddof=1)), float(low), float(high))


def resampled(sums: Sums, n: int, rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    """Ĵ of n samples of episodes, drawn with replacement."""
    episodes = len(sums.top)
    rows = max(1, CHUNK // episodes)
    counts = (rng.multinomial(episodes, np.full(episodes, 1 / episodes), min(rows, n - i)) for i in range(0, n, rows))
    return np.concatenate([ratios(count @ sums.top, count @ sums.bottom) for count in counts])


# A guess of Q for the doubly robust: a table, fitted to other episodes


def cross_fitted(
    state: Int[np.ndarray, "T N"],
    action: Int[np.ndarray, "T N"],
    reward: Float[np.ndarray, "T N"],
    mask: Bool[np.ndarray, "T N"],
    probs: Float[np.ndarray, "T S A"],
    gamma: float,
) -> tuple[Float[np.ndarray, "T N"], Float[np.ndarray, "T N"]]:
    """Q̂(s_t, a_t) and V̂(s_t) along every episode, from a model of the world that was fitted to the *other* half of the
    episodes, so that the doubly robust stay unbiased. The halves are drawn, always the same ones: the order of a log
    often means something. Even the horizon of Q̂ is that of the other half: the length of an episode is part of what
    came of it. Later than that Q̂ is zero.

    Args:
        probs: π_t(a | s).
    """
    q, value, rows = np.zeros(mask.shape), np.zeros(mask.shape), np.arange(len(mask))[:, None]
    halves = np.array_split(np.random.default_rng(0).permutation(mask.shape[1]), 2)
    for fit, use in (halves, halves[::-1]):
        n = int(mask[:, fit].any(axis=1).sum())
        table = np.zeros(probs.shape)
        table[:n] = fitted_q(state[:n, fit], action[:n, fit], reward[:n, fit], mask[:n, fit], probs[:n], gamma)
        q[:, use] = table[rows, state[:, use], action[:, use]]
        value[:, use] = np.sum(probs * table, axis=-1)[rows, state[:, use]]
    return q, value


def fitted_q(
    state: Int[np.ndarray, "T N"],
    action: Int[np.ndarray, "T N"],
    reward: Float[np.ndarray, "T N"],
    mask: Bool[np.ndarray, "T N"],
    probs: Float[np.ndarray, "T S A"],
    gamma: float,
) -> Float[np.ndarray, "T S A"]:
    """Q^π_t(s, a) = r̄(s, a) + γ Σ_{s'} P̂(s' | s, a)·Σ_b π_{t+1}(b | s')·Q_{t+1}(s', b), with the mean rewards and the
    frequencies that were seen: an end is a successor that is worth nothing, and so is what was never tried. What comes
    after the last row of all nobody saw: at the time limit episodes end whatever the state."""
    n_steps, n_states, n_actions = probs.shape
    paid, tried = np.zeros((2, n_states, n_actions))
    np.add.at(paid, (state[mask], action[mask]), reward[mask])
    np.add.at(tried, (state[mask], action[mask]), 1)
    counts = np.zeros((n_states, n_actions, n_states + 1))
    successor = np.where(mask[1:], state[1:], n_states)
    np.add.at(counts, (state[:-1][mask[:-1]], action[:-1][mask[:-1]], successor[mask[:-1]]), 1)
    mean_reward = paid / np.maximum(tried, 1)
    frequency = counts[..., :-1] / np.maximum(counts.sum(-1, keepdims=True), 1)
    q, value = np.zeros((n_steps, n_states, n_actions)), np.zeros(n_states)
    for t in reversed(range(n_steps)):
        q[t] = mean_reward + gamma * frequency @ value
        value = np.sum(probs[t] * q[t], axis=-1)
    return q
