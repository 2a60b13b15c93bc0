"""Recipes: what they refuse, how they are stored, and that each preset is another one with changes."""

import dataclasses
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from policygrad.ladder import names, psi
from policygrad.run.recipes import PRESETS, Recipe, RecipeError, change, get_preset, make_recipe

EPISODES = {"collect": "episodes", "target": "reward_to_go"}
NO_CRITIC = {**EPISODES, "baseline": "none", "critic_target": None}


@pytest.mark.parametrize("algo", PRESETS)
def test_a_preset_is_its_parent_with_changes(algo):
    preset = PRESETS[algo]
    parent = Recipe() if preset.parent is None else PRESETS[preset.parent].recipe
    assert preset.recipe.algo == algo
    if preset.parent is not None:
        assert preset.recipe == replace(parent, algo=algo, **preset.changes)
        assert preset.changes


@pytest.mark.parametrize("algo", PRESETS)
def test_a_recipe_survives_json(algo):
    recipe = make_recipe(algo, "chain", net=[8], stop_reward=1.5)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert recipe.psi.target == recipe.target


def test_the_ladder_has_a_function_for_every_name():
    for table in ("TARGETS", "BASELINES", "CORRECTIONS", "CRITIC_TARGETS"):
        assert tuple(getattr(psi, table)) == getattr(names, table)


