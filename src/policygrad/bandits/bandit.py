"""Contextual bandits: an online regression and a way to explore, as three pure functions over one state.

    bandit = squarecb(n_actions=3, n_features=8)
    state = bandit.init(jax.random.key(0))
    scores, probabilities = bandit.predict(state, features)             # [8] or [batch, 8]
    state = bandit.learn(state, features, action, reward)               # one row, or a batch in order

Everything is compiled; inside ``jax.lax.scan`` a whole stream is one program (:mod:`policygrad.bandits.stream`).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from policygrad.bandits import explorers
from policygrad.bandits.oracles import ORACLES, LeastSquares, Oracle, linear


class BanditState(NamedTuple):
    """All that a bandit has learned: saving it is saving the bandit."""

    oracle: PyTree[Array]
    rows: Int[Array, ""]
    """Rows learned from."""


class Prediction(NamedTuple):
    """What a bandit thinks of every action."""

    scores: Float[Array, "*B K"]
    """Predicted rewards (negative losses), clipped."""
    probabilities: Float[Array, "*B K"]


class Bandit(NamedTuple):
    """Three pure, compiled functions. ``learn`` looks at its numbers first, unless it is inside another program."""

    init: Callable[[Array], BanditState]
    """``key -> state``."""
    predict: Callable[[BanditState, Array], Prediction]
    """``(state, features [*B, d]) -> Prediction`` with ``[*B, K]``."""
    learn: Callable[..., BanditState]
    """``(state, features, action, reward, propensity=None) -> state``: one row (``[d]``, ``[]``, ``[]``), or rows
    (``[B, d]``, ``[B]``, ``[B]``) one after another. ``reward`` is the loss where the bandit was made for losses. With
    ``propensity``, the probability with which somebody chose the action, a row weighs 1/(K·propensity), so that the
    regression is that of uniform choices; without, as SquareCB has it, it weighs 1.

    Raises ValueError: an action outside 0 to K − 1, a reward that is not finite (or, where scores are clipped, outside
    [0, 1]), a propensity outside (0, 1], or shapes that do not fit."""
    n_actions: int
    n_features: int


def make_bandit(
    n_actions: int,
    n_features: int,
    oracle: Oracle,
    explore: Callable[[BanditState, Array, Array], Array],
    *,
    losses: bool = False,
    min_exploration: float = 0.0,
    prior: float = 0.5,
    clip: bool = True,
) -> Bandit:
    """An oracle and an explorer, ``(state, features, scores) -> probabilities``.

    Args:
        losses: ``learn`` is given losses; scores are then negative losses.
        min_exploration: every action has at least this share of 1/K.
        prior: the reward (or loss) that is predicted before anything is learned. The oracle learns the difference.
        clip: scores are clipped to the range of the rewards, [0, 1] (losses: [−1, 0]), as the theory assumes.

    Raises:
        ValueError: fewer than two actions, no features, or a share outside [0, 1].
    """
    if n_actions < 2 or n_features < 1:
        raise ValueError(f"{n_actions} actions and {n_features} features: a bandit needs at least 2 and 1")
    if not 0 <= min_exploration <= 1:
        raise ValueError(f"min_exploration is {min_exploration}; choose a share from 0 to 1, such as 0.05")
    if not math.isfinite(prior):
        raise ValueError(f"prior is {prior}; choose a number, such as 0.5")
    sign, low, high = (-1, -1.0, 0.0) if losses else (1, 0.0, 1.0)

    def init(key: Array) -> BanditState:
        return BanditState(oracle.init(key), jnp.zeros((), jnp.int32))

    def predict(state: BanditState, features: Float[Array, "*B d"]) -> Prediction:
        require_width(features, n_features)
        scores = oracle.predict(state.oracle, features) + sign * prior
        scores = jnp.clip(scores, low, high) if clip else scores
        probabilities = explorers.with_uniform(explore(state, features, scores), min_exploration)
        return Prediction(scores, probabilities)

    def learn_row(state: BanditState, row: tuple) -> tuple[BanditState, None]:
        features, action, reward, weight = row
        learned = oracle.learn(state.oracle, features, action, sign * (reward - prior), weight)
        return BanditState(learned, state.rows + 1), None

    def learn(state: BanditState, features: Array, action: Array, reward: Array, propensity: Any = None) -> BanditState:
        features, action, reward = jnp.asarray(features), jnp.asarray(action), jnp.asarray(reward)
        weight = jnp.ones_like(reward) if propensity is None else 1 / (n_actions * jnp.asarray(propensity))
        rows = features, action, reward.astype(features.dtype), weight.astype(features.dtype)
        return learn_row(state, rows)[0] if features.ndim == 1 else jax.lax.scan(learn_row, state, rows)[0]

    compiled = jax.jit(learn)

    def learn_checked(
        state: BanditState, features: Array, action: Array, reward: Array, propensity: Any = None
    ) -> BanditState:
        require_rows(n_actions, n_features, features, action, reward, propensity, clip=clip)
        return compiled(state, features, action, reward, propensity)

    return Bandit(jax.jit(init), jax.jit(predict), learn_checked, n_actions, n_features)


def squarecb(
    n_actions: int,
    n_features: int,
    *,
    oracle: str = "linear",
    gamma_scale: float = 10.0,
    gamma_exponent: float = 0.5,
    min_exploration: float = 0.0,
    losses: bool = False,
    prior: float = 0.5,
    clip: bool = True,
    **oracle_options: Any,
) -> Bandit:
    """SquareCB (Foster & Rakhlin 2020): a regression oracle and inverse-gap weighting.

        p_a = 1/(K + γ(ŷ_best − ŷ_a)),  the rest on the best;      γ = gamma_scale · rows^gamma_exponent

    Args:
        n_actions: K ≥ 2.
        n_features: d, the length of the context; put a constant 1 among the features.
        oracle: ``linear``, ``gradient`` or ``network`` (:data:`policygrad.bandits.oracles.ORACLES`).
        gamma_scale, gamma_exponent: the schedule of γ, in 1/reward. Larger is greedier.
        min_exploration: every action has at least this share of 1/K.
        losses: learn from losses in [0, 1] instead of rewards in [0, 1].
        prior: the reward or loss that is predicted before anything is learned.
        clip: clip the scores to that range.
        oracle_options: such as ``ridge=1.0``, ``learning_rate=0.5``, ``hidden=(64,)``.

    Raises:
        ValueError: an unknown oracle, or a number that makes no sense.
    """
    require(gamma_scale=gamma_scale, gamma_exponent=gamma_exponent)

    def explore(state: BanditState, features: Array, scores: Array) -> Array:
        gamma = explorers.gamma_schedule(state.rows, gamma_scale, gamma_exponent)
        return explorers.inverse_gap_weighting(scores, gamma)

    regression = make_oracle(oracle, n_actions, n_features, **oracle_options)
    options: dict[str, Any] = dict(losses=losses, min_exploration=min_exploration, prior=prior, clip=clip)
    return make_bandit(n_actions, n_features, regression, explore, **options)


def epsilon_greedy(
    n_actions: int,
    n_features: int,
    *,
    oracle: str = "linear",
    epsilon: float = 0.05,
    losses: bool = False,
    prior: float = 0.5,
    clip: bool = True,
    **oracle_options: Any,
) -> Bandit:
    """The best action with probability 1 − ε + ε/K, each other with ε/K. Arguments as :func:`squarecb`."""
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is {epsilon}; choose a probability, such as 0.05")
    regression = make_oracle(oracle, n_actions, n_features, **oracle_options)
    best = lambda state, features, scores: explorers.epsilon_greedy(scores, epsilon)  # noqa: E731
    return make_bandit(n_actions, n_features, regression, best, losses=losses, prior=prior, clip=clip)


def softmax(
    n_actions: int,
    n_features: int,
    *,
    oracle: str = "linear",
    temperature: float = 0.05,
    min_exploration: float = 0.0,
    losses: bool = False,
    prior: float = 0.5,
    clip: bool = True,
    **oracle_options: Any,
) -> Bandit:
    """p_a ∝ exp(ŷ_a / temperature). Arguments as :func:`squarecb`."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0, such as 0.05")
    regression = make_oracle(oracle, n_actions, n_features, **oracle_options)
    boltzmann = lambda state, features, scores: explorers.softmax(scores, temperature)  # noqa: E731
    options: dict[str, Any] = dict(losses=losses, min_exploration=min_exploration, prior=prior, clip=clip)
    return make_bandit(n_actions, n_features, regression, boltzmann, **options)


