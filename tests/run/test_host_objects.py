"""A user's own objects in training and in evaluation, evaluations without an end, and films."""

import time
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import FlattenObservation

import policygrad as pg
from policygrad.envs import GymnasiumEnv
from policygrad.run import api, evaluate, notes, video
from policygrad.run.recipes import make_recipe

TINY = {"net": (4,), "eval_every": 0, "out": None}


@pytest.fixture(autouse=True)
def unsaid():
    notes.SAID.clear()


class Walk(gymnasium.Env):
    """Paid 1 a step, or ``pay``; ends after five steps, if it ends; its picture shows the step."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(self, render_mode=None, ends=True, pay=1.0, shows=True):
        self.render_mode, self.ends, self.pay, self.shows = render_mode, ends, pay, shows

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), self.pay, self.ends and self.t == 5, False, {}

    def render(self):
        picture = np.zeros((21, 30, 4), np.uint8)
        picture[:, 4 * self.t :] = 255
        return picture if self.shows else None


class Blind(Walk):
    def __init__(self):
        super().__init__()


class Double(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


def walk(**options):
    return Walk(**options)


class Batch(VectorEnv):
    """Four at once, in a way of its own: nobody knows how to make another."""

    num_envs = 4
    single_observation_space, single_action_space = Walk.observation_space, Walk.action_space
    observation_space, action_space = (batch_space(space, 4) for space in (Walk.observation_space, Walk.action_space))
    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012
    steps = 0

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros((4, 2), np.float32), {}

    def step(self, action):
        self.t, self.steps = self.t + 1, self.steps + 1
        resets, ends = self.t % 6 == 0, self.t % 6 == 5
        reward = np.zeros(4) if resets else np.ones(4)
        return np.zeros((4, 2), np.float32), reward, np.full(4, ends), np.zeros(4, bool), {}


# Objects


def test_a_batch_of_the_users_own_is_trained_on_and_evaluated(tmp_path):
    batch = Batch()
    run = pg.train(batch, "a2c", total_timesteps=40, n_steps=5, path=tmp_path / "run", tensorboard=False, **TINY)
    assert run.recipe.n_envs == 4
    assert batch.steps == 15, "three windows: every sixth row is a reset, and nothing is learned from it"
    assert pg.evaluate(run, batch, episodes=6).returns.tolist() == [5] * 6
    assert run.evaluate(episodes=2)[0].mean == pg.load(tmp_path / "run", env=batch).evaluate(episodes=2)[0].mean == 5
    with pytest.raises(pg.RecipeError, match=r"Batch cannot be evaluated during training, set eval_every=0"):
        pg.train(Batch(), "a2c", total_timesteps=40, out=None)


def test_a_function_may_make_a_batch():
    made = []

    def batch():
        made.append(SyncVectorEnv([Walk] * 3))
        return made[-1]

    options = TINY | {"eval_every": 15, "eval_episodes": 2}
    run = pg.train(batch, "a2c", total_timesteps=30, n_steps=5, tensorboard=False, **options)
    assert run.recipe.n_envs == 3 and run.best_reward == 5
    assert len(made) == 2 and all(each.closed for each in made), "one is trained on, one is evaluated on"
    with pytest.raises(ValueError, match="makes 3 environments at once, not 4"):
        pg.train(batch, "a2c", n_envs=4, **TINY)


class Hangs(Walk):
    def step(self, action):
        time.sleep(60)


def test_an_environment_that_takes_too_long_ends_the_run():
    options = dict(n_envs=1, total_timesteps=40, vectorization="async", env_timeout=1.5, tensorboard=False)
    with pytest.raises(RuntimeError, match=r"environment 0 did not answer within 1.5 seconds in step.*\(env_timeout"):
        pg.train(Hangs, "a2c", **options, **TINY)
    with pytest.raises(pg.RecipeError, match="env_timeout does nothing here: it needs vectorization=async"):
        make_recipe("a2c", "gym:CartPole-v1", env_timeout=1)


def test_compiling_is_no_part_of_the_speed(monkeypatch):
    run = api.begin(Blind, "a2c", total_timesteps=40, n_envs=2, n_steps=5, log_every=10, **TINY)
    now, program = [0.0], run.program

    def advance(state, steps, stop):
        """Ten seconds, nine of which the first call compiles."""
        before = program.clock.compiling
        state, stats = program.advance(state, steps, stop)
        program.clock.compiling = before + (9 if now[0] == 0 else 0)
        now[0] += 10
        return state, stats

    monkeypatch.setattr("policygrad.run.train.time.monotonic", lambda: now[0])
    run._fit.program = replace(program, advance=advance)
    assert api.proceed(run, tensorboard=False).history["time/fps"].ravel().tolist() == [10, 1, 1, 1]


def test_whoever_is_copied_is_told(capsys):
    run = api.begin(SyncVectorEnv([Walk] * 3), "a2c", **TINY)
    assert run.recipe.n_envs == 3
    assert capsys.readouterr().err == ""
    api.begin(Walk(), "a2c", n_envs=2, **TINY)
    assert capsys.readouterr().err == "policygrad: note: Walk itself is not stepped: training makes 2 copies of it\n"


def test_wrappers_may_be_classes():
    assert api.names_of((FlattenObservation, Double, "a.b:C")) == (
        "gymnasium.wrappers.transform_observation:FlattenObservation,test_host_objects:Double,a.b:C"
    )
    with pytest.raises(pg.RecipeError, match="cannot be found by its name"):
        api.names_of(lambda env: env)


def test_an_id_is_evaluated_with_what_the_run_had(capsys):
    how = {"wrapper": "test_host_objects:Double", "env_kwargs": "pay=3.0", "n_envs": 1}
    run = api.begin("test_host_objects:Walk", "a2c", **how, **TINY)
    for name in ("test_host_objects:Walk", "test_host_objects:walk"):
        assert pg.evaluate(run, name, episodes=2).mean == run.evaluate(name, episodes=2)[0].mean == 30
    assert capsys.readouterr().err == (
        "policygrad: note: test_host_objects:walk gets what the run had: test_host_objects:Double, pay=3.0\n"
    )


# Evaluations


class Still:
    """A policy that does nothing."""

    action_space = Walk.action_space

    def seed(self, seed):
        pass

    def act(self, obs, **how):
        return np.zeros(len(obs), int), None

    def predict(self, obs, **how):
        return np.int64(0), None


def test_an_evaluation_ends_where_no_episode_does(monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "NO_LIMIT", 7)
    env = GymnasiumEnv(lambda: Walk(ends=False), 2)
    found = evaluate.evaluate_host(Still(), env, 3)
    assert found.lengths.tolist() == [7, 7, 7]
    assert "cuts episodes after 7 steps; set max_episode_steps" in capsys.readouterr().err


def test_an_evaluation_can_be_stopped():
    asked = iter([False, False, True])
    env = GymnasiumEnv(lambda: Walk(ends=False), 2)
    assert evaluate.evaluate_host(Still(), env, 3, stop=lambda: next(asked)) is None


# Films


def filmed(**options):
    return make_recipe("a2c", "test_host_objects:Walk", **options)


@pytest.mark.parametrize(("fps", "frames"), [(20, 12), (50, 6)])
def test_a_film_is_written_as_it_is_drawn(tmp_path, monkeypatch, fps, frames):
    from PIL import Image

    monkeypatch.setitem(Walk.metadata, "render_fps", fps)
    out = tmp_path / "walk.gif"
    assert video.film(Still(), filmed(), out, episodes=2, seed=0, deterministic=True) == [5, 5]
    stride = 12 // frames
    with Image.open(out) as picture:
        assert picture.n_frames == frames
        for k in range(frames):
            picture.seek(k)
            bright = np.asarray(picture.convert("L"))[0] > 127
            assert int(bright.argmax()) == 4 * (k * stride % 6)


def test_only_one_frame_is_held_at_a_time(tmp_path):
    alive = [0, 0]

    class Counted(np.ndarray):
        def __del__(self):
            alive[0] -= 1

    def frames():
        for k in range(30):
            alive[0] += 1
            alive[1] = max(alive)
            yield np.full((4, 6, 3), 8 * k, np.uint8).view(Counted)

    video.write(frames(), tmp_path / "grey.gif", 25)
    assert alive[1] <= 4


def stand_in(folder, line):
    """A program in ffmpeg's place."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\nfor last; do :; done\n{line}\n")
    program.chmod(0o755)
    return str(program)


