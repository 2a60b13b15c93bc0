"""An environment that shows what happened to it: the episode, the step, and the action that it was given."""

import os
import time

import gymnasium
import numpy as np
from gymnasium import spaces

LENGTHS = (3, 2, 4, 1)
ENDS = ((True, False), (False, True), (True, True), (False, True))
"""Episode k has length LENGTHS[k % 4] and ends with ENDS[k % 4]: terminated, truncated."""
FLAT = spaces.Box(-1.0, 1000.0, (3,), np.float32)
NESTED = spaces.Dict(
    {"b": spaces.Box(-1.0, 1000.0, (1,), np.float32), "a": spaces.Tuple([FLAT, spaces.Discrete(9, start=5)])}
)


class Recorder(gymnasium.Env):
    """``first``: the number of the first episode. ``break_at``: the step that does what ``how`` says."""

    def __init__(self, first=0, nested=False, break_at=None, how="raise"):
        self.episode, self.nested, self.break_at, self.how, self.steps = first - 1, nested, break_at, how, 0
        self.observation_space = NESTED if nested else FLAT
        self.action_space = spaces.Discrete(5, start=2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self.show(-1), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t, self.steps = self.t + 1, self.steps + 1
        terminated = truncated = False
        if self.t == LENGTHS[self.episode % 4]:
            terminated, truncated = ENDS[self.episode % 4]
        answer = self.show(action), float(self.t), terminated, truncated, {}
        return self.broken(answer) if self.steps == self.break_at else answer

    def show(self, action):
        flat = np.array([self.episode, self.t, action], np.float32)
        return {"a": (flat, np.int64(5 + self.t)), "b": flat[:1]} if self.nested else flat

    def broken(self, answer):
        obs, reward, *rest = answer
        if self.how == "raise":
            raise ZeroDivisionError("division by zero")
        if self.how == "die":
            os._exit(3)
        if self.how == "hang":
            time.sleep(60)
        changed = {
            "nan reward": (obs, np.nan),
            "nan observation": (obs * np.nan, reward),
            "shape": (obs[:2], reward),
            "dtype": (obs.astype(complex), reward),
            "reward shape": (obs, np.zeros(2)),
            "four": (obs,),
        }
        return (*changed[self.how], *rest)


class Masked(gymnasium.Env):
    """Three actions, of which all but the one that has the step's number are valid. ``where`` it says so."""

    def __init__(self, where):
        self.where = where
        inner = spaces.Box(0.0, 9.0, (1,), np.float32)
        keyed = spaces.Dict({"t": inner, "action_mask": spaces.MultiBinary(3)})
        self.observation_space = keyed if where == "key" else inner
        self.action_space = spaces.Discrete(3, start=1)
        if where == "method":
            self.action_masks = self.mask

    def mask(self):
        return np.arange(3) != self.t

    def shown(self):
        obs = np.full(1, self.t, np.float32)
        info = {"action_mask": self.mask().astype(np.int8)}
        if self.where == "key":
            return {"t": obs, **info}, {}
        return obs, info if self.where == "info" else {}

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.shown()

    def step(self, action):
        self.t += 1
        obs, info = self.shown()
        return obs, 0.0, False, self.t == 2, info
