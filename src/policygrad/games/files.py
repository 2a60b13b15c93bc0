"""Games from files: a payoff matrix as CSV, or both players' payoffs as CSV columns or JSON.

A matrix, with or without names (the column player is paid minus these numbers, or with ``symmetric`` their transpose):

    ,rock,paper,scissors
    rock,0,-1,1
    paper,1,0,-1
    scissors,-1,1,0

Both players' payoffs, one line for each pair of actions (without ``column_payoff`` the game is zero-sum):

    row,column,row_payoff,column_payoff
    stag,stag,4,4
    stag,hare,0,2

JSON: ``{"row": [[...], ...]}``, and if wanted ``"column"``, ``"symmetric"``, ``"row_actions"``, ``"column_actions"``.
"""

import csv
import json
import math
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from policygrad.games.matrix import GAMES, MatrixGame, matrix_game

PAIRS = ("row", "column", "row_payoff", "column_payoff")
KEYS = ("row", "column", "symmetric", "row_actions", "column_actions")


def make_game(name: str | os.PathLike, *, symmetric: bool = False) -> MatrixGame:
    """A built-in game by its name, or that of a file.

    Raises:
        ValueError: no such game and no such file, or a file that holds no game; the message says what is wrong.
    """
    if name in GAMES:
        if symmetric:
            raise ValueError(f"symmetric is for files: {name} knows both players' payoffs")
        return GAMES[str(name)]()
    path = Path(name)
    if path.is_file():
        return read_game(path, symmetric=symmetric)
    near = get_close_matches(str(name), GAMES, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"there is no game and no file {str(name)!r}: {hint}The games are {', '.join(GAMES)}")


def read_game(path: str | os.PathLike, *, symmetric: bool = False) -> MatrixGame:
    """The game in a ``.csv`` or ``.json`` file; for the formats see the head of :mod:`policygrad.games.files`.

    Args:
        symmetric: the file holds one matrix, and the column player's payoffs are its transpose.

    Raises:
        ValueError: it holds no game; one sentence with the file, the place and the fix.
    """
    path = Path(path)
    readers = {".csv": from_csv, ".json": from_json}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: a game is a .csv or a .json file, not {path.suffix or 'a file without an ending'}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        game = readers[path.suffix.lower()](text, symmetric)._replace(name=path.stem)
        if game.payoffs.shape == (2, 1, 1):
            raise ValueError("each player has one action, and nothing to choose: give at least one of them two")
        return game
    except UnicodeDecodeError:
        raise ValueError(f"{path}: this is no UTF-8 text") from None
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None


def from_csv(text: str, symmetric: bool) -> MatrixGame:
    """A bare matrix, a matrix with names, or one line for each pair of actions."""
    lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines()) if any(map(str.strip, line))]
    if not lines:
        raise ValueError("the file is empty: give one line of payoffs for each action of the row player")
    for i, line in enumerate(lines):
        if len(line) != len(lines[0]):
            raise ValueError(f"line {i + 1} has {len(line)} columns and the first {len(lines[0])}: give all the same")
    if set(lines[0]) & set(PAIRS) - {"row", "column"} or {"row", "column"} <= set(lines[0]):
        return from_pairs(lines, symmetric)
    head, *body = lines
    named = not any(map(is_number, head))  # what has both names and numbers is a matrix with a mistake
    if not named:
        return matrix_game([[number(cell, i) for cell in line] for i, line in enumerate(lines)], symmetric=symmetric)
    if not body:
        raise ValueError("there are names and no payoffs: give one line for each action of the row player")
    for i, line in enumerate(body):
        if head[0] and is_number(line[0]):
            raise ValueError(
                f"line {i + 2} begins with {line[0]!r}, and the first line has names: begin each line with the name of "
                "its action, or drop the first"
            )
    payoffs = [[number(cell, i + 1) for cell in line[1:]] for i, line in enumerate(body)]
    return matrix_game(payoffs, symmetric=symmetric, actions=([line[0] for line in body], head[1:]))


def from_pairs(lines: list[list[str]], symmetric: bool) -> MatrixGame:
    """One line for each pair of actions, in any order."""
    head, *body = lines
    refuse_unknown(head, PAIRS, "column")
    for name in PAIRS[:3]:
        if name not in head:
            raise ValueError(f"the column {name} is missing: the columns are {', '.join(PAIRS)}")
    table = {name: [line[i] for line in body] for i, name in enumerate(head)}
    rows, columns = list(dict.fromkeys(table["row"])), list(dict.fromkeys(table["column"]))
    pairs = list(zip(table["row"], table["column"]))
    for pair in ((a, b) for a in rows for b in columns):
        if pairs.count(pair) != 1:
            raise ValueError(
                f"row {pair[0]!r} with column {pair[1]!r} is there {pairs.count(pair)} times: give it once"
            )

    def matrix(name: str) -> list[list[float]]:
        paid = {pair: number(cell, i + 1) for i, (pair, cell) in enumerate(zip(pairs, table[name]))}
        return [[paid[a, b] for b in columns] for a in rows]

    column = matrix("column_payoff") if "column_payoff" in head else None
    return matrix_game(matrix("row_payoff"), column, symmetric=symmetric, actions=(rows, columns))


def from_json(text: str, symmetric: bool) -> MatrixGame:
    try:
        found: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is no JSON (line {error.lineno}: {error.msg})") from None
    if not isinstance(found, dict) or "row" not in found:
        raise ValueError('give an object with the row player\'s payoffs, {"row": [[0, -1], [1, 0]]}')
    refuse_unknown(list(found), KEYS, "key")
    if ("row_actions" in found) != ("column_actions" in found):
        raise ValueError("give both row_actions and column_actions, or none of them")
    for name, kind in (("symmetric", bool), ("row_actions", list), ("column_actions", list)):
        if not isinstance(found.get(name, kind()), kind):
            what = "true or false" if kind is bool else "a list of names"
            raise ValueError(f"{name} must be {what}, not {found[name]!r}")
    for name in ("row_actions", "column_actions"):
        for action in found.get(name, []):
            if not isinstance(action, str):
                raise ValueError(f"{name} holds {json.dumps(action)}: names are words in quotes")
    actions = (found["row_actions"], found["column_actions"]) if "row_actions" in found else None
    symmetric = symmetric or found.get("symmetric", False)
    return matrix_game(found["row"], found.get("column"), symmetric=symmetric, actions=actions)


def refuse_unknown(names: list[str], known: tuple[str, ...], what: str) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"unknown {what} {name!r}: {hint}The {what}s are {', '.join(known)}")


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def number(cell: str, line: int) -> float:
    """A payoff of the CSV's line ``line``, counted from 0."""
    if not is_number(cell) or not math.isfinite(float(cell)):
        raise ValueError(f"line {line + 1} holds {cell!r}, which is no finite number")
    return float(cell)
