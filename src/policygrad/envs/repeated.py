"""A matrix game played again and again against a fixed opponent: for the learner it is a Markov decision process.

The opponent sees the last joint action and nothing older (*memory one*). So does the learner: state 0 is the first
round, state 1 + a·n + b follows the learner's action a and the opponent's b.
"""

from collections.abc import Callable
from difflib import get_close_matches

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from policygrad.envs.tabular import TabularMDP

BEATS = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
"""Rock, paper, scissors: what the row's player wins."""


def repeated_game(payoff: ArrayLike, opponent: ArrayLike, *, rounds: int = 10) -> TabularMDP:
    """``rounds`` rounds of a matrix game against a fixed opponent.

    Exact are therefore the best response (``value_iteration``), every policy's payoff (``policy_evaluation``) and its
    gradient.

    Args:
        payoff: ``[m, n]``, what the learner is paid for its action a and the opponent's b.
        opponent: the opponent's probabilities, ``[1 + m·n, n]`` by state, or ``[n]`` if it remembers nothing.
    """
    payoff = np.asarray(payoff, np.float64)
    if payoff.ndim != 2:
        raise ValueError(f"repeated_game: payoff has shape {payoff.shape}; it must be [m, n].")
    m, n = payoff.shape
    n_states = 1 + m * n
    opponent = np.asarray(opponent, np.float64)
    opponent = np.broadcast_to(opponent, (n_states, n)) if opponent.shape == (n,) else opponent
    if opponent.shape != (n_states, n):
        raise ValueError(f"repeated_game: opponent has shape {opponent.shape}; it must be {(n,)} or {(n_states, n)}.")
    initial = np.eye(n_states)[0]
    transition = np.zeros((n_states, m, n_states))
    for a in range(m):
        transition[:, a, 1 + a * n : 1 + (a + 1) * n] = opponent
    reward = np.broadcast_to(np.append(0.0, payoff.ravel()), transition.shape)
    return TabularMDP(initial, transition, reward, horizon=rounds)


def rock_paper_scissors(opponent: str = "cycle", rounds: int = 10) -> TabularMDP:
    """Rock-paper-scissors against one of :data:`OPPONENTS`, +1 for a win and −1 for a loss.

    A deterministic opponent is foreseen: the best response wins every round. Against ``uniform`` every policy wins 0 on
    average. Actions: 0 rock, 1 paper, 2 scissors; the observation is the last joint action.
    """
    if opponent not in OPPONENTS:
        near = get_close_matches(opponent, OPPONENTS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"There is no opponent {opponent!r}.{hint} Choose one of {', '.join(OPPONENTS)}.")
    return repeated_game(BEATS, opponent_table(*OPPONENTS[opponent]), rounds=rounds)


def opponent_table(first: ArrayLike, then: Callable[[int, int], ArrayLike]) -> Float[np.ndarray, "S 3"]:
    """``[10, 3]``: probabilities in the first round, and after the learner's a and the opponent's own b."""
    return np.array([first, *(then(a, b) for a in range(3) for b in range(3))], np.float64)


def pure(action: int) -> np.ndarray:
    return np.eye(3)[action % 3]


ROCK, EVEN, OFTEN_ROCK = pure(0), np.full(3, 1 / 3), np.array([0.5, 0.25, 0.25])
OPPONENTS = {
    "rock": (ROCK, lambda a, b: ROCK),
    "cycle": (ROCK, lambda a, b: pure(b + 1)),
    "copycat": (ROCK, lambda a, b: pure(a)),
    "win-stay": (ROCK, lambda a, b: pure(b) if BEATS[b, a] > 0 else pure(b + 1)),
    "often-rock": (OFTEN_ROCK, lambda a, b: OFTEN_ROCK),
    "uniform": (EVEN, lambda a, b: EVEN),
}
"""What each plays first, and after the learner's a and its own b: always rock; rock, paper, scissors in turn; what the
learner played last; its last action if that won, else the next one (after Wang, Xu & Zhou 2014, "Social cycling and
conditional responses in the Rock-Paper-Scissors game"); rock half of the time; anything."""
