"""The Arcade Learning Environment: lives and whole games, true successors, the picture that everyone learns from."""

import numpy as np
import pytest

pytest.importorskip("ale_py")

from policygrad.envs import HostEnv, atari, host, make, registry
from policygrad.run.build import host_maker
from policygrad.run.devices import cores
from policygrad.run.recipes import make_recipe


def played(env, seed=3, steps=310):
    """Random Breakout: a game is over after about 300 steps."""
    env.reset(seed)
    rng = np.random.default_rng(0)
    return [env.step(rng.integers(0, 4, env.num_envs)) for _ in range(steps)]


@pytest.mark.parametrize("name", ["ALE/Breakout-v5", "gym:ALE/Breakout-v5"])
def test_what_it_shows(name):
    registry.require_trainable(name)
    env = make(name, num_envs=2)
    assert isinstance(env, HostEnv)
    assert env.observation_space.shape == (4, 84, 84)
    assert env.time_limit == 27_000
    obs = env.reset(seed=0)
    assert (obs.shape, obs.dtype) == ((2, 4, 84, 84), np.uint8)
    assert np.array_equal(obs, env.reset(seed=0))
    env.close()


def test_lives_are_ends_and_games_are_over():
    training, whole = (played(host.make("ALE/Breakout-v5", 1, training=flag)) for flag in (True, False))
    ends = [t for t, row in enumerate(training) if row.terminated[0]]
    over = [t for t, row in enumerate(training) if row.over[0]]
    assert len(over) == 1
    assert len(ends) == 5
    assert ends[-1] == over[0]
    assert [t for t, row in enumerate(whole) if row.terminated[0]] == over
    for t in range(over[0] + 1):  # the same game, until it is over
        assert np.array_equal(training[t].successor, whole[t].successor)
        assert training[t].reward == whole[t].reward
    for t in ends[:-1]:
        assert np.array_equal(training[t].obs, training[t].successor)  # the game goes on
    last = training[over[0]]
    assert not np.array_equal(last.obs, last.successor)
    assert np.array_equal(last.successor[0, :-1], training[over[0] - 1].obs[0, 1:])  # the stack moved by one frame
    assert sum(row.reward[0] for row in training[: over[0]]) >= 1


def test_the_time_limit_truncates_a_game():
    rows = played(host.make("ALE/Breakout-v5", 2, max_episode_steps=20), steps=25)
    cut = [t for t, row in enumerate(rows) if row.truncated[0]]
    assert len(cut) == 1
    assert cut[0] < 20
    assert rows[cut[0]].over[0]
    assert not np.array_equal(rows[cut[0]].obs[0], rows[cut[0]].successor[0])


def test_a_clone_for_evaluation_plays_whole_games():
    clone = host.make("ALE/Pong-v5", 2).clone(3, training=False)
    assert clone.num_envs == 3
    assert clone._recipe["training"] is False


@pytest.mark.parametrize("name", ["ALE/UpNDown-v5", "ALE/TicTacToe3D-v5"])
def test_names_of_games(name):
    host.make(name).close()


def test_one_game_to_look_at():
    pytest.importorskip("cv2")
    env = host.make_single("ALE/Breakout-v5", env_kwargs={"render_mode": "rgb_array"})
    obs, _ = env.reset(seed=0)
    assert obs.shape == (4, 84, 84)
    assert env.render().shape == (210, 160, 3)


def test_games_one_after_another_show_the_same():
    pytest.importorskip("cv2")
    env = host.make("ALE/Breakout-v5", 2, vectorization="sync", max_episode_steps=3)
    assert env.id == "ALE/Breakout-v5"
    assert env.reset(seed=0).shape == (2, 4, 84, 84)
    assert [env.step(np.zeros(2, int)).truncated.all() for _ in range(3)] == [False, False, True]


def test_one_game_to_look_at_is_the_one_that_is_trained_on():
    """Its options, and the button FIRE, without which Breakout is a still picture."""
    pytest.importorskip("cv2")
    options = {"repeat_action_probability": 0.25, "stack_num": 2, "frameskip": 2, "img_width": 40, "num_threads": 1}
    env = host.make_single("ALE/Breakout-v5", env_kwargs=options)
    assert env.observation_space.shape == (2, 84, 40)
    assert env.unwrapped.spec.kwargs["repeat_action_probability"] == 0.25
    env = host.make_single("ALE/Breakout-v5")
    env.reset(seed=0)
    ale = env.unwrapped.ale
    lives = ale.lives()

    def left() -> int:
        env.step(0)
        return ale.lives()

    assert any(left() < lives for _ in range(100)), "the ball was served, and falls"
    with pytest.raises(ValueError, match=r"one game at a time, has no option episodic_life. It has: "):
        host.make("ALE/Breakout-v5", vectorization="sync", episodic_life=True)


@pytest.mark.parametrize(
    ("options", "threads"), [({}, None), ({"workers": 2}, max(1, cores() // 2)), ({"env_kwargs": "num_threads=3"}, 3)]
)
def test_workers_share_the_cores(options, threads, monkeypatch):
    made, seen = atari.make_games, []

    def watched(name, n, **options):
        seen.append(options.get("num_threads"))
        return made(name, n, **options)

    monkeypatch.setattr(atari, "make_games", watched)
    recipe = make_recipe("a3c", "ALE/Breakout-v5", **{"workers": 1} | options)
    host_maker(recipe, recipe.env)(2, True).close()
    assert seen == [threads]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ALE/Breakot-v5", {}, r"has no game 'ALE/Breakot-v5'. Did you mean ALE/Breakout-v5"),
        ("ALE/Breakout-v5", {"wrappers": ["a:B"]}, "takes no wrappers"),
        ("ALE/Breakout-v5", {"colour": 3}, "does not take these options"),
        ("ALE/Breakout-v5", {"num_envs": 0}, "num_envs is 0"),
    ],
)
def test_wrong_requests_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        host.make(name, **options)
