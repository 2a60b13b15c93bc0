"""Matrix games, self-play by policy gradients, and how exploitable what comes of it is."""

from policygrad.games.files import make_game, read_game
from policygrad.games.matrix import (
    GAMES,
    MatrixGame,
    action_payoffs,
    best_response,
    expected_payoffs,
    exploitability,
    matrix_game,
    nash,
    rps,
)
from policygrad.games.selfplay import METHODS, Play, selfplay

__all__ = [
    "GAMES",
    "METHODS",
    "MatrixGame",
    "Play",
    "action_payoffs",
    "best_response",
    "expected_payoffs",
    "exploitability",
    "make_game",
    "matrix_game",
    "nash",
    "read_game",
    "rps",
    "selfplay",
]