def linucb(
    n_actions: int,
    n_features: int,
    *,
    alpha: float = 0.3,
    ridge: float = 1.0,
    min_exploration: float = 0.0,
    losses: bool = False,
    prior: float = 0.5,
) -> Bandit:
    """LinUCB with disjoint linear models (Li et al. 2010, algorithm 1): the action of the highest upper bound.

        a = argmax_a  θ_aᵀx + α √(xᵀ A_a⁻¹ x),      A_a = ridge·I + Σ x xᵀ,   θ_a = A_a⁻¹ Σ r x

    It is deterministic, so that its log is worth nothing to others, unless ``min_exploration`` is above 0. Scores are
    the θ_aᵀx, not clipped. The oracle is ``linear``.
    """
    require(alpha=alpha)

    def explore(state: BanditState, features: Array, scores: Array) -> Array:
        return explorers.greedy(scores + alpha * width(state.oracle, features))

    regression = linear(n_actions, n_features, ridge=ridge)
    options: dict[str, Any] = dict(losses=losses, min_exploration=min_exploration, prior=prior, clip=False)
    return make_bandit(n_actions, n_features, regression, explore, **options)


def width(state: LeastSquares, features: Float[Array, "*B d"]) -> Float[Array, "*B K"]:
    """√(xᵀ A_a⁻¹ x): how little is known about each action at x."""
    square = jnp.einsum("...i,kij,...j->...k", features, state.inverse, features)
    return jnp.sqrt(jnp.maximum(square, 0))


