import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from policygrad.run import plots
from policygrad.run.plots import in_thousands, learning_curves, spread

STEPS = np.linspace(0, 20_000, 5)


def some_runs(labels: int, seeds: int) -> dict:
    rng = np.random.default_rng(0)
    return {f"rung {i}": [(STEPS, STEPS * i + rng.normal(size=5)) for _ in range(seeds)] for i in range(labels)}


def curves_of(runs: dict) -> list[plots.Curve]:
    return [plots._curve(i, label, seeds, 0.95) for i, (label, seeds) in enumerate(runs.items())]


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")])
def test_the_three_formats_and_equal_files_from_equal_numbers(tmp_path, suffix, begins):
    runs = some_runs(1, 2)
    files = [learning_curves(runs, tmp_path / "new" / f"{i}.{suffix}", title="γ = 0.99") for i in range(2)]
    assert files[0].read_bytes().startswith(begins)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [f"0.{suffix}", f"1.{suffix}"]


def test_small_multiples_are_drawn(tmp_path):
    out = learning_curves(some_runs(3, 2), tmp_path / "ladder.png", small_multiples=True)
    assert out.read_bytes() != learning_curves(some_runs(3, 2), tmp_path / "one.png").read_bytes()


@pytest.mark.parametrize(
    ("runs", "name", "message"),
    [
        (some_runs(1, 1), "curve.jpeg", "cannot draw to 'curve.jpeg'; end its name in .png, .svg, .pdf"),
        (some_runs(1, 1), "curve", "cannot draw to 'curve'"),
        ({}, "curve.png", "no runs to draw"),
        ({"a2c": []}, "curve.png", "'a2c' has no seeds"),
        ({"a2c": [([1, 2], [1])]}, "curve.png", r"'a2c' has \(2,\) steps and \(1,\) values"),
        ({"a2c": [([1, 2], [np.nan, np.nan])]}, "curve.png", "without a single finite value"),
        ({"a2c": [([1, 2], [1, 1]), ([3, 4], [1, 1])]}, "curve.png", "no steps in common"),
    ],
)
def test_what_cannot_be_drawn_leaves_no_file(tmp_path, runs, name, message):
    with pytest.raises(ValueError, match=message):
        learning_curves(runs, tmp_path / name)
    assert not list(tmp_path.iterdir())


# What the picture shows


def test_a_curve_is_the_mean_with_a_band_around_it():
    runs = {"a2c": [([0, 10], [0, 2]), ([0, 10], [2, 6]), ([0, 10], [4, 10])]}
    (curve,) = curves_of(runs)
    np.testing.assert_allclose(curve.mean, [2, 6])
    assert (curve.low < curve.mean).all() and (curve.mean < curve.high).all()
    axes = plots._overlay([curve], "episode return").axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [2, 6])
    assert len(axes.collections) == 1


def test_one_seed_is_a_line_as_it_was_measured_without_a_band():
    steps = np.arange(2000)
    (curve,) = curves_of({"a2c": [(steps, np.where(steps == 7, np.nan, steps**2))]})
    axes = plots._overlay([curve], "episode return").axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), np.delete(steps, 7))
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), np.delete(steps, 7) ** 2)
    assert not axes.collections


def test_the_mean_is_taken_only_where_all_seeds_are():
    (curve,) = curves_of({"a2c": [([0, 10, 20], [0, 1, 2]), ([5, 15], [0.5, 1.5])]})
    np.testing.assert_array_equal(curve.steps, [5, 10, 15])
    np.testing.assert_allclose(curve.mean, [0.5, 1.0, 1.5])


def test_long_logs_meet_on_a_grid_of_bounded_size():
    seeds = [(np.arange(i, 9000 + i, 3), np.arange(i, 9000 + i, 3) / 2) for i in range(3)]
    (curve,) = curves_of({"a2c": seeds})
    assert len(curve.steps) == plots.GRID_POINTS
    np.testing.assert_allclose(curve.mean, curve.steps / 2)


def test_every_curve_has_a_colour_and_a_line_style_of_its_own():
    curves = curves_of(some_runs(28, 1))
    assert len({(curve.color, curve.dashes) for curve in curves}) == 28
    assert len({curve.color for curve in curves[:7]}) == 7
    assert len({curve.dashes for curve in curves[:4]}) == 4


def test_every_curve_is_named_and_no_names_overlap():
    axes = plots._overlay(curves_of({f"rung {i}": [(STEPS, STEPS)] for i in range(5)}), "episode return").axes[0]
    assert [text.get_text() for text in axes.texts] == [f"rung {i}" for i in range(5)]
    places = [text.get_position()[1] for text in axes.texts]
    assert np.diff(places).min() > 0.06


def test_panels_show_each_seed_and_the_other_means():
    axes = plots._panels(curves_of(some_runs(2, 3)), "episode return").axes
    assert [panel.get_title(loc="left") for panel in axes] == ["rung 0", "rung 1"]
    assert [len(panel.lines) for panel in axes] == [1 + 3 + 1] * 2


@pytest.mark.parametrize(("labels", "rows"), [(1, 1), (4, 1), (5, 2), (10, 2), (11, 3)])
def test_panels_take_two_rows_if_needed(labels, rows):
    axes = plots._panels(curves_of(some_runs(labels, 1)), "episode return").axes
    assert len({panel.get_position().y0 for panel in axes}) == rows
    assert sum(panel.get_visible() for panel in axes) == labels


@pytest.mark.parametrize(
    ("seeds", "words"),
    [([1, 1], "one seed"), ([3, 3], "mean of 3 seeds; band: 90 %"), ([3, 5], "mean of 3 to 5 seeds; band: 90 %")],
)
def test_the_subtitle_says_what_is_drawn(seeds, words):
    curves = curves_of({str(i): [(STEPS, STEPS)] * n for i, n in enumerate(seeds)})
    assert plots._what_is_drawn(curves, 0.9, small_multiples=False).startswith(words)


@pytest.mark.parametrize(
    ("steps", "text"),
    [(0, "0"), (500, "500"), (1000, "1k"), (1500, "1.5k"), (200_000, "200k"), (1e6, "1M"), (2_500_000, "2.5M")],
)
def test_steps_in_thousands(steps, text):
    assert in_thousands(steps) == text


def test_spread_is_the_nearest_arrangement():
    np.testing.assert_allclose(spread([0.5, 0.1, 0.9], 0.1), [0.5, 0.1, 0.9])
    np.testing.assert_allclose(spread([0.5, 0.5, 0.9], 0.1), [0.45, 0.55, 0.9])
    places, gap = np.array([0.3, 0.32, 0.29, 0.5]), 0.1
    apart = spread(places, gap)
    assert np.diff(np.sort(apart)).min() >= gap - 1e-12
    grid = np.arange(0.1, 0.7, 0.01)  # by force: the best arrangement of the first three (the last is free) on a grid
    best = min(
        (
            sum((np.array([a, b, c]) - places[:3]) ** 2)
            for c, a, b in itertools.product(grid, repeat=3)
            if c + gap <= a <= b - gap
        )
    )
    assert sum((apart[:3] - places[:3]) ** 2) <= best + 1e-12


def test_neither_matplotlib_nor_pyplot_is_imported_too_early(tmp_path):
    program = (
        "import sys; from policygrad.run.plots import learning_curves; assert 'matplotlib' not in sys.modules;"
        "learning_curves({'a': [([0, 1], [0, 1])]}, sys.argv[1]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(plots.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.png")], env=environment, check=True)
