"""What is applied is this window's gradient, added in place; a deterministic run is the synchronous one."""

import json
import threading
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import policygrad as pg
from policygrad.parallel.board import GOAL, STOP, Board, Layout
from policygrad.parallel.hogwild import Crew, NotFinite, Rules, WorkerError, entropy_coefficient, work, worker_keys
from policygrad.parallel.player import make_player
from policygrad.run import api
from policygrad.run.api import program_of
from policygrad.run.program import RunState
from policygrad.run.recipes import make_recipe
from policygrad.run.workers import diversity

TINY = {"net": (8,), "n_envs": 2, "n_steps": 4, "eval_every": 0, "total_timesteps": 4000}
RULES = Rules(seed=0, ent_coef=0.01)


@pytest.fixture(scope="module")
def setting():
    """The synchronous program of an a3c recipe with plain SGD, a player for two workers, and the state at step 0."""
    recipe = make_recipe("a2c", "CartPole-v1", optimizer="sgd", ent_coef=0.01, **TINY)
    program = program_of(recipe, recipe.env, None)
    player = make_player(program.learner, program.collector, workers=2)
    return program, player, program.init(jax.random.key(0))


def board_of(player, state, kind=Board):
    board = kind(player.layout)
    vectors = player.start(state.learner)
    board.theta[:], board.target[:], board.opt[:] = vectors["theta"], vectors["target"], vectors["opt"]
    board.control[GOAL] = 10**9
    return board


def test_the_gradient_is_this_windows(setting):
    """Window after window at one θ: each is what the learner computes from that window alone, so nothing piles up."""
    program, player, state = setting
    theta, learner = player.start(state.learner)["theta"], program.learner
    local = player.begin(theta, *worker_keys(0, 1))
    expected = jax.jit(lambda s, t, k: ravel_pytree(learner.grad(s, learner.weigh(s, t), k)[0])[0])
    for _ in range(3):
        _, collect_key, learn_key = jax.random.split(local.key, 3)
        _, trajectory, _ = program.collector.collect(learner.model(state.learner), local.collected, collect_key)
        local, window = player.play(theta, theta[:0], 0, 0.01, local)
        wanted = np.asarray(expected(state.learner, trajectory, learn_key))
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(window.grads, wanted, rtol=1e-5, atol=1e-7)


class Ledger(Board):
    """Remembers every step that was added."""

    def __init__(self, layout):
        super().__init__(layout)
        self.added = []

    def add(self, worker, delta, opt_delta):
        self.added.append((worker, delta.copy()))
        super().add(worker, delta, opt_delta)


def crew_of_threads(player, board, rules, updates):
    """Run two workers in turn until there were so many updates."""
    board.control[GOAL] = updates * 8
    workers = [threading.Thread(target=work, args=(w, player, board, rules)) for w in range(player.layout.workers)]
    for worker in workers:
        worker.start()
    while board.updates.sum() < updates:
        assert any(worker.is_alive() for worker in workers)
    board.control[STOP] = 1
    for worker in workers:
        worker.join()


def test_the_sum_of_all_updates_is_the_change_of_the_parameters(setting):
    _, player, state = setting
    board = board_of(player, state, Ledger)
    before = board.theta.astype(np.float64)
    crew_of_threads(player, board, RULES._replace(deterministic=True), 20)
    assert [worker for worker, _ in board.added] == [0, 1] * 10
    total = np.sum([delta.astype(np.float64) for _, delta in board.added], axis=0)
    assert np.abs(total).max() > 1e-4
    np.testing.assert_allclose(board.theta - before, total, atol=2e-6)
    assert board.staleness.sum(axis=0)[:3].tolist() == [1, 19, 0], "the first is fresh, then one update lies between"


def test_what_others_added_meanwhile_is_kept(setting):
    """Between this worker's copy and its addition somebody else adds ones. Whoever assigned arrays would lose them."""
    _, player, state = setting
    board = board_of(player, state)
    alone = board.theta.copy()
    meanwhile = np.ones(player.layout.params, np.float32)

    def step(opt, grads, rows):
        delta, opt_delta = player.step(opt, grads, rows)
        if np.any(grads):
            board.theta += meanwhile  # another worker, in the middle of this one's update
            board.control[STOP] = 1
        return delta, opt_delta

    work(0, player._replace(step=step), board, RULES)
    np.testing.assert_allclose(board.theta, alone + 1, atol=0.2)
    assert board.updates.sum() == 1


