"""Games from files: every format says the same game, and every mistake is one sentence with its place."""

import json

import numpy as np
import pytest

from policygrad.games import make_game, read_game, rps
from policygrad.games.matrix import GAMES

NAMED = ",rock,paper,scissors\nrock,0,-1,1\npaper,1,0,-1\nscissors,-1,1,0\n"
STAG = "row,column,row_payoff,column_payoff\nstag,stag,4,4\nstag,hare,0,2\nhare,stag,2,0\nhare,hare,2,2\n"


@pytest.fixture
def written(tmp_path):
    def write(text, name="game.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def same(game, other):
    return np.array_equal(game.payoffs, other.payoffs) and game.actions == other.actions


def test_a_matrix_with_and_without_names(written):
    named, bare = read_game(written(NAMED)), read_game(written("0,-1,1\n1, 0,-1\n\n-1,1,0", "bare.csv"))
    assert same(named, rps()) and named.name == "game"
    assert np.array_equal(bare.payoffs, rps().payoffs) and bare.actions[0] == ("0", "1", "2")


def test_symmetric_is_the_transpose_and_not_the_negative(written):
    game = read_game(written(",stag,hare\nstag,4,0\nhare,2,2"), symmetric=True)
    assert same(game, GAMES["stag-hunt"]())


def test_pairs_in_any_order(written):
    head, *rows = STAG.splitlines()
    shuffled = "\n".join([head, *(rows[i] for i in (0, 3, 2, 1))])
    assert same(read_game(written(STAG)), GAMES["stag-hunt"]())
    assert same(read_game(written(shuffled, "other.csv")), GAMES["stag-hunt"]())


def test_pairs_without_the_column_players_payoffs_are_zero_sum(written):
    game = read_game(written("column,row,row_payoff\nb,a,3\nc,a,-1\n"))
    assert game.payoffs.tolist() == [[[3, -1]], [[-3, 1]]] and game.actions == (("a",), ("b", "c"))


def test_json(written):
    text = json.dumps({"row": [[4, 0], [2, 2]], "column": [[4, 2], [0, 2]]})
    assert np.array_equal(read_game(written(text, "g.json")).payoffs, GAMES["stag-hunt"]().payoffs)
    text = json.dumps({"row": [[4, 0], [2, 2]], "symmetric": True})
    assert np.array_equal(read_game(written(text, "h.json")).payoffs, GAMES["stag-hunt"]().payoffs)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "g.csv", "the file is empty"),
        ("0,1\n1", "g.csv", "line 2 has 1 columns and the first 2"),
        ("0,1\n1,x", "g.csv", "line 2 holds 'x'"),
        ("0,x\n1,0", "g.csv", "line 1 holds 'x'"),
        ("x,1\n1,0", "g.csv", "line 1 holds 'x'"),
        (",a,2\nu,0,1\nv,1,0", "g.csv", "line 1 holds ''"),
        ("x,y\nu,0", "g.csv", "each player has one action"),
        ("3", "g.csv", "each player has one action"),
        ("a,b,c\n0,-1,1\n1,0,-1", "g.csv", "line 2 begins with '0', and the first line has names"),
        ("0,1e308\n-1e308,0", "g.csv", r"row payoffs hold 1e\+308 in row 1, column 2"),
        (
            '{"row": [[0, 1]], "row_actions": ["a"], "column_actions": ["b", null]}',
            "g.json",
            "column_actions holds null",
        ),
        (",a,b\na,0,inf\nb,1,0", "g.csv", "line 2 holds 'inf', which is no finite number"),
        (",a,b", "g.csv", "names and no payoffs"),
        ("row,column,row_payof\na,b,1", "g.csv", "unknown column 'row_payof': did you mean row_payoff"),
        ("row,column\na,b", "g.csv", "the column row_payoff is missing"),
        ("row,column,row_payoff\na,b,1\na,c,2\nd,b,1", "g.csv", "row 'd' with column 'c' is there 0 times"),
        ("row,column,row_payoff\na,b,1\na,b,2", "g.csv", "is there 2 times"),
        ("{", "g.json", "no JSON"),
        ("[[0]]", "g.json", "give an object"),
        ('{"row": [[0]], "colum": [[0]]}', "g.json", "unknown key 'colum': did you mean column"),
        ('{"row": [[0, 1]], "row_actions": ["a"]}', "g.json", "both row_actions and column_actions"),
        ('{"row": [[0]], "symmetric": "no"}', "g.json", "symmetric must be true or false, not 'no'"),
        ('{"row": [[0]], "row_actions": 5, "column_actions": ["a"]}', "g.json", "row_actions must be a list of names"),
        ('{"row": [[NaN]]}', "g.json", "hold nan in row 1, column 1"),
        ("0", "g.txt", "a .csv or a .json file, not .txt"),
    ],
)
def test_mistakes_name_the_file_and_the_place(written, text, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_game(written(text, name))
    assert name in str(caught.value)


def test_a_game_that_is_not_square_is_not_symmetric(written):
    with pytest.raises(ValueError, match="square payoff matrix, and this one is 1 × 2"):
        read_game(written("0,1"), symmetric=True)


def test_names(written):
    assert same(make_game("rps"), rps()) and same(make_game(written(NAMED)), rps())
    with pytest.raises(ValueError, match="did you mean chicken"):
        make_game("chiken")
    with pytest.raises(ValueError, match="symmetric is for files"):
        make_game("chicken", symmetric=True)