def test_a_film_for_other_players(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "ffmpeg", lambda: stand_in(tmp_path, 'cat > "$last"'))
    out = tmp_path / "walk.mp4"
    assert video.film(Still(), filmed(), out, episodes=2, seed=0, deterministic=True) == [5, 5]
    frames = np.frombuffer(out.read_bytes(), np.uint8).reshape(12, 20, 30, 3)  # an even number of rows
    assert [int((frame[0, :, 0] > 0).argmax()) for frame in frames] == [0, 4, 8, 12, 16, 20] * 2
    monkeypatch.setattr(video, "ffmpeg", lambda: stand_in(tmp_path, "echo no codec >&2; exit 1"))
    with pytest.raises(RuntimeError, match=r"could not write walk.mp4: no codec"):
        video.film(Still(), filmed(), out, episodes=200, seed=0, deterministic=True)
    assert out.stat().st_size == frames.size, "the old film is kept"


@pytest.mark.parametrize(
    ("env", "options", "words"),
    [
        ("test_host_objects:Walk", {"env_kwargs": "shows=false"}, r"Walk cannot be drawn: render\(\) gave a NoneType"),
        ("test_host_objects:Blind", {}, "test_host_objects:Blind cannot be drawn: .*argument 'render_mode'"),
        ("gymnax:Catch-bsuite", {}, "has no pictures"),
        ("probe:action", {}, "has no pictures"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_training(env, options, words):
    with pytest.raises(pg.RecipeError, match=words):
        video.require_drawable(make_recipe("a2c", env, **options))


def test_no_film_is_no_end(tmp_path, monkeypatch, capsys):
    def broken(*args, **how):
        raise RuntimeError("no light")

    how = {"total_timesteps": 40, "n_envs": 1, "net": (4,), "eval_every": 0, "video_every": 20, "tensorboard": False}
    monkeypatch.setattr(video, "film", broken)
    run = pg.train("test_host_objects:Walk", "a2c", path=tmp_path / "run", **how)
    assert run.finished
    assert "no film at step 20: no light" in capsys.readouterr().err
    with pytest.raises(pg.RecipeError, match="cannot be drawn"):
        pg.train("test_host_objects:Walk", "a2c", path=tmp_path / "other", env_kwargs={"shows": False}, **how)
    assert not (tmp_path / "other").exists()


def test_a_pure_id_keeps_the_options_of_its_run():
    """The chain of the run has 3 states, and its only reward after two steps; the default one has 5."""
    run = pg.train("chain", "a2c", env_kwargs={"n": 3}, total_timesteps=2000, n_envs=4, **TINY)
    for env in (None, "chain"):
        assert run.evaluate(env, episodes=4, deterministic=False)[0].lengths.min() == 2
    assert pg.evaluate(run, "chain", episodes=16, deterministic=False).lengths.min() == 2