def test_statistics_stay_positive_however_old_the_copy_of_them_is():
    """A worker sleeps in its update while others let the mean square fall to a four-hundredth."""
    recipe = make_recipe("a3c", "CartPole-v1", workers=0, **TINY)
    program = program_of(recipe, recipe.env, None)
    player = make_player(program.learner, program.collector, workers=2)
    board, slept = board_of(player, program.init(jax.random.key(0))), []

    def step(opt, grads, rows):
        delta, opt_delta = player.step(opt, grads, rows)
        if np.any(grads) and not slept:
            slept.append(float(opt.min()))
            board.opt *= 0.99**600
            board.updates[1] += 600
        return delta, opt_delta

    board.control[GOAL] = 40
    work(0, player._replace(step=step), board, RULES)
    assert slept == [1.0] and board.updates[0] == 5
    assert board.opt.min() > 1e-3 and np.isfinite(board.theta).all()


def test_statistics_change_by_everybodys_share_and_keep_their_sign():
    board = Board(Layout(2, params=6, opt=6, target=0, normal=0, metrics=0, features=0))
    before = np.float32([5, 1, 1, 1, 0.05, -0.05])
    delta = np.float32([1, -0.01, -0.01, -0.01, -0.2, 0.2])
    board.opt[0] = [7, 2, 0.99, 0.001, 0.1, -0.1]
    # a count; what rose meanwhile; what fell; what fell too far; averages that change their sign by themselves
    expected = [8, 1.99, 0.98, 0.00099, -0.1, 0.1]
    np.testing.assert_allclose(board.opt[0] + board.bounded(0, delta, before), expected, rtol=1e-5)
    board.opt[0], before = -board.opt[0], -before
    mirrored = board.opt[0] + board.bounded(0, -delta, before)
    np.testing.assert_allclose(mirrored, -np.array(expected), rtol=1e-5)  # no sign is preferred


def test_a_mean_square_falls_as_fast_with_many_workers_as_with_one():
    """θ stays where it is, and v forgets its beginning, 1: of 400 updates without a lock what is left is 0.99⁴⁰⁰ and
    the gradients' squares, as where workers take turns."""
    options = {"engine": "threads", "workers": 4, "learning_rate": 1e-12, "lr_schedule": "constant", "eval_every": 0}
    left = {}
    for deterministic in (False, True):
        options["total_timesteps"] = 400 * TINY["n_envs"] * TINY["n_steps"]
        recipe = make_recipe("a3c", "CartPole-v1", deterministic=deterministic, **TINY | options)
        run = api.proceed(api.begin("CartPole-v1", recipe, out=None))
        left[deterministic] = np.median(run.program.board.opt)
        assert run.program.board.total_updates() >= 400
    assert left[False] == pytest.approx(left[True], rel=0.1) and left[True] < 0.1


def test_a_step_that_is_not_finite_is_not_applied(setting):
    _, player, state = setting
    board = board_of(player, state)
    alone, broken = board.theta.copy(), np.full(player.layout.params, np.nan)
    with pytest.raises(NotFinite, match="the step of a finite gradient was not finite"):
        work(0, player._replace(step=lambda opt, *_: (broken, np.zeros_like(opt))), board, RULES)
    assert np.array_equal(board.theta, alone) and not board.updates.any() and not board.adding.any()


def test_what_is_not_finite_does_not_replace_the_last_good_state(tmp_path):
    def poison(row):
        run.program.board.theta[0] = np.nan

    recipe = make_recipe("a3c", "CartPole-v1", engine="threads", log_every=100, **TINY)
    run = api.begin("CartPole-v1", recipe, out=tmp_path)
    with pytest.raises((pg.TrainingDiverged, WorkerError)):
        api.proceed(run, callback=poison)
    assert np.isfinite(ravel_pytree(pg.load(run.path, checkpoint="last").state.learner.params)[0]).all()


