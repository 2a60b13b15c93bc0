"""Matrix games: exploitability, best responses and equilibria against closed forms and linear programming."""

import numpy as np
import pytest

from policygrad.games import GAMES, best_response, expected_payoffs, exploitability, matrix_game, nash, rps

EVEN = np.full(3, 1 / 3)


def test_exploitability_in_closed_form():
    """Rock against rock: each could win 1 by paper. A uniform policy cannot be exploited, rock can."""
    rock = np.eye(3)[0]
    assert exploitability(rps(), rock, rock) == 2.0
    assert exploitability(rps(), EVEN, EVEN) == pytest.approx(0, abs=1e-15)
    assert exploitability(rps(), EVEN, rock) == pytest.approx(1, abs=1e-15)
    assert best_response(rps(), rock, EVEN) == (0, 1)


def test_exploitability_is_the_sum_of_both_gains_in_a_general_game():
    game = GAMES["prisoners-dilemma"]()
    trusting = np.array([1.0, 0.0])
    assert exploitability(game, trusting, trusting) == 4.0  # 5 in place of 3, for each
    assert exploitability(game, 1 - trusting, 1 - trusting) == 0.0
    assert expected_payoffs(game, trusting, 1 - trusting).tolist() == [0.0, 5.0]


def test_a_rectangular_game_by_enumeration():
    """Every pure response is tried; the payoffs of mixed play are sums over joint actions."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4))
    x, y = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(4))
    game = matrix_game(a, b)
    paid = [sum(x[i] * y[j] * u[i, j] for i in range(3) for j in range(4)) for u in (a, b)]
    best = max(sum(y[j] * a[i, j] for j in range(4)) for i in range(3))
    other = max(sum(x[i] * b[i, j] for i in range(3)) for j in range(4))
    np.testing.assert_allclose(expected_payoffs(game, x, y), paid, rtol=0, atol=1e-14)
    assert exploitability(game, x, y) == pytest.approx(best + other - sum(paid), abs=1e-14)


@pytest.mark.parametrize("prizes", [(1, 1, 1), (2, 1, 1), (1, 3, 5)])
def test_nash_of_unequal_prizes(prizes):
    """(scissors, rock, paper) over their sum, worth 0."""
    rock, paper, scissors = prizes
    game = rps(rock, paper, scissors)
    x, y, value = nash(game)
    closed = np.array([scissors, rock, paper]) / sum(prizes)
    np.testing.assert_allclose([x, y], [closed, closed], atol=1e-9)
    assert value == pytest.approx(0, abs=1e-9) and exploitability(game, closed, closed) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("shape", [(2, 5), (6, 3), (1, 4)])
def test_nash_cannot_be_exploited_and_is_worth_its_value(shape):
    game = matrix_game(np.random.default_rng(1).normal(size=shape))
    x, y, value = nash(game)
    assert exploitability(game, x, y) == pytest.approx(0, abs=1e-9)
    assert expected_payoffs(game, x, y)[0] == pytest.approx(value, abs=1e-9)


def test_mixed_equilibria_of_the_built_in_general_games():
    for name, p in (("stag-hunt", 0.5), ("chicken", 0.9)):
        x = np.array([p, 1 - p])
        assert exploitability(GAMES[name](), x, x) == pytest.approx(0, abs=1e-14)


def test_a_constant_sum_game_counts_as_zero_sum_and_others_are_refused():
    assert matrix_game([[1, 0], [0, 1]], [[2, 3], [3, 2]]).is_zero_sum
    with pytest.raises(ValueError, match="chicken is not zero-sum"):
        nash(GAMES["chicken"]())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"row": [[0, 1, 2], [1, 0, 1]], "symmetric": True}, "needs a square payoff matrix, and this one is 2 × 3"),
        ({"row": [[0, np.nan], [1, 0]]}, "hold nan in row 1, column 2"),
        ({"row": [[0, 1], [1, 0]], "column": [[0, np.inf], [1, 0]]}, "column payoffs hold inf"),
        ({"row": [[0, 1], [1]]}, "rows of numbers, all of one length"),
        ({"row": [0, 1]}, "must be a matrix"),
        ({"row": [[0, 1]], "column": [[0], [1]]}, "are 1 × 2 and the column player's 2 × 1"),
        ({"row": [[0, 1], [1, 0]], "column": [[0, 1], [1, 0]], "symmetric": True}, "leave the column player's out"),
        ({"row": [[0, 1]], "actions": (["a"], ["b"])}, "column player has 2 actions and 1 names"),
        ({"row": [[0, 1]], "actions": (["a"], ["b", "b"])}, "are called 'b'"),
    ],
)
def test_what_is_no_game(arguments, message):
    with pytest.raises(ValueError, match=message):
        matrix_game(**arguments)


@pytest.mark.parametrize("x", [[0.5, 0.5], [0.5, 0.6, -0.1], [0.3, 0.3, 0.3], [np.nan, 0.5, 0.5]])
def test_what_is_no_policy(x):
    with pytest.raises(ValueError, match="the row player"):
        exploitability(rps(), x, EVEN)
