"""Self-play: two softmax policies learn against each other by policy gradients, on a matrix game.

    plain     θ ← θ + η ∇u(θ)                                    each climbs its own payoff, both at once
    entropy   θ ← (1 − η τ_t)·(θ + η (d_t − d_{t−1})) + η d_t    natural gradient d, an entropy bonus τ_t that fades
    average   the same with τ = 0                                what counts is the mean of the policies so far

where d = F⁺∇u is the natural gradient: the score-function gradient divided by the policy, d_a = (∇u)_a / π_a. *plain*
cycles or runs into the walls in games like rock-paper-scissors (Singh, Kearns & Mansour 2000). *entropy* is optimistic
multiplicative weights with entropy: its last policies converge in zero-sum games (Cen, Wei & Chi 2021, "Fast policy
extragradient methods for competitive games with entropy regularization"). *average* has bounded regret in zero-sum
games, so that the mean policies' exploitability falls like 1/t (Rakhlin & Sridharan 2013, "Optimization, learning, and
games with predictable sequences"). In general-sum games none of this is promised: the exploitability says what came of
it.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from policygrad.games.matrix import MatrixGame, exploitability
from policygrad.ladder.recursion import leave_one_out_mean
from policygrad.learn.gradient import surrogate
from policygrad.models.distributions import Categorical

METHODS = ("plain", "entropy", "average")
POINTS = 500
"""Kept of a run: the first so many steps, and so many moments of the whole."""
MOST = 50_000_000
"""Sampled games times actions in one update."""
FADE = 1e-4
"""What is left of the temperature at the end."""


class Play(NamedTuple):
    """A run of self-play at K moments, the start among them. For ``average`` the policies are the means so far."""

    step: Int[np.ndarray, "K"]
    row: Float[np.ndarray, "K m"]
    column: Float[np.ndarray, "K n"]
    exploitability: Float[np.ndarray, "K"]
    """Exact, in units of payoff."""


class Moment(NamedTuple):
    """One line of a :class:`Play`."""

    step: int
    row: Float[np.ndarray, "m"]
    column: Float[np.ndarray, "n"]


class State(NamedTuple):
    """The learning itself: a pair for the two players wherever there is a tuple."""

    logits: tuple[Array, Array]
    direction: tuple[Array, Array]
    """The last natural gradients d_{t−1}."""
    total: tuple[Array, Array]
    """Σ_t π_t."""


def selfplay(
    game: MatrixGame,
    method: str = "entropy",
    *,
    steps: int = 5000,
    learning_rate: float = 0.5,
    ent_coef: float = 0.25,
    batch: int = 0,
    key: Array,
) -> Play:
    """Both players learn from random policies, logits N(0, 1).

    Payoffs are divided by their spread, max − min, for the learning alone: a learning rate then means the same in every
    game.

    Args:
        method: ``plain``, ``entropy`` or ``average``; see :mod:`policygrad.games.selfplay`.
        steps: updates, of both players at once.
        learning_rate: η.
        ent_coef: τ_0 of ``entropy``, which fades geometrically to τ_0·10⁻⁴ at the end.
        batch: games played for each update, whose score-function gradient has the mean of the other games as baseline;
            0: the exact gradient.

    Raises:
        ValueError: an unknown method, or numbers out of range.
    """
    return as_play(game, list(moments_of_play(game, method, steps, learning_rate, ent_coef, batch, key)))


def moments_of_play(
    game: MatrixGame, method: str, steps: int, learning_rate: float, ent_coef: float, batch: int, key: Array
) -> Iterator[Moment]:
    """:func:`selfplay` one moment after the other, the start among them: whoever stops has what was played so far."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    if not 1 <= steps < 2**31:
        raise ValueError(f"steps must be at least 1, and below 2³¹, not {steps}")
    if batch < 0 or batch == 1:
        raise ValueError(f"batch must be 0 (the exact gradient) or at least 2 games, not {batch}")
    size = max(game.payoffs.shape[1:])
    if batch * size > MOST:
        raise ValueError(f"batch must be at most {MOST // size:,} games with {size} actions, not {batch:,}")
    if not (0 < learning_rate < np.inf and ent_coef >= 0 and learning_rate * ent_coef < 1):
        raise ValueError(
            "learning_rate must be positive, ent_coef not negative, and their product below 1, "
            f"not {learning_rate} and {ent_coef}"
        )
    moments = np.union1d(np.arange(min(steps, POINTS)), np.linspace(0, steps, POINTS + 1).round().astype(int))
    numbers = jnp.asarray(standardised(game.payoffs)), learning_rate, ent_coef, steps
    start_key, key = jax.random.split(key)
    state = beginning(numbers[0], start_key)
    block = max(1, MOST // 10 // (game.payoffs.size + 10 * batch * size))  # updates between two looks at signals
    softmax = jax.jit(jax.nn.softmax)
    yield Moment(0, *both(normalised, both(softmax, state.logits)))
    for t, until in pairwise(moments):
        while t < until:
            t, before = min(t + block, until), t
            state = jax.block_until_ready(learn(numbers, before, t, state, key, method=method, batch=batch))
        shown = state.total if method == "average" else both(softmax, state.logits)
        row, column = both(normalised, shown)
        if not (np.isfinite(row).all() and np.isfinite(column).all()):
            raise ValueError(f"the policies are no numbers any more at {learning_rate=}: give a smaller one")
        yield Moment(int(until), row, column)


def as_play(game: MatrixGame, moments: list[Moment]) -> Play:
    """The moments side by side, with how exploitable each is."""
    step, row, column = (np.array(x) for x in zip(*moments))
    return Play(step, row, column, np.array([exploitability(game, x, y) for x, y in zip(row, column)]))


def standardised(payoffs: Float[np.ndarray, "2 m n"]) -> Float[np.ndarray, "2 m n"]:
    """Each player's payoffs with mean 0 and spread 1 (or 0): no gradient sees the mean."""
    spread = np.ptp(payoffs, axis=(1, 2), keepdims=True)
    return (payoffs - payoffs.mean(axis=(1, 2), keepdims=True)) / np.where(spread > 0, spread, 1)


def normalised(policy: Array) -> Float[np.ndarray, "k"]:
    p = np.asarray(policy, np.float64)
    return p / p.sum()


def beginning(payoffs: Float[Array, "2 m n"], key: Array) -> State:
    """Random logits."""
    keys, (m, n) = jax.random.split(key), payoffs.shape[1:]
    logits = both(lambda key, size: jax.random.normal(key, (size,), payoffs.dtype), (keys[0], keys[1]), (m, n))
    zero = both(jnp.zeros_like, logits)
    return State(logits, zero, zero)


@partial(jax.jit, static_argnames=("method", "batch"))
def learn(
    numbers: tuple, start: Int[Array, ""], end: Int[Array, ""], state: State, key: Array, *, method: str, batch: int
) -> State:
    """The updates ``start`` … ``end`` − 1."""
    payoffs, learning_rate, ent_coef, steps = numbers

    def update(t: Array, state: State) -> State:
        policies = both(jax.nn.softmax, state.logits)
        total = both(jnp.add, state.total, policies)
        gradients = gradient_pair(payoffs, state.logits, jax.random.fold_in(key, t), batch)
        if method == "plain":
            logits = both(lambda theta, g: theta + learning_rate * g, state.logits, gradients)
            return State(logits, state.direction, total)
        direction = both(lambda g, pi: natural(g, pi, batch), gradients, policies)
        temperature = ent_coef * FADE ** (t / steps) if method == "entropy" else 0.0
        keep = 1 - learning_rate * temperature
        logits = both(
            lambda theta, d, before: keep * (theta + learning_rate * (d - before)) + learning_rate * d,
            *(state.logits, direction, state.direction),
        )
        return State(logits, direction, total)

    return jax.lax.fori_loop(start, end, update, state)


def both(function: Any, *pairs: tuple[Any, Any]) -> tuple[Any, Any]:
    """``function`` for the row player and for the column player."""
    row, column = (function(*args) for args in zip(*pairs))
    return row, column


def gradient_pair(
    payoffs: Float[Array, "2 m n"], logits: tuple[Array, Array], key: Array, batch: int
) -> tuple[Float[Array, "m"], Float[Array, "n"]]:
    """Each player's ∇u_i with respect to its own logits: exact (``batch`` = 0), or from that many games."""
    if batch == 0:
        x, y = both(jax.nn.softmax, logits)
        worth = payoffs[0] @ y, x @ payoffs[1]
        return both(exact_gradient, logits, worth)
    row_key, column_key = jax.random.split(key)
    a, b = both(partial(draw, batch=batch), logits, (row_key, column_key))
    return both(score_gradient, logits, (a, b), (payoffs[0][a, b], payoffs[1][a, b]))


def exact_gradient(logits: Float[Array, "k"], worth: Float[Array, "k"]) -> Float[Array, "k"]:
    """Σ_a π(a)·∇log π(a)·(u(a) − u): every action once, with its probability as weight."""
    pi = jax.nn.softmax(logits)
    return weighted_scores(logits, jnp.arange(len(pi)), len(pi) * pi * (worth - pi @ worth))


def score_gradient(logits: Float[Array, "k"], actions: Int[Array, "N"], payoff: Float[Array, "N"]) -> Float[Array, "k"]:
    """(1/N) Σ_i ∇log π(a_i)·(r_i − mean of the other r): unbiased. Kool, van Hoof & Welling (2019)."""
    return weighted_scores(logits, actions, payoff - leave_one_out_mean(payoff, jnp.ones_like(payoff)))


def weighted_scores(
    logits: Float[Array, "k"], actions: Int[Array, "N"], weights: Float[Array, "N"]
) -> Float[Array, "k"]:
    """(1/N) Σ_i ∇log π(a_i)·Ψ_i, the library's own surrogate over N trajectories of one step."""

    def objective(logits: Array) -> Array:
        log_prob = jax.vmap(Categorical(logits).log_prob)(actions)[None]
        return surrogate(log_prob, log_prob, weights[None], jnp.ones((1, len(actions)), bool))

    return jax.grad(objective)(logits)


def draw(logits: Float[Array, "k"], key: Array, *, batch: int) -> Int[Array, "N"]:
    pi = Categorical(logits)
    return jax.vmap(pi.sample)(pi.draw(key, (batch,)))


def natural(gradient: Float[Array, "k"], pi: Float[Array, "k"], batch: int) -> Float[Array, "k"]:
    """F⁺g of a softmax table, up to a constant: g_a / π_a (Kakade 2001, "A natural policy gradient"). With exact
    gradients it is the advantage itself. Of N sampled games it is g_a / (π_a + 1/N): what was seen once does not count
    for thousands (implicit exploration, Neu 2015)."""
    least = 1 / batch if batch else jnp.finfo(pi.dtype).tiny
    return gradient / (pi + least)