def test_the_program_that_merges_normalisers_does_not_grow_with_the_workers():
    recipe = make_recipe("a3c", "CartPole-v1", workers=0, normalize_obs=True, **TINY)
    program, sizes = program_of(recipe, recipe.env, None), []
    for workers in (2, 64):
        player = make_player(program.learner, program.collector, workers=workers)
        rows = np.ones((workers, player.layout.normal), np.float32)
        sizes.append(str(jax.make_jaxpr(player.merge)(np.ones(player.layout.params, np.float32), rows)).count("\n"))
    assert sizes[0] == sizes[1]


def test_staleness_of_many_workers_has_bins():
    bins = {w: Layout(w, 1, 1, 0, 0, 0, 0).fields()["staleness"][1] for w in (1, 64, 10_000)}
    assert bins == {1: (1, 64), 64: (64, 256), 10_000: (10_000, 1024)}


def test_one_worker_is_the_synchronous_algorithm(setting):
    """Bit for bit the plain loop with the same compiled functions, and the fused program's to rounding."""
    recipe = make_recipe("a2c", "CartPole-v1", ent_coef=0.01, **TINY)
    program = program_of(recipe, recipe.env, None)
    player = make_player(program.learner, program.collector, workers=1)
    state = program.init(jax.random.key(0))
    board = board_of(player, state)
    crew_of_threads(player, board, RULES._replace(deterministic=True), 10)
    assert board.staleness.sum(axis=0)[0] == 10

    vectors = player.start(state.learner)
    theta, opt = vectors["theta"], vectors["opt"]
    local, rows = player.begin(theta, *worker_keys(0, 0)), 0
    for _ in range(10):
        local, window = player.play(theta, vectors["target"], rows, np.float64(0.01), local)
        delta, opt_delta = player.step(opt, window.grads, rows)
        theta, opt, rows = theta + delta, opt + opt_delta, rows + int(window.rows)
    np.testing.assert_array_equal(board.theta, theta)
    np.testing.assert_array_equal(board.opt[0], opt)

    fused, _ = program.advance(state, jnp.int32(80))
    np.testing.assert_allclose(board.theta, player.start(fused.learner)["theta"], rtol=1e-5, atol=1e-6)
    assert isinstance(fused, RunState) and int(fused.env_steps) == 80


def test_a_deterministic_run_is_the_same_every_time():
    make = lambda: pg.train(  # noqa: E731
        "CartPole-v1", "a3c", deterministic=True, out=None, **{**TINY, "total_timesteps": 160, "eval_every": 80}
    )
    one, two = make(), make()
    for a, b in zip(jax.tree.leaves(one.state.learner.params), jax.tree.leaves(two.state.learner.params)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.history["eval/mean_reward"], two.history["eval/mean_reward"])
    assert one.env_steps == [160]


@pytest.mark.parametrize(
    "algo", ["a3c", *(pytest.param(name, marks=pytest.mark.slow) for name in ("a3c-gae", "a3c-gru"))]
)
def test_presets_train_save_and_resume_with_other_numbers_of_workers(tmp_path, algo):
    options = {**TINY, "total_timesteps": 400, "lr_schedule": "constant"}
    run = pg.train("CartPole-v1", algo, path=tmp_path / "run", tensorboard=False, **options)
    assert run.finished and run.env_steps.min() >= 400
    row = {name: values[-1] for name, values in run.history.items()}
    assert row["async/updates_per_second"] > 0 and np.isfinite(row["train/entropy"]).all()
    again = pg.resume(tmp_path / "run", total_timesteps=800, workers=3, worker_timeout=60.0, tensorboard=False)
    assert again.recipe.worker_timeout == 60
    assert again.env_steps.min() >= 800 and again.recipe.workers == 3
    assert again.evaluate(episodes=2)[0].returns.min() > 0
    with pytest.raises(pg.RecipeError, match="cannot go on with workers=0"):
        pg.resume(tmp_path / "run", total_timesteps=1200, workers=0)


