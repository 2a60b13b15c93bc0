"""The ledger of the benchmarks: resumable, atomic, and honest in its tables."""

import importlib
import json
import os
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
ledger = importlib.import_module("ledger")
learning = importlib.import_module("learning")
Ledger, markdown = ledger.Ledger, ledger.markdown


@pytest.fixture
def book(tmp_path: Path):
    return Ledger(tmp_path / "results" / "book.json", key=("algo", "seed"))


def test_what_was_measured_is_not_missing(book):
    wanted = [{"algo": "a2c", "seed": seed} for seed in range(4)]
    assert book.missing(wanted) == wanted
    book.add([{"algo": "a2c", "seed": 2, "greedy": 1.0}, {"algo": "ppo", "seed": 0, "greedy": 2.0}])
    assert [row["seed"] for row in Ledger(book.path, book.key).missing(wanted)] == [0, 1, 3]


def test_a_row_takes_the_place_of_its_predecessor(book):
    book.add([{"algo": "a2c", "seed": 0, "greedy": 1.0}, {"algo": "a2c", "seed": 1, "greedy": 1.0}])
    book.add([{"algo": "a2c", "seed": 0, "greedy": 9.0}])
    assert {row["seed"]: row["greedy"] for row in book.rows} == {0: 9.0, 1: 1.0}


def test_without_a_key_every_row_stays(tmp_path):
    book = Ledger(tmp_path / "book.json")
    book.add([{"rate": 1}])
    book.add([{"rate": 1}])
    assert book.rows == [{"rate": 1}, {"rate": 1}]


def test_two_ledgers_of_one_file_keep_each_others_rows(book):
    other = Ledger(book.path, book.key)
    book.add([{"algo": "a2c", "seed": 0}])
    other.add([{"algo": "a2c", "seed": 1}])
    assert len(book.rows) == 2


def test_a_failed_write_leaves_the_old_file(book, monkeypatch):
    book.add([{"algo": "a2c", "seed": 0}])
    before = book.path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(os, "replace", fail)
        book.add([{"algo": "a2c", "seed": 1}])
    assert book.path.read_bytes() == before
    assert [entry.name for entry in book.path.parent.iterdir()] == ["book.json"]


def test_a_row_that_is_no_json_leaves_the_old_file(book):
    book.add([{"algo": "a2c", "seed": 0}])
    with pytest.raises(TypeError):
        book.add([{"algo": "a2c", "seed": 1, "what": object()}])
    assert len(book.rows) == 1


def test_the_file_is_strict_json_with_a_row_a_line(book):
    book.add(
        [{"algo": "a2c", "seed": 0, "greedy": float("nan"), "rates": (1.0, float("inf"))}, {"algo": "a2c", "seed": 1}]
    )
    lines = book.path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "[" and lines[-1] == "]" and len(lines) == 4
    first = json.loads(lines[1].rstrip(","))
    assert first["greedy"] is None and first["rates"] == [1.0, None]


def test_a_row_without_its_key_is_refused(book):
    with pytest.raises(ValueError, match="needs 'seed'"):
        book.add([{"algo": "a2c"}])
    assert not book.path.exists()


@pytest.mark.parametrize("text", ["[{", '{"rows": []}', "[1]"])
def test_a_damaged_file_is_named_and_kept(book, text):
    book.path.parent.mkdir()
    book.path.write_text(text)
    with pytest.raises(ValueError, match=r"book\.json.*restore it"):
        book.add([{"algo": "a2c", "seed": 0}])
    assert book.path.read_text() == text


def test_markdown():
    assert markdown(("name", "n"), [("a2c", 8), ("ppo", None)]) == (
        "| name | n       |\n| ---- | ------- |\n| a2c  | 8       |\n| ppo  | not run |"
    )


def test_a_column_without_a_word_is_still_a_column():
    assert markdown(("n", ""), [(1, "")]).splitlines()[1] == "| --- | --- |"


# The learning table


@pytest.fixture
def task():
    return learning.TASKS[0]


def rows_of(task, algo: str, returns: dict[int, float]) -> list[dict]:
    recipe = learning.identity(learning.tuned(algo, task.env))
    shared = {**recipe, "sampled": 400.0, "seconds": 3.0, "seeds_together": 1, "date": "2026-01-01"}
    return [{**shared, "seed": seed, "greedy": greedy} for seed, greedy in returns.items()]


