"""Shards together are one optimiser; the learner of trajectories is the synchronous one; stale work is dropped."""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.parallel.hogwild import NotFinite, Rules, worker_keys
from policygrad.parallel.player import Window, make_player
from policygrad.parallel.ray import clipped, connect, keys_of
from policygrad.parallel.sampler import make_sampler
from policygrad.parallel.servers import (
    Answer,
    Central,
    Shard,
    Start,
    Terms,
    Verdict,
    cut_opt,
    edges,
    join_opt,
    opt_shapes,
)
from policygrad.run.api import program_of
from policygrad.run.ray_workers import Made
from policygrad.run.recipes import RecipeError, make_recipe

TINY = {"net": (8,), "n_envs": 2, "n_steps": 4, "eval_every": 0, "total_timesteps": 4000}
VTRACE = {"target": "vtrace", "correction": "vtrace", "critic_target": "vtrace"}


def setting(**changes):
    """``(recipe, program, player, make)`` of one worker's run."""
    recipe = replace(make_recipe("a2c", "CartPole-v1", **TINY), **changes)
    program = program_of(recipe, recipe.env, None)
    return recipe, program, make_player(program.learner, program.collector, workers=2), Made(recipe, recipe.env, None)


def terms_of(recipe, player, **changes):
    rules = Rules(recipe.seed, recipe.ent_coef)
    return Terms(rules, player.layout, max_grad_norm=recipe.max_grad_norm, **changes)


def window_of(rows):
    return Window(None, rows, True, np.zeros(3), 0.0, 0.0, 0.0)