def test_a_replaced_worker_goes_on_with_what_its_place_has_seen():
    recipe = make_recipe("a2c", "CartPole-v1", normalize_obs=True, **TINY)
    program = program_of(recipe, recipe.env, None)
    player = make_player(program.learner, program.collector, workers=1)
    board = board_of(player, program.init(jax.random.key(0)))
    for life in range(2):
        board.control[STOP], board.control[GOAL] = 0, 40 * (life + 1)
        work(0, player, board, RULES, life)
        board.version[0] += 1  # it dies in the middle of writing
        board.hand_over(0)
    vectors = {"theta": np.asarray(player.merge(board.theta, board.read_normal())), "target": board.target}
    learned = player.state(program.init(jax.random.key(0)).learner, vectors | {"opt": board.opt[0]})
    assert float(program.learner.model(learned).normalizer.obs.count) == board.steps[0] == 80


def test_a_run_that_ends_by_a_workers_fault_keeps_what_the_others_learned(tmp_path, monkeypatch):
    def check(crew):
        if crew.board.total_steps() >= 80:
            raise WorkerError("worker 1 failed: on purpose")

    monkeypatch.setattr("policygrad.parallel.hogwild.Crew.check", check)
    with pytest.raises(WorkerError, match=r"worker 1 failed: on purpose; stopped at [\d,]+ steps, saved in .*--resume"):
        pg.train("CartPole-v1", "a3c", path=tmp_path / "run", tensorboard=False, **TINY)
    monkeypatch.undo()
    assert pg.load(tmp_path / "run", checkpoint="last").env_steps.min() >= 80


def test_workers_merge_their_normalisers():
    options = {**TINY, "total_timesteps": 800, "normalize_obs": True, "normalize_reward": True}
    run = pg.train("CartPole-v1", "a3c", out=None, **options)
    normalizer = run.program.model(run.state).normalizer
    assert float(normalizer.obs.count) == float(normalizer.ret.count) == run.env_steps[0]
    assert (np.asarray(normalizer.obs.var) != 1).all()


def with_target(state):
    """A learner's state, and the same with its target copy in the place of θ."""
    return state, state._replace(params=state.target)


def test_a_target_copy_follows():
    """After 50 updates a copy that is renewed every 5 is θ itself; one that is renewed every 60 is where it began."""
    options = {**TINY, "total_timesteps": 400, "deterministic": True, "lr_schedule": "constant"}

    def gap(**target):
        run = pg.train("CartPole-v1", "a3c", out=None, **options, **target)
        return max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, run.state.learner[:2])))

    assert gap(target_copy="periodic", target_every=5) == 0
    seen = pg.train("CartPole-v1", "a3c", out=None, **options, target_copy="periodic", normalize_obs=True)
    ours, theirs = (seen.program.learner.model(x).normalizer for x in with_target(seen.state.learner))
    assert float(ours.obs.count) == float(theirs.obs.count) == 400, "the copy sees what θ sees"
    far, near = gap(target_copy="periodic", target_every=60), gap(target_copy="polyak", target_tau=0.5)
    assert far > near > 0


def test_statistics_are_shared_or_each_workers_own():
    options = {**TINY, "total_timesteps": 400, "deterministic": True}
    own = pg.train("CartPole-v1", "a3c", out=None, shared_statistics=False, **options)
    shared = pg.train("CartPole-v1", "a3c", out=None, **options)
    assert own.program.board.opt.shape[0] == 2 and shared.program.board.opt.shape[0] == 1
    a, b = own.program.board.opt
    assert np.abs(a - b).max() > 0, "each saw its own gradients"
    for state in (own.state, shared.state):
        assert np.isfinite(ravel_pytree(state.learner.opt_state)[0]).all()


def test_a_run_leaves_a_report_of_its_workers(tmp_path):
    options = {**TINY, "total_timesteps": 400, "lr_schedule": "constant"}
    run = pg.train("CartPole-v1", "a3c", path=tmp_path / "run", tensorboard=False, **options)
    (report,) = json.loads((tmp_path / "run" / "workers.json").read_text())
    assert sum(report["staleness"]) == sum(report["updates"]) == run.program.board.updates.sum()
    assert sum(report["steps"]) == run.env_steps[0] and len(report["shares"]) == 2
    assert all(0.99 < sum(shares.values()) < 1.01 for shares in report["shares"])
    more = pg.resume(tmp_path / "run", total_timesteps=600, tensorboard=False)
    first, second = json.loads((tmp_path / "run" / "workers.json").read_text())
    assert first == report and first["steps_before"] == 0, "every start is kept"
    assert second["steps_before"] == run.env_steps[0] and sum(second["steps"]) == more.env_steps[0] - run.env_steps[0]


