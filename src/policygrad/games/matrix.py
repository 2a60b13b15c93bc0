"""Matrix games: two players choose at once, and what is exact about them.

A :class:`MatrixGame` holds both players' payoffs. Zero-sum, symmetric and general-sum games of any size are the same
type. Payoffs and policies are NumPy float64, so that what is called exact is exact to rounding.

    exploitability(x, y) = Σ_i [ max over player i's actions of u_i  −  u_i(x, y) ]
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

LARGEST = 1e12
"""Of payoffs. Beyond it sums of them lose what matters, and linear programs take numbers for infinite."""


class MatrixGame(NamedTuple):
    """A game for a row player with m actions and a column player with n. Make it with :func:`matrix_game`."""

    name: str
    payoffs: Float[np.ndarray, "2 m n"]
    """``payoffs[i, a, b]``: what player i (0: row, 1: column) is paid if row plays a and column b."""
    actions: tuple[tuple[str, ...], tuple[str, ...]]
    """The names of the row player's actions and of the column player's."""

    @property
    def is_zero_sum(self) -> bool:
        """What one wins the other loses, up to a constant."""
        total = self.payoffs.sum(axis=0)
        return bool(np.ptp(total) <= 1e-9 * max(1.0, np.abs(self.payoffs).max()))


def matrix_game(
    row: ArrayLike,
    column: ArrayLike | None = None,
    *,
    symmetric: bool = False,
    actions: Any = None,
    name: str = "game",
) -> MatrixGame:
    """A game from its payoffs.

    Args:
        row: ``[m, n]``, what the row player is paid.
        column: ``[m, n]``, what the column player is paid; None: −``row``, the game is zero-sum.
        symmetric: both players face the same choice: the column player's payoffs are ``row`` transposed.
        actions: the names of both players' actions, ``(rows, columns)``; None: their numbers.

    Raises:
        ValueError: shapes that do not fit, a number that is not finite, names that are double or too few.
    """
    first = numbers(row, "row payoffs")
    if symmetric and column is not None:
        raise ValueError("a symmetric game has one payoff matrix, the row player's: leave the column player's out")
    if symmetric and first.shape[0] != first.shape[1]:
        m, n = first.shape
        raise ValueError(
            f"a symmetric game needs a square payoff matrix, and this one is {m} × {n}: give as many columns as rows, "
            "or drop symmetric"
        )
    second = first.T if symmetric else -first if column is None else numbers(column, "column payoffs")
    if first.shape != second.shape:
        raise ValueError(
            f"the row player's payoffs are {shape(first)} and the column player's {shape(second)}: both need a row for "
            "each action of the row player and a column for each of the column player's"
        )
    payoffs = np.stack([first, second])
    payoffs.flags.writeable = False
    return MatrixGame(name, payoffs, names_of(actions, first.shape))


def numbers(payoffs: ArrayLike, what: str) -> np.ndarray:
    """A matrix of finite numbers."""
    try:
        array = np.array(payoffs, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be rows of numbers, all of one length") from None
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{what} must be a matrix, one row of numbers for each action, not of shape {array.shape}")
    if not np.isfinite(array).all():
        a, b = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{what} hold {array[a, b]} in row {a + 1}, column {b + 1}: payoffs must be finite numbers")
    if np.abs(array).max() > LARGEST:
        a, b = (int(i) for i in np.argwhere(np.abs(array) > LARGEST)[0])
        raise ValueError(
            f"{what} hold {array[a, b]:.6g} in row {a + 1}, column {b + 1}, and the largest may be {LARGEST:g}: "
            "give them in a larger unit"
        )
    return array


def shape(matrix: np.ndarray) -> str:
    return " × ".join(map(str, matrix.shape))


def names_of(actions: Any, sizes: tuple[int, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Both players' action names, as many as there are actions."""
    if actions is None:
        actions = tuple(tuple(str(i) for i in range(n)) for n in sizes)
    rows, columns = (tuple(map(str, names)) for names in actions)
    for player, names, n in (("row", rows, sizes[0]), ("column", columns, sizes[1])):
        if len(names) != n:
            raise ValueError(f"the {player} player has {n} actions and {len(names)} names for them: give {n}")
        if len(set(names)) != n:
            double = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two actions of the {player} player are called {double!r}: give each a name of its own")
    return rows, columns


# What is exact


def action_payoffs(
    game: MatrixGame, x: ArrayLike, y: ArrayLike
) -> tuple[Float[np.ndarray, "m"], Float[np.ndarray, "n"]]:
    """What each action is worth against the other's policy: u_1(a, y) = (A y)_a and u_2(x, b) = (xᵀB)_b."""
    x, y = policy(x, game, 0), policy(y, game, 1)
    return game.payoffs[0] @ y, x @ game.payoffs[1]


def expected_payoffs(game: MatrixGame, x: ArrayLike, y: ArrayLike) -> Float[np.ndarray, "2"]:
    """u_i(x, y) = Σ_ab x_a·y_b·payoffs[i, a, b], in units of payoff per game."""
    x, y = policy(x, game, 0), policy(y, game, 1)
    return np.einsum("a,iab,b->i", x, game.payoffs, y)