def pushed(shards, worker, version, parts):
    """A window's gradient, as a worker sends it: the first shard decides, the others follow."""
    verdict, answer = shards[0].push(worker, version, parts[0], (window_of(8), np.zeros(5)))
    return [answer, *(shard.follow(part, 8, verdict) for shard, part in zip(shards[1:], parts[1:]))]


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "rmsprop-tf"},
        {"optimizer": "adam", "lr_schedule": "linear"},
        {"optimizer": "sgd", "max_grad_norm": None, "target_copy": "periodic", "target_every": 2},
        {"target_copy": "polyak", "target_tau": 0.1},
    ],
)
def test_three_shards_are_one_optimiser(changes):
    """Slices with the clip done before them give what ``Learner.apply`` gives for the whole."""
    recipe, program, player, make = setting(**changes)
    learner, state = program.learner, program.init(jax.random.key(0)).learner
    begun, shapes, size = player.start(state), opt_shapes(make, player.layout.params), player.layout.params
    shards = []
    for first, end in edges(size, 3):
        part = begun["theta"][first:end], begun["target"][first:end], cut_opt(begun["opt"], shapes, first, end)
        shards.append(Shard(make, terms_of(recipe, player, shards=3), Start(*part, 0, 0)))
    answers = [shard.answer() for shard in shards]
    rng, apply = np.random.default_rng(0), jax.jit(learner.apply)
    _, unravel = jax.flatten_util.ravel_pytree(state.params)
    for scale in (0.001, 1.0, 5.0, 0.1):
        grads = (scale * rng.standard_normal(size)).astype(np.float32)
        state = apply(state, unravel(jnp.asarray(grads)))
        state = learner.renew(state._replace(updates=state.updates + 1, rows=state.rows + 8))
        sent = clipped(grads, recipe.max_grad_norm)
        answers = pushed(shards, 0, answers[0].version, [sent[i:j] for i, j in edges(size, 3)])
    expected = player.start(state)
    theta, target = (np.concatenate([getattr(a, name) for a in answers]) for name in ("theta", "target"))
    opt = join_opt([shard.look()["opt"] for shard in shards], shapes, [j - i for i, j in edges(size, 3)])
    assert np.abs(theta - begun["theta"]).max() > 1e-4
    np.testing.assert_allclose(theta, expected["theta"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(target, expected["target"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(opt, expected["opt"], rtol=1e-5, atol=1e-7)


def test_what_is_too_stale_is_dropped_and_counted():
    recipe, program, player, make = setting(optimizer="sgd")
    begun = player.start(program.init(jax.random.key(0)).learner)
    shard = Shard(make, terms_of(recipe, player, max_staleness=1), Start(**begun, updates=0, rows=0, counts={}))
    grads = [np.ones(player.layout.params, np.float32)]
    for expected in (1, 2):  # both were computed with the first parameters; the second is one update late
        assert pushed([shard], 1, 0, grads)[0].version == expected
    before = shard.answer().theta
    (answer,) = pushed([shard], 0, 0, grads)
    counts = shard.counts()
    assert answer.version == 2 and answer.rows == 16
    np.testing.assert_array_equal(answer.theta, before)
    assert counts["dropped"].tolist() == [1, 0] and counts["updates"].tolist() == [0, 2]
    assert counts["steps"].tolist() == [0, 16] and counts["staleness"].sum(axis=0)[:3].tolist() == [1, 1, 0]
    assert not answer.stop
    shard.halt()
    assert shard.answer().stop


def test_all_shards_follow_one_clock():
    """Windows reach the second shard in another order: each has the learning rate that the first one gave it, and what
    the first one dropped is dropped."""
    recipe, program, player, make = setting(optimizer="sgd", max_grad_norm=None, lr_schedule="linear")
    begun = player.start(program.init(jax.random.key(0)).learner)
    half = player.layout.params // 2
    terms = terms_of(recipe, player, shards=2, max_staleness=1)._replace(goal=3000)
    first, second = (
        Shard(make, terms, Start(begun["theta"][part], begun["target"], begun["opt"], 0, 0))
        for part in (slice(half), slice(half, 2 * half))
    )
    grads = [np.full(half, 10.0**i, np.float32) for i in range(4)]
    report = window_of(1000), np.zeros(5)
    verdicts = [first.push(0, version, g, report)[0] for version, g in zip((0, 0, 0, 2), grads)]
    assert verdicts == [Verdict(True, 0), Verdict(True, 1000), Verdict(False, 2000), Verdict(True, 2000)]
    for i in (3, 0, 2, 1):
        second.follow(grads[i], 1000, verdicts[i])
    rates = recipe.learning_rate * (1 - np.array([0, 1000, 2000]) / recipe.total_timesteps)
    for shard, before in ((first, begun["theta"][:half]), (second, begun["theta"][half : 2 * half])):
        np.testing.assert_allclose(shard.answer().theta - before, -rates @ [1.0, 10.0, 1000.0], rtol=1e-4)
    assert first.version == second.version == 3
    assert first.push(0, 3, grads[0], report)[0] == Verdict(False, 3000), "the budget is spent"


def test_nobody_is_taken_for_hung_while_the_learner_compiles(monkeypatch):
    recipe, _, player, make = setting(optimizer="sgd")
    size = player.layout.params
    shard = Shard(make, terms_of(recipe, player), Start(np.zeros(size), np.zeros(0), np.zeros(0), 0, 0))
    now = [100.0]
    monkeypatch.setattr("policygrad.parallel.servers.time.monotonic", lambda: now[0])
    for worker in range(2):
        shard.hello(worker, 0, "here")
    apply = shard.apply

    def slowly(*args):
        now[0] += 90
        return apply(*args)

    shard.apply, now[0] = slowly, 103.0
    pushed([shard], 0, 0, [np.zeros(size, np.float32)])
    assert shard.counts()["silent"].tolist() == [0, 3], "what came before it still counts"


def test_the_learner_of_trajectories_is_the_synchronous_one():
    """A fresh window gives what ``Learner.update`` gives; the same window again, two updates later, is weighed by
    V-trace: less than if it were fresh."""
    recipe, program, player, make = setting(optimizer="sgd", learning_rate=0.5, max_grad_norm=None, **VTRACE)
    learner, state = program.learner, program.init(jax.random.key(0)).learner
    begun = player.start(state)
    central = Central(make, terms_of(recipe, player, mode="trajectories"), Start(**begun, updates=0, rows=0, counts={}))
    sampler = make_sampler(learner, program.collector)
    _, sample = sampler.play(begun["theta"], sampler.begin(begun["theta"], *worker_keys(0, 1)))
    update = jax.jit(learner.update)
    for version in range(3):
        state, _ = update(state, sample.trajectory, jax.random.key(0))
        answer = central.push(1, 0, sample, np.zeros(5))
        np.testing.assert_allclose(answer.theta, player.start(state)["theta"], rtol=1e-5, atol=1e-6)
        assert answer.version == version + 1 and answer.rows == 8 * (version + 1)
    assert np.abs(answer.theta - begun["theta"]).max() > 1e-2
    fresh = sample.trajectory._replace(log_mu=np.full_like(sample.trajectory.log_mu, -20.0))
    other, _ = update(state, fresh, jax.random.key(0))
    again, _ = update(state, sample.trajectory, jax.random.key(0))
    assert np.abs(player.start(other)["theta"] - player.start(again)["theta"]).max() > 1e-4, "μ does not matter"
    counts = central.counts()
    assert counts["updates"].tolist() == [0, 3] and counts["staleness"].sum(axis=0)[:3].tolist() == [1, 1, 1]


def test_a_window_that_is_not_finite_is_never_learned_from():
    recipe, program, player, make = setting(**VTRACE)
    begun = player.start(program.init(jax.random.key(0)).learner)
    central = Central(make, terms_of(recipe, player, mode="trajectories"), Start(**begun, updates=0, rows=0, counts={}))
    sampler = make_sampler(program.learner, program.collector)
    _, sample = sampler.play(begun["theta"], sampler.begin(begun["theta"], *worker_keys(0, 0)))
    bad = sample.trajectory._replace(reward=np.full_like(sample.trajectory.reward, np.nan))
    with pytest.raises(NotFinite):
        central.push(0, 0, sample._replace(trajectory=bad), np.zeros(5))
    np.testing.assert_array_equal(central.answer().theta, begun["theta"])
    assert central.counts()["updates"].sum() == 0


def test_normalisers_learn_from_every_workers_rewards_apart():
    """Running returns belong to a worker's own streams."""
    recipe, program, player, make = setting(normalize_obs=True, normalize_reward=True, **VTRACE)
    begun = player.start(program.init(jax.random.key(0)).learner)
    central = Central(make, terms_of(recipe, player, mode="trajectories"), Start(**begun, updates=0, rows=0, counts={}))
    sampler = make_sampler(program.learner, program.collector)
    for worker in (0, 1, 1):
        _, sample = sampler.play(begun["theta"], sampler.begin(begun["theta"], *worker_keys(0, worker)))
        answer = central.push(worker, central.version, sample, np.zeros(5))
    merged = np.asarray(player.merge(answer.theta, answer.normal))
    assert np.isfinite(merged).all()
    np.testing.assert_allclose(merged, answer.theta, rtol=1e-6)
    assert not np.allclose(*central.returns)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ray_mode": "trajectories"}, "set target=vtrace, correction=vtrace and critic_target=vtrace"),
        ({"ray_mode": "trajectories", "shards": 2, **VTRACE}, "set shards=1"),
        ({"ray_mode": "both"}, "unknown ray_mode 'both'"),
        ({"deterministic": True}, "drop one of the two"),
        ({"shared_statistics": False}, "set shared_statistics"),
    ],
)
def test_choices_that_make_no_sense(changes, words):
    with pytest.raises(RecipeError, match=words):
        make_recipe("a3c", "CartPole-v1", engine="ray", **TINY, **changes)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'policygrad\[ray\]'"):
        connect("", 1)


def test_a_resumed_run_has_other_random_numbers():
    def keys(rows):
        answer = Answer(0, np.zeros(1), np.zeros(0), rows, np.zeros((1, 0)), False)
        return [jax.random.key_data(key).tolist() for key in keys_of(3, 1, 0, answer)]

    assert keys(0) == [jax.random.key_data(key).tolist() for key in worker_keys(3, 1)]
    assert keys(4000) != keys(0)


def test_a_server_that_goes_on_says_how_many_steps_lie_behind_it():
    recipe, program, player, make = setting()
    vectors = player.start(program.init(jax.random.key(0)).learner)
    shard = Shard(make, terms_of(recipe, player), Start(*vectors.values(), updates=7, rows=4000))
    assert shard.hello(0, 0, "here").rows == 4000
