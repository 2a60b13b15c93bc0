"""EnvPool's adapter, on a module that behaves as EnvPool does: a reset row after every end, lives told apart."""

import sys
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces

from policygrad.envs import host, make

Config = namedtuple("Config", "episodic_life reward_clip max_episode_steps")


class FakePool:
    """Two lives of two steps each; a lost life is followed by a reset row of the same game."""

    observation_space = spaces.Box(0, 255, (2,), np.uint8)
    action_space = spaces.Discrete(3)

    def __init__(self, num_envs, seed=42, episodic_life=False, reward_clip=True, **options):
        assert not reward_clip
        self.n, self.seed, self.lives, self.options = num_envs, seed, episodic_life, options

    def reset(self):
        self.t, self.row_ended = 0, False
        return self.show(), {}

    def show(self):
        return np.tile(np.array([self.t, self.seed], np.uint8), (self.n, 1))

    def step(self, action):
        each = lambda value: np.full(self.n, value)  # noqa: E731
        if self.row_ended:
            self.row_ended, self.t = False, self.t % 4
            return self.show(), each(np.float32(0)), each(False), each(False), {"terminated": each(0)}
        self.t += 1
        game_over = self.t == 4
        self.row_ended = game_over or (self.lives and self.t == 2)
        info = {"terminated": each(int(game_over))}
        return self.show(), each(np.float32(5)), each(self.row_ended), each(False), info

    def close(self):
        pass


@pytest.fixture
def envpool(monkeypatch):
    fake = SimpleNamespace(
        list_all_envs=lambda: ["Pong-v5"],
        make_spec=lambda name: SimpleNamespace(config=Config(False, False, 27000)),
        make=lambda name, env_type, **options: FakePool(**options),
    )
    monkeypatch.setitem(sys.modules, "envpool", fake)


@pytest.mark.parametrize(("training", "ended"), [(True, [2, 5, 8]), (False, [4, 9])])
def test_rows_of_lives_and_of_games(envpool, training, ended):
    env = make("envpool:Pong-v5", num_envs=2, training=training)
    env.reset()
    rows = [env.step(np.zeros(2, int)) for _ in range(9)]
    assert [t for t, row in enumerate(rows, 1) if row.terminated[1]] == ended
    invalid = [t for t, row in enumerate(rows, 1) if not row.valid[1]]
    assert invalid == [t + 1 for t in ended if t < 9]
    assert [t for t, row in enumerate(rows, 1) if row.over[1]] == ([5] if training else [4, 9])
    assert all(np.array_equal(row.obs, row.successor) for row in rows)
    assert sum(row.reward[0] for row in rows) == 5 * (9 - len(invalid))


def test_a_seed_makes_it_anew(envpool):
    env = make("envpool:Pong-v5", num_envs=2, max_episode_steps=9)
    assert env.time_limit == 9
    assert env._vector._options["max_episode_steps"] == 9
    assert env.reset(7)[0, 1] == 7
    assert env.clone(3, training=False).num_envs == 3


def test_names_are_explained(envpool):
    with pytest.raises(ValueError, match=r"EnvPool has no environment 'Pong-v4'. Did you mean envpool:Pong-v5\?"):
        host.make("envpool:Pong-v4")