def best_response(game: MatrixGame, x: ArrayLike, y: ArrayLike) -> tuple[int, int]:
    """The action that pays the row player most against ``y``, and the column player's against ``x``; the first of
    equals."""
    row, column = action_payoffs(game, x, y)
    return int(row.argmax()), int(column.argmax())


def exploitability(game: MatrixGame, x: ArrayLike, y: ArrayLike) -> float:
    """Σ_i [max_a u_i(a, π_−i) − u_i(π)]: what the players could gain by a best response, each for itself, in all.

    Zero exactly at Nash equilibria, never negative; in units of payoff. This is NashConv (Lanctot et al. 2017, "A
    unified game-theoretic approach to multiagent reinforcement learning"); some divide it by the number of players.
    """
    gains = (best.max() - paid for best, paid in zip(action_payoffs(game, x, y), expected_payoffs(game, x, y)))
    return float(sum(gains))


def nash(game: MatrixGame) -> tuple[Float[np.ndarray, "m"], Float[np.ndarray, "n"], float]:
    """A Nash equilibrium of a zero-sum game and the row player's value, by linear programming:

        max v   so that   (xᵀA)_b ≥ v for all b,   x ≥ 0,   Σ_a x_a = 1

    von Neumann (1928); Dantzig (1951). For games with several equilibria it is one of them.

    Raises:
        ValueError: the game is not zero-sum.
    """
    if not game.is_zero_sum:
        raise ValueError(
            f"{game.name} is not zero-sum, and only zero-sum games have their equilibria by linear programming: "
            "measure the exploitability of a pair of policies instead"
        )
    x, value = maximin(game.payoffs[0])
    y, _ = maximin(game.payoffs[1].T)
    return x, y, value


def maximin(payoff: Float[np.ndarray, "m n"]) -> tuple[Float[np.ndarray, "m"], float]:
    """The policy over rows whose worst column is best, and what it is sure of."""
    from scipy.optimize import linprog

    m, n = payoff.shape
    cost = np.append(np.zeros(m), -1.0)
    found = linprog(
        cost,
        A_ub=np.column_stack([-payoff.T, np.ones(n)]),
        b_ub=np.zeros(n),
        A_eq=np.append(np.ones(m), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * m + [(None, None)],
    )
    x = np.maximum(found.x[:m], 0)
    return x / x.sum(), float(found.x[m])


def policy(probabilities: ArrayLike, game: MatrixGame, player: int) -> np.ndarray:
    """A policy of one player, checked: as long as there are actions, not negative, with sum 1.

    Raises:
        ValueError: it is no probability distribution over the player's actions.
    """
    p, n = np.asarray(probabilities, np.float64), game.payoffs.shape[1 + player]
    who = ("row", "column")[player]
    if p.shape != (n,):
        raise ValueError(f"the {who} player has {n} actions, and its policy has shape {p.shape}: give {n} numbers")
    if not np.isfinite(p).all() or p.min() < 0 or abs(p.sum() - 1) > 1e-5:
        raise ValueError(f"the {who} player's policy must be probabilities with sum 1, not {p.tolist()}")
    return p / p.sum()


# The well-known ones


def rps(rock: float = 1.0, paper: float = 1.0, scissors: float = 1.0, *, name: str = "rps") -> MatrixGame:
    """Rock-paper-scissors, in which a win by each action pays its own prize: ``rock`` for rock, and so on.

    With positive prizes the only equilibrium is (scissors, rock, paper) over their sum: an action is played as often as
    the prize between the *other* two is high. With rock's prize 2 that is paper half of the time.
    """
    wins = np.array([[0.0, -paper, rock], [paper, 0.0, -scissors], [-rock, scissors, 0.0]])
    return matrix_game(wins, actions=[("rock", "paper", "scissors")] * 2, name=name)


def matching_pennies() -> MatrixGame:
    """Row wants equal pennies, column different ones. The only equilibrium is uniform."""
    return matrix_game([[1, -1], [-1, 1]], actions=[("heads", "tails")] * 2, name="matching-pennies")


def prisoners_dilemma() -> MatrixGame:
    """Defecting dominates, and both defecting is the only equilibrium, though both would rather cooperate."""
    return symmetric_game("prisoners-dilemma", [[3, 0], [5, 1]], ("cooperate", "defect"))


def stag_hunt() -> MatrixGame:
    """Two pure equilibria, the better of which needs trust, and a mixed one, stag with probability 1/2."""
    return symmetric_game("stag-hunt", [[4, 0], [2, 2]], ("stag", "hare"))


def chicken() -> MatrixGame:
    """Two pure equilibria in which one swerves, and a mixed one, straight with probability 1/10."""
    return symmetric_game("chicken", [[0, -1], [1, -10]], ("swerve", "straight"))


def symmetric_game(name: str, payoff: list[list[float]], actions: tuple[str, ...]) -> MatrixGame:
    return matrix_game(payoff, symmetric=True, actions=[actions, actions], name=name)


GAMES = {
    "rps": rps,
    "rps-unequal": lambda: rps(rock=2.0, name="rps-unequal"),
    "matching-pennies": matching_pennies,
    "prisoners-dilemma": prisoners_dilemma,
    "stag-hunt": stag_hunt,
    "chicken": chicken,
}
"""The built-in games by name."""