def line_of(text: str, algo: str) -> list[str]:
    return next(cells for line in text.splitlines() if (cells := [c.strip() for c in line.split("|")])[1] == algo)


def test_every_row_of_the_table_has_a_recipe():
    for task in learning.TASKS:
        for algo in task.algos:
            assert learning.tuned(algo, task.env).env == task.env


def test_a_task_without_a_bar_is_only_recorded(task):
    returns = {seed: 1.0 for seed in learning.SEEDS}
    recorded = task._replace(passes=None)
    text = learning.table(recorded, rows_of(task, "a2c", returns))
    assert "FAIL" not in text and "pass" not in text and "1.0" in line_of(text, "a2c")


def test_missing_seeds_never_pass(task):
    good = {seed: 500.0 for seed in learning.SEEDS}
    text = learning.table(task, rows_of(task, "a2c", good) + rows_of(task, "ppo", dict(list(good.items())[:5])))
    assert "pass" in line_of(text, "a2c") and "500.0" in line_of(text, "a2c") and "8" in line_of(text, "a2c")
    assert "3 seeds not run" in line_of(text, "ppo") and "pass" not in line_of(text, "ppo")
    assert line_of(text, "reinforce").count("not run") == 2


@pytest.mark.parametrize(("bad", "expected"), [(1, "pass"), (2, "FAIL")])
def test_seven_of_eight_seeds(task, bad, expected):
    returns = {seed: 474.0 if i < bad else 500.0 for i, seed in enumerate(learning.SEEDS)}
    assert expected in line_of(learning.table(task, rows_of(task, "a2c", returns)), "a2c")


def test_other_seeds_and_other_recipes_are_not_in_the_table(task):
    tuned_on = rows_of(task, "a2c", {0: 500.0, 1: 500.0})
    changed = [{**row, "recipe": "0" * 12} for row in rows_of(task, "a2c", {seed: 500.0 for seed in learning.SEEDS})]
    assert "not run" in line_of(learning.table(task, tuned_on + changed), "a2c")


def test_the_recipes_hash_ignores_the_seed_alone(task):
    tuned, hashed = learning.tuned, learning.recipe_hash
    plain = hashed(tuned("a2c", task.env))
    assert hashed(tuned("a2c", task.env, seed=7, seeds=8)) == plain
    assert hashed(tuned("a2c", task.env, gamma=0.98)) != plain


def test_neighbours_train_together():
    assert list(learning.neighbours([100, 101, 104, 106, 107])) == [(100, 2), (104, 1), (106, 2)]
    assert list(learning.neighbours([])) == []


def test_a_world_on_the_host_is_measured_seed_by_seed(monkeypatch, tmp_path):
    book, asked = Ledger(tmp_path / "book.json", learning.LEDGER.key), []

    def measure(recipe, first, count, date, *, sampled):
        asked.append((recipe.env, first, count, sampled))
        return [{**learning.identity(recipe), "seed": first + i, "greedy": 1.0} for i in range(count)]

    monkeypatch.setattr(learning, "LEDGER", book)
    monkeypatch.setattr(learning, "measure", measure)
    for env in ("LunarLander-v3", "Acrobot-v1"):
        task = learning.task_of(env)
        learning.fill(learning.tuned("a2c", env), task, task.seeds[:2], None)
    assert asked == [("LunarLander-v3", 100, 1, False), ("LunarLander-v3", 101, 1, False), ("Acrobot-v1", 100, 2, True)]
    assert len(book.rows) == 4


def test_results_go_into_the_source():
    source = "a = 1\nRESULTS: dict[tuple[str, str], Result] = {\n    old,\n}\nb = 2\n"
    text = learning.with_results(source, {("Chain-v0", "a2c"): learning.Result(1.0, 0.5, 1.5, "100 to 104")})
    assert text.splitlines() == [
        "a = 1",
        "RESULTS: dict[tuple[str, str], Result] = {",
        '    ("Chain-v0", "a2c"): Result(1.0, 0.5, 1.5, "100 to 104"),',
        "}",
        "b = 2",
    ]


def test_seeds_in_words():
    assert learning.words_of([100, 101, 102]) == "100 to 102"
    assert learning.words_of([100, 103]) == "100, 103" and learning.words_of([7]) == "7"
