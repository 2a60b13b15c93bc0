"""Tiny worlds for the exactness tests, and a second way to compute everything: plain NumPy, softmax tables, no
autodiff."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from policygrad.envs.tabular import TabularMDP
from policygrad.measure.exact import possible_paths
from policygrad.models import make_model

GAMMA = 0.9


class World(NamedTuple):
    mdp: TabularMDP
    model: Any
    behaviour: Any
    """Another policy of the same kind."""


def world(mdp, seed=0, **options):
    options = {"policy": "tabular"} | options
    empty = eqx.filter_eval_shape(
        lambda key: make_model(mdp.observation_space, mdp.action_space, key=key, **options), jax.random.key(0)
    )
    return World(mdp, filled(empty, seed), filled(empty, seed + 1))


def filled(empty, seed, scale=0.7):
    """A model with normal numbers for parameters: a policy that is not uniform, and a critic that is wrong."""
    rng = np.random.default_rng(seed)
    is_shape = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
    return jax.tree.map(lambda x: jnp.asarray(scale * rng.normal(size=x.shape), x.dtype) if is_shape(x) else x, empty)


def norm(tree):
    return float(jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree))))


def close(tree, other, tolerance=1e-12):
    """Equal to ``tolerance`` relative to the size of ``other``, where that is above one."""
    difference = jax.tree.map(jnp.subtract, tree, other)
    return norm(difference) <= tolerance * max(1.0, norm(other))


# The second way: a softmax table over states


def table(model):
    """The policy's logits, [S, A] (or [T, S, A])."""
    return np.asarray(model.actor.head.last.rows)


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Sampled(NamedTuple):
    """All paths of a world as plain NumPy arrays, [T, n]; scores are ∇log π with respect to the table, [T, n, S, A]."""

    state: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    mask: np.ndarray
    log_pi: np.ndarray
    log_mu: np.ndarray
    score: np.ndarray
    probability: np.ndarray


def by_hand(mdp, model, behaviour=None):
    paths = possible_paths(mdp)
    pi, mu = softmax(table(model)), softmax(table(model if behaviour is None else behaviour))
    s, a, mask = paths.state, paths.action, paths.mask
    log_pi, log_mu = np.where(mask, np.log(pi[s, a]), 0), np.where(mask, np.log(mu[s, a]), 0)
    score = np.zeros((*s.shape, *pi.shape))
    for t, i in zip(*np.nonzero(mask)):
        score[t, i, s[t, i]] = np.eye(mdp.n_actions)[a[t, i]] - pi[s[t, i]]
    reward = np.where(mask, mdp.reward_value[s, a, paths.successor, paths.outcome], 0)
    return Sampled(s, a, reward, mask, log_pi, log_mu, score, paths.probability * np.exp(log_mu.sum(0)))


def returns_to_go(reward, gamma):
    out = np.zeros((len(reward) + 1, reward.shape[1]))
    for t in reversed(range(len(reward))):
        out[t] = reward[t] + gamma * out[t + 1]
    return out[:-1]


def visits(mdp, pi, n_steps):
    """P(s_t = s, still running), [T, S]."""
    d = [mdp.initial]
    for _ in range(n_steps - 1):
        d.append(np.einsum("s,sa,sax->x", d[-1], pi, mdp.transition) * ~mdp.terminal)
    return np.stack(d)


def q_of(mdp, value, gamma):
    """r̄ + γ P V, [S, A]."""
    reward = (mdp.reward_prob * mdp.reward_value).sum(-1)
    return (mdp.transition * (reward + gamma * np.where(mdp.terminal, 0, value))).sum(-1)


def along(pi, acting, factor, visits, q):
    """Σ_t f_t Σ_s d_t(s) Σ_a μ(a|s) ∇log π(a|s) q_t(s, a) with respect to the table; ``acting`` is μ, weighted or
    not."""
    grad = np.zeros_like(pi)
    for f, d, q_t in zip(factor, visits, q):
        weight = acting * q_t
        grad += f * d[:, None] * (weight - pi * weight.sum(-1, keepdims=True))
    return grad
