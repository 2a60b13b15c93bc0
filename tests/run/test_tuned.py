"""The tuned recipes: each is whole, is shown with what it earned, and earned what it says."""

import importlib
import sys
from pathlib import Path

import pytest

from policygrad.cli.list import recipes
from policygrad.run.recipes import RecipeError
from policygrad.run.tuned import RESULTS, TUNED, tuned

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
learning = importlib.import_module("learning")


@pytest.mark.parametrize(("env", "algo"), TUNED)
def test_a_recipe_fits_its_environment(env, algo):
    recipe = tuned(algo, env)
    assert (recipe.env, recipe.algo, recipe.total_timesteps) == (env, algo, TUNED[env, algo].total_timesteps)


def test_what_they_earned_is_what_the_ledger_says():
    assert learning.results() == RESULTS, "write them anew: python benchmarks/learning.py --page"


def test_the_page_is_the_ledgers():
    assert learning.PAGE.read_text(encoding="utf-8") == learning.page(), "python benchmarks/learning.py --page"


def test_no_result_comes_from_a_seed_that_was_tuned_on():
    assert not set(range(1000, 1008)) & {seed for task in learning.TASKS for seed in task.seeds}


def test_every_recipe_has_a_row_of_the_table():
    games = {(f"ALE/{game}-v5", "a3c") for game in ("BeamRider", "Breakout", "Pong")}  # asynchronous.py has theirs
    assert {(task.env, algo) for task in learning.TASKS for algo in task.algos} | games == set(TUNED)


def test_the_list_shows_command_seeds_and_result():
    text = recipes()
    for env, algo in TUNED:
        assert f"policygrad train {env} --algo {algo} --recipe tuned" in text
        if found := RESULTS.get((env, algo)):
            assert f"return {found.mean:.1f}, 95 % interval {found.low:.1f} to {found.high:.1f}" in text


def test_changes_come_on_top():
    assert tuned("a2c", "Acrobot-v1", gamma=0.5).gamma == 0.5


def test_a_pair_that_nobody_tuned_is_refused_with_what_there_is():
    with pytest.raises(RecipeError, match="on Acrobot-v1 there are a2c, a2c-gae"):
        tuned("reinforce", "Acrobot-v1")
    with pytest.raises(RecipeError, match="did you mean Acrobot-v1"):
        tuned("a2c", "Acrobot-v2")