def require_rows(
    n_actions: int, n_features: int, features: Any, action: Any, reward: Any, propensity: Any, *, clip: bool
) -> None:
    """What ``learn`` is given fits, and makes sense. Numbers inside a traced program are not known yet, and pass."""
    require_width(features, n_features)
    for name, values in (("action", action), ("reward", reward), ("propensity", propensity)):
        if values is not None and np.shape(values) != np.shape(features)[:-1]:
            raise ValueError(
                f"{name} has the shape {np.shape(values)} and features {np.shape(features)}: give one {name} a row"
            )
    known = lambda values: values is not None and not isinstance(values, jax.core.Tracer)  # noqa: E731
    if known(features) and not np.isfinite(features).all():
        raise ValueError("the features hold a number that is not finite: leave the row out")
    if known(action):
        require_all(np.isin(action, range(n_actions)), "action", action, f"the actions are 0 to {n_actions - 1}")
    if known(reward):
        reward = np.asarray(reward, np.float64)
        require_all(np.isfinite(reward), "reward", reward, "it must be a finite number")
        inside = (reward >= 0) & (reward <= 1)
        require_all(inside | (not clip), "reward", reward, "it must be from 0 to 1: scale it, or set clip=False")
    if known(propensity):
        propensity = np.asarray(propensity, np.float64)
        inside = (propensity > 0) & (propensity <= 1)
        require_all(inside, "propensity", propensity, "it must be above 0 and at most 1")


def require_width(features: Any, n_features: int) -> None:
    """``[d]`` or ``[..., d]``."""
    shape = np.shape(features)
    if not shape or shape[-1] != n_features:
        raise ValueError(f"features have the shape {shape}; the bandit was made for {n_features} features a row")


def require_all(good: Any, name: str, values: Any, words: str) -> None:
    """Name the first bad value, if there is one."""
    if not np.all(good):
        raise ValueError(f"{name} is {np.ravel(values)[np.argmin(np.ravel(good))]:g}; {words}")


def require_finite(name: str, *found: Any) -> None:
    """Refuse what a diverged bandit has left.

    Raises:
        RuntimeError: an array in ``found`` holds a number that is not finite.
    """
    leaves = [leaf for leaf in jax.tree.leaves(found) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        raise RuntimeError(
            f"{name} has diverged, its numbers are not finite: choose a smaller learning rate, or milder options"
        )


def make_oracle(name: str, n_actions: int, n_features: int, **options: Any) -> Oracle:
    """The oracle of that name."""
    if name not in ORACLES:
        raise ValueError(f"there is no oracle {name!r}: choose one of {', '.join(ORACLES)}")
    return ORACLES[name](n_actions, n_features, **options)


def require(**numbers: float) -> None:
    """Each is a number from 0 on."""
    for name, value in numbers.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is {value}; it must be 0 or a number above")


EXPLORERS: dict[str, Callable[..., Bandit]] = {
    "squarecb": squarecb,
    "epsilon_greedy": epsilon_greedy,
    "softmax": softmax,
    "linucb": linucb,
}
"""By the name that the command line uses."""
