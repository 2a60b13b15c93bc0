"""A Gymnasium environment of your own: write it, check it, train on it.

python examples/own_gym_env.py
policygrad check examples/own_gym_env.py:make
policygrad train examples/own_gym_env.py:make --algo a2c --total-timesteps 100000
"""

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

import policygrad as pg


class Thermostat(gymnasium.Env):
    """Keep a draughty room at 20 degrees: heating off, half or full; −|error| a step, and 5 °C is frost: an end."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.inside, self.outside = self.np_random.uniform(10, 25), self.np_random.uniform(-5, 10)
        return self.observe(), {}

    def step(self, action):
        self.outside += self.np_random.normal(0, 0.3)
        self.inside += 0.1 * (self.outside - self.inside) + 2.0 * float(action)
        reward = -abs(self.inside - 20) / 10
        return self.observe(), reward, bool(self.inside < 5), False, {}

    def observe(self):
        return np.array([self.inside - 20, self.outside], np.float32) / 10


def make() -> gymnasium.Env:
    """An episode is cut, not ended, after 50 steps."""
    return TimeLimit(Thermostat(), 50)


def main(total_timesteps: int = 100_000) -> float:
    run = pg.train(make, "a2c", total_timesteps=total_timesteps, eval_every=0, out=None, gamma=0.95)
    played = run.evaluate(episodes=100)[0]
    print(f"return {played.mean:.1f} of at most 0, over 50 steps")
    return played.mean


if __name__ == "__main__":
    main()
