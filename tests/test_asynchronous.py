"""What benchmarks/asynchronous.py reads out of a run."""

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
bench = importlib.import_module("asynchronous")
async_run = importlib.import_module("async_run")
cluster = importlib.import_module("cluster")
ledger = importlib.import_module("ledger")

TASK = bench.Task("toy", "CartPole-v1", {}, 0, 1000, reference=50, smooth=2)
RACE = {"curve": [[100 * i, 1.0 * i, 10.0 * i] for i in range(1, 11)], "seconds": 10.0}


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "LEDGER", ledger.Ledger(tmp_path / "book.json", key=bench.LEDGER.key))
    monkeypatch.setattr(bench, "TASKS", (TASK,))
    monkeypatch.setattr(bench, "RACES", (TASK,))
    return bench.LEDGER


def row(kind, arm, seed, **values):
    marks = {"scale": 1.0, "date": "2026-01-31", "machine": {"load": 0.1}}
    return {"kind": kind, "name": "toy", "arm": arm, "seed": seed, **marks, **values}


def test_a_score_is_a_running_mean_and_its_time_the_first_row_that_reaches_it():
    assert bench.curve_of(RACE, TASK)[0].tolist() == [200, 2, 15]
    assert bench.seconds_to(RACE, TASK) == 6, "55 is the mean of 50 and 60; 45, of 40 and 50, is not enough"
    assert math.isnan(bench.seconds_to(RACE, TASK._replace(reference=96)))


def test_the_last_fifth_of_a_budget_is_what_counts():
    curve = np.array(RACE["curve"])
    assert bench.last_score(curve, 0, 1000) == 95
    assert bench.last_score(curve, 1, 5.0) == 50
    assert bench.last_score(curve[:2], 1, 10.0) == 20, "nothing in the last fifth: the last row before it"
    assert math.isnan(bench.last_score(curve, 1, 0.5))


def test_tables_are_honest_about_what_is_missing_and_pair_seeds(book):
    assert all("not run" in table for table in (bench.rate_table(), bench.reference_table(), bench.equal_table()))
    slower = {**RACE, "curve": [[x, 2 * y, z] for x, y, z in RACE["curve"]], "seconds": 20.0}
    book.add([row("races", bench.ONE, seed, **slower) for seed in (0, 1, 2)])
    book.add([row("races", bench.TWO, seed, **RACE) for seed in (0, 1)])
    line = bench.reference_line(TASK)
    assert line[5:9] == ["2.00", "2.00 to 2.00", "≥ 1.7 ×", "pass"] and line[9:11] == ["3, 2, 0", 2]
    book.add([row("races", bench.A2C, 0, **RACE)])
    lines = {cells[1]: cells for cells in bench.equal_lines(TASK)}
    assert lines[bench.ONE][3] == lines[bench.TWO][3] == "90.0"
    assert float(lines[bench.ONE][6]) < float(lines[bench.TWO][6]) == 90


def test_a_ratio_is_that_of_the_medians_of_shared_rounds(book):
    for number, (one, two) in enumerate(((100, 190), (100, 170), (110, 200))):
        found = {"steps_per_second": 1.0, "staleness": [10, 30, 0]}
        book.add([row("rates", bench.ONE, number, updates_per_second=one, **found)])
        book.add([row("rates", bench.TWO, number, updates_per_second=two, **found)])
    line = bench.rate_line(TASK)
    assert line[3:7] == ["1.90", "1.70 to 1.90", "≥ 1.85 ×", "pass"] and line[8:11] == ["0.75", "1", 3]


def test_a_long_race_has_no_bar_and_no_third_arm(book):
    book.add([row("races", arm, 0, **RACE) for arm in (bench.ONE, bench.TWO)])
    line = bench.reference_line(TASK._replace(stops=True))
    assert line[4:8] == ["", "1.00", "", ""] and line[9:11] == ["1, 1, 0", 1]


def test_the_peer_takes_part_in_its_own_rounds_alone(book):
    assert all(line[1] is None for line in (bench.peer_line(*arm) for arm in bench.PEER_ARMS))
    speeds = {bench.TWO: (300, 420), bench.TORCH: (150, 100, 1), bench.PEER_ARMS[1][0]: (120,)}
    for arm, found in speeds.items():
        for number, speed in enumerate(found):
            book.add([{**row("peer", arm, number, steps_per_second=float(speed)), "name": bench.PONG.name}])
    first, second = (bench.peer_line(*arm) for arm in bench.PEER_ARMS)
    assert first[:8] == [16, "360", "125", "2.88", "2.00 to 4.20", "≥ 2 ×", "pass", 2]
    assert second[:8] == [4, "120", "150", "0.80", "0.80 to 0.80", "", "", 1]


def test_both_halves_of_a_run_see_the_same_drift():
    """Between even log rows and the next 100 steps took a second, between odd ones two."""
    marks = [(0, 0.0), (100, 1.0), (200, 3.0), (300, 4.0), (400, 6.0)]
    assert async_run.halves(marks) == [100.0, 50.0]


def test_the_simulation_is_fitted_to_one_half_and_held_against_the_other(tmp_path, monkeypatch):
    """Two cores: 2, 3 and 4 workers are as quick. The last one's other half is not what the first halves say."""
    monkeypatch.setattr(cluster, "LEDGER", ledger.Ledger(tmp_path / "book.json", key=cluster.LEDGER.key))
    monkeypatch.setattr(cluster.os, "cpu_count", lambda: 2)
    assert "not run" in cluster.check_table()
    halves = {1: [100, 99], 2: [160, 158], 3: [160, 163], 4: [160, 220]}
    marks = {"arm": cluster.GRADIENTS, "scale": 1.0, "updates_per_second": 1.0}
    cluster.LEDGER.add([marks | {"workers": n, "round": 0, "halves": found} for n, found in halves.items()])
    cluster.LEDGER.add([marks | {"workers": 1, "round": 1}])  # of before there were halves
    assert [line[-1] for line in cluster.check_lines()] == ["yes", "yes", "yes", "NO"]


def test_rows_of_a_trial_are_in_no_table(book):
    book.add([{**row("races", bench.ONE, 0, **RACE), "scale": 0.1}])
    assert bench.rows_of("races", "toy") == []


def test_tables_are_put_into_a_page():
    tables = {name: table for name, (_, table) in bench.TABLES.items()}
    page = ledger.with_tables("before\n<!-- start -->\nold\n<!-- end -->\nafter\n", tables)
    assert page.startswith("before\n<!-- start -->\n\n| seconds") and page.endswith("|\n\n<!-- end -->\nafter\n")
    assert ledger.with_tables(page, tables) == page
    other = "<!-- of-another-script -->\nkept\n<!-- end -->"
    assert ledger.with_tables(other, tables) == other