def test_a_window_that_comes_in_last_is_counted(monkeypatch):
    """The budget is spent between two looks, and one more window is added while the copy of everything is made."""
    options = {**TINY, "total_timesteps": 400, "engine": "threads"}
    run = api.begin("CartPole-v1", make_recipe("a3c", "CartPole-v1", **options), out=None)
    program, board = run.program, run.program.board
    state, _ = program.advance(run.state, 200)
    while board.total_steps() < 400:
        program.crew.check()
    original, late = type(board).consistent, [8]

    def consistent(self, names, timeout=5.0):
        now = original(self, names, timeout)
        board.steps[1] += late.pop() if late else 0
        return now

    monkeypatch.setattr(type(board), "consistent", consistent)
    running = bool(program.crew.hands)
    state, _ = program.look(state)
    assert running and not program.crew.hands and int(state.env_steps) == board.total_steps()
    program.close()


def test_workers_that_begin_at_once_know_the_goal(monkeypatch):
    """Their program is compiled already, and the main thread comes after their first window."""
    start, until = Crew.start, time.monotonic() + 30

    def late(crew):
        start(crew)
        while not (crew.board.updates.any() or crew.board.control[STOP]) and time.monotonic() < until:
            time.sleep(0.001)

    recipe = make_recipe("a3c", "CartPole-v1", engine="threads", **TINY)
    run = api.begin("CartPole-v1", recipe, out=None)
    run.program.advance(run.state, 8)
    run.program.close()
    monkeypatch.setattr(Crew, "start", late)
    again = api.begin("CartPole-v1", recipe, out=None)
    assert int(again.program.advance(again.state, 400, stop=lambda: time.monotonic() > until)[0].env_steps) >= 400
    again.program.close()


def test_a_recipe_says_how_often_a_worker_is_replaced():
    recipe = make_recipe("a3c", "CartPole-v1", max_restarts=1, **TINY)
    for engine in ("processes", "threads", "ray"):
        assert program_of(replace(recipe, engine=engine), recipe.env, None).crew.rules.replacements == 1
    with pytest.raises(pg.RecipeError, match="max_restarts does nothing here: it needs workers"):
        make_recipe("a2c", "CartPole-v1", max_restarts=1)


def test_workers_explore_differently():
    betas = [entropy_coefficient(RULES._replace(ent_spread=3.0), w) for w in range(8)]
    assert len(set(betas)) == 8 and 0.01 / 3 <= min(betas) < max(betas) <= 0.03
    assert entropy_coefficient(RULES, 5) == 0.01
    keys = {str(jax.random.key_data(k)) for w in range(4) for life in range(2) for k in worker_keys(0, w, life)}
    assert len(keys) == 16


def test_diversity_is_the_share_of_variance_between_workers():
    rng = np.random.default_rng(0)
    same, apart = rng.normal(size=(2, 500, 1)), rng.normal(size=(2, 500, 1)) + np.array([[[0.0]], [[100.0]]])
    rows = lambda x: np.stack([[len(w), w.sum(), (w**2).sum()] for w in x])  # noqa: E731
    assert diversity(rows(same)) < 0.01 and diversity(rows(apart)) > 0.99
    assert np.isnan(diversity(rows(same[:1])))


def test_what_cannot_be_sent_is_one_sentence():
    import gymnasium

    with pytest.raises(pg.RecipeError, match=r"this env cannot be sent to a worker process .* set engine=threads"):
        pg.train(lambda: gymnasium.make("CartPole-v1"), "a3c", out=None, **TINY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 2}, "workers share one set of parameters"),
        ({"workers": 0, "engine": "threads"}, "engine does nothing here: it needs workers"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(pg.RecipeError, match=message):
        make_recipe("a3c", "CartPole-v1", **options)
    with pytest.raises(pg.RecipeError, match="a worker is a process already and cannot start others"):
        make_recipe("a3c", "CartPole-v1", vectorization="async")
    with pytest.raises(pg.RecipeError, match="one gradient step a window"):
        make_recipe("ppo", "CartPole-v1", workers=2)