REFUSED = [
    ({"gamma": 1.5}, r"gamma must be in \[0, 1\], not 1.5"),
    ({"gamma": "high"}, "gamma must be a number, not 'high'"),
    ({"gamma": float("nan")}, "gamma must be a finite number"),
    ({"n_envs": 0}, "n_envs must be at least 1"),
    ({"n_envs": 2.5}, "n_envs must be a whole number"),
    ({"n_envs": True}, "n_envs must be a whole number"),
    ({"discounted": 1}, "discounted must be true or false"),
    ({"net": (64, 0)}, "net must be at least 1"),
    ({"net": (8.5,)}, "net must be whole numbers joined by '-', such as 64-64, not 8.5"),
    ({"net": "8.5"}, "net must be whole numbers joined by '-', such as 64-64, not '8.5'"),
    ({"net": None}, "net must be whole numbers joined by '-', such as 64-64, not None"),
    ({"net": (True,)}, "net must be whole numbers"),
    ({"target": "mixture", "mixture": ("a",)}, "mixture must be numbers joined by ',', such as 0.5,0.5, not 'a'"),
    ({"stop_reward": 1.0, "eval_every": 0}, "eval_every=0 makes none: drop one of the two"),
    ({"constant": 1.0}, "constant does nothing here: it needs baseline=constant; set that, or drop constant"),
    ({"mixture": (0.5, 0.5)}, "mixture does nothing here: it needs target=mixture"),
    ({"target": "td0", "critic_target": "td0", "n_step": 3}, "n_step does nothing here: it needs target=n_step or"),
    ({"gae_lambda": 0.9}, "gae_lambda does nothing here: it needs target=lambda_return"),
    ({"rho_bar": 2.0}, "rho_bar does nothing here"),
    ({"c_bar": 2.0}, "c_bar does nothing here"),
    ({**NO_CRITIC, "vf_coef": 1.0}, "vf_coef does nothing here: it needs a critic_target"),
    ({"target_every": 7}, "target_every does nothing here: it needs target_copy=periodic"),
    ({"target_tau": 0.5}, "target_tau does nothing here: it needs target_copy=polyak"),
    ({"clip_range": 0.1}, "clip_range does nothing here: it needs surrogate=clipped"),
    ({"kl_coef": 2.0}, "kl_coef does nothing here: it needs surrogate=kl-penalty"),
    ({"mixture": ()}, "mixture needs at least one weight"),
    ({"bounds": "tahn"}, "unknown bounds 'tahn': did you mean 'tanh'"),
    ({"cnn": "atari"}, "unknown cnn 'atari': did you mean 'minatar'"),
    ({"frames": 0}, "frames must be at least 1"),
    ({"policy": "tabular", "frames": 2}, "policy='tabular' sees one observation: set frames=1"),
    ({"policy": "tabular", "gsde": True}, "gsde needs the features of a network"),
    ({"policy": "tabular", "cnn": "nature"}, "cnn does nothing here: it needs policy=mlp or gru"),
    ({"gsde": True, "bounds": "beta"}, "gsde explores with a Gaussian, and bounds='beta' is another distribution"),
    ({"gsde": True, "state_dependent_std": True}, "drop state_dependent_std"),
    ({"bounds": "beta", "state_dependent_std": True}, "bounds='beta' has no standard deviation"),
    ({"bounds": "beta", "log_std_init": -1.0}, "log_std_init does nothing here: it needs bounds=clip or tanh"),
    ({**EPISODES, "baseline": "optimal_per_time", "critic_target": None, "frames": 2}, "sees one observation"),
    ({"per": "step", "surrogate": "clipped", "frames": 2, "n_minibatches": 16}, "more than the 8 rows or columns"),
    ({"optimizer": "adm"}, "unknown optimizer 'adm': did you mean 'adam'"),
    ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ({"max_grad_norm": 0.0}, "'none' switches clipping off"),
    ({"clip_range": 0.0}, "clip_range must be positive"),
    ({"learning_rat": 0.1}, "unknown option 'learning_rat': did you mean 'learning_rate'"),
    ({"critic_target": None}, "need a critic: set critic_target"),
    ({**NO_CRITIC, "critic_target": "monte_carlo"}, "never use V, but critic_target='monte_carlo' trains one"),
    ({**EPISODES, "critic_target": "monte_carlo", "target_copy": "polyak"}, "needs a critic_target that bootstraps"),
    ({**NO_CRITIC, "collect": "window"}, "need whole episodes, and collect='window' cuts them"),
    ({"critic_target": "monte_carlo"}, "critic_target='monte_carlo' needs whole episodes"),
    ({**NO_CRITIC, "baseline": "leave_one_out", "n_envs": 1}, "raise n_envs to at least 2"),
    ({"n_epochs": 2}, "takes one exact gradient step a window"),
    ({"n_minibatches": 2}, "takes one exact gradient step a window"),
    ({"target_kl": 0.1, "surrogate": "clipped"}, "target_kl needs more than one gradient step"),
    ({"surrogate": "ratio", "correction": "vtrace", "target": "vtrace"}, "weighs it again: choose surrogate=score"),
    ({**NO_CRITIC, "baseline": "optimal_per_time", "policy": "gru"}, "needs a memoryless policy"),
    ({"policy": "gru", "net": ()}, "a gru policy needs at least one hidden size"),
    ({"policy": "tabular", "shared_torso": True}, "has no network to share"),
    ({"policy": "tabular", "normalize_obs": True}, "normalize_obs changes nothing in a table"),
    ({"surrogate": "clipped", "n_minibatches": 41}, "n_minibatches=41 is more than the 40 rows or columns"),
    ({"total_timesteps": 39}, "total_timesteps=39 is less than one window of n_envs × n_steps = 40"),
    ({**NO_CRITIC, "target": "total_return", "discounted": True}, "would count γ\\^t twice"),
    ({**NO_CRITIC, "target": "per_decision"}, "choose both or neither"),
    ({"target": "vtrace"}, "choose both or neither"),
    ({"correction": "truncated"}, "does not fit target='n_step', which bootstraps"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=lambda x: x[:30] if isinstance(x, str) else "")
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        make_recipe("a2c", "CartPole-v1", **changes)


USED = [
    {"gae_lambda": 0.9, "target": "lambda_return"},
    {"gae_lambda": 0.9, "critic_target": "lambda_return"},
    {"gae_lambda": 1.0},  # the preset's own value: nothing was asked for
    {"n_step": 3},
    {"clip_range": 0.1, "surrogate": "clipped"},
    {"kl_coef": 2.0, "surrogate": "kl-penalty"},
    {"target_tau": 0.5, "target_copy": "polyak"},
    {"target_every": 7, "target_copy": "periodic"},
    {"target": "mixture", "mixture": (0.5, 0.5)},
    {"target": "vtrace", "correction": "vtrace", "c_bar": 2.0, "rho_bar": 2.0, "gae_lambda": 0.5},
]


@pytest.mark.parametrize("changes", USED, ids=lambda x: next(iter(x)))
def test_an_option_that_is_used_is_welcome(changes):
    recipe = make_recipe("a2c", "CartPole-v1", **changes)
    assert {name: getattr(recipe, name) for name in changes} == changes


def test_a_whole_recipe_is_changed_as_a_preset_is():
    """A recipe of one's own may leave unused numbers anywhere; only what is asked for now must do something."""
    recipe = Recipe(kl_coef=3.0)
    assert change(recipe, gamma=0.5).kl_coef == 3.0
    with pytest.raises(RecipeError, match="clip_range does nothing here"):
        change(recipe, clip_range=0.1)


@pytest.mark.parametrize("net", [8, (8,), [8], "8", np.int64(8), np.array([8])], ids=repr)
def test_numbers_of_any_make_are_welcome(net):
    recipe = make_recipe("a2c", "chain", net=net, gamma=np.float32(0.5), n_envs=np.int64(3), discounted=np.bool_(True))
    assert recipe == make_recipe("a2c", "chain", net=(8,), gamma=0.5, n_envs=3, discounted=True)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert type(make_recipe("a2c", "chain", gamma=1).gamma) is float


def test_lists_are_typed_with_their_own_separator():
    assert make_recipe("a2c", "chain", net="8-16").net == make_recipe("a2c", "chain", net="8,16").net == (8, 16)
    assert make_recipe("a2c", "chain", net="none").net == ()
    mixed = make_recipe("a2c", "chain", target="mixture", mixture="-0.5,1.5e0")
    assert mixed.mixture == (-0.5, 1.5)


def test_unknown_names_are_explained():
    with pytest.raises(RecipeError, match="unknown algorithm 'pp0': did you mean 'ppo'"):
        get_preset("pp0")
    with pytest.raises(RecipeError, match="this version does not know: 'gama'"):
        Recipe.from_dict({"gama": 1.0})


def test_every_option_is_explained():
    for item in dataclasses.fields(Recipe):
        assert item.metadata["help"] and item.metadata["group"]


def test_recipes_and_environments_are_known_without_jax():
    code = "import sys, policygrad.run.recipes, policygrad.envs.registry; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
