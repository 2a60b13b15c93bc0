"""From scores to probabilities: how a contextual bandit explores. Pure functions, any number of batch axes.

A score ŷ_a is a predicted reward. Where losses are predicted, their negatives are the scores.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def inverse_gap_weighting(scores: Float[Array, "*B K"], gamma: ArrayLike) -> Float[Array, "*B K"]:
    """SquareCB's probabilities: the inverse of each action's gap, and the rest on the best.

        p_a = 1 / (K + γ (ŷ_best − ŷ_a))  for a ≠ best,     p_best = 1 − Σ_{a ≠ best} p_a ≥ 1/K

    (Abe & Long 1999; Foster & Rakhlin 2020, "Beyond UCB", algorithm 1 with μ = K.) For every f, whatever the true
    rewards are, E_{a∼p}[f(a*) − f(a) − (γ/4)(ŷ_a − f(a))²] ≤ 2K/γ: regret is paid for by what the regression learns.

    Args:
        scores: predicted rewards, in the unit of the reward.
        gamma: γ ≥ 0 per unit of reward; 0 is uniform, ∞ is greedy. Of several best actions each has 1/K, and the first
            the rest as well.
    """
    n_actions = scores.shape[-1]
    best = first_best(scores)
    gap = jnp.max(scores, axis=-1, keepdims=True) - scores
    others = (1 - best) / (n_actions + jnp.where(gap > 0, gamma * gap, 0))  # a gap of 0 stays 0 even where γ is ∞
    return others + best * (1 - jnp.sum(others, axis=-1, keepdims=True))


def epsilon_greedy(scores: Float[Array, "*B K"], epsilon: float | Array) -> Float[Array, "*B K"]:
    """p = (1 − ε)·[a = best] + ε/K."""
    return with_uniform(first_best(scores), epsilon)


def softmax(scores: Float[Array, "*B K"], temperature: float | Array) -> Float[Array, "*B K"]:
    """p_a ∝ exp(ŷ_a / temperature), Boltzmann exploration; the temperature is in the unit of the reward."""
    return jax.nn.softmax(scores / temperature, axis=-1)


def greedy(scores: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """All on the best action."""
    return first_best(scores)


def with_uniform(probabilities: Float[Array, "*B K"], share: float | Array) -> Float[Array, "*B K"]:
    """(1 − share)·p + share/K: every action has at least share/K."""
    return (1 - share) * probabilities + share / probabilities.shape[-1]


def gamma_schedule(rows: ArrayLike, scale: float, exponent: float) -> Float[Array, "..."]:
    """γ = scale · rows^exponent after ``rows`` rows were learned, as Vowpal Wabbit has it: the first choice is uniform.

    Theory wants γ ∝ √(K·rows / regret of the regression), hence the usual exponent ½. What is too large for a float is
    the largest one: greedy.
    """
    rows = jnp.asarray(rows, jnp.zeros(()).dtype)
    largest = float(jnp.finfo(rows.dtype).max)
    power = jnp.minimum(jnp.power(rows, exponent), largest)
    return jnp.minimum(min(scale, largest) * power, largest)


def sample(probabilities: Float[Array, "*B K"], uniform: Float[Array, "*B"]) -> Array:
    """The action whose interval of the cumulated probabilities holds ``uniform`` (in [0, 1)). Never one of
    probability zero."""
    cumulated = jnp.cumsum(probabilities, axis=-1)
    return jnp.sum(cumulated / cumulated[..., -1:] <= uniform[..., None], axis=-1)


def first_best(scores: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """One-hot: 1 at the highest score, the first of several."""
    return jax.nn.one_hot(jnp.argmax(scores, axis=-1), scores.shape[-1], dtype=scores.dtype)
