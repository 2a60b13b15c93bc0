"""An environment of your own: write it, check it, train on it.

python examples/own_env.py
policygrad train examples/own_env.py:Catch --algo a2c --total-timesteps 300000
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium import spaces

import policygrad as pg
from policygrad.envs import check_env


class State(NamedTuple):
    ball: Any
    paddle: Any
    height: Any


@dataclass(frozen=True)
class Catch(pg.Env):
    """A ball falls through ``size`` rows, blown about in the upper ones; a paddle below must catch it: +1, or −1."""

    size: int = 7
    time_limit: int | None = None
    observation_space = spaces.Box(0.0, 1.0, (3,))
    action_space = spaces.Discrete(3)

    def reset(self, noise):
        ball = jax.random.randint(noise, (), 0, self.size)
        state = State(ball, jnp.asarray(self.size // 2), jnp.asarray(self.size - 1))
        return state, self.observe(state)

    def step(self, noise, state, action):
        drift = jnp.where(state.height > self.size // 2, jax.random.randint(noise, (), -1, 2), 0)
        move = lambda x, by: jnp.clip(x + by, 0, self.size - 1)  # noqa: E731
        state = State(move(state.ball, drift), move(state.paddle, action - 1), state.height - 1)
        landed = state.height == 0
        reward = jnp.where(landed, jnp.where(state.ball == state.paddle, 1.0, -1.0), 0.0)
        return state, self.observe(state), reward, landed

    def observe(self, state):
        return jnp.stack(state) / (self.size - 1)


def main(total_timesteps: int = 300_000) -> float:
    env = Catch()
    for warning in check_env(env, steps=200):
        print(warning)
    run = pg.train(env, "a2c", total_timesteps=total_timesteps, eval_every=0, out=None)
    played = pg.evaluate(run, env, episodes=1000)
    print(f"caught {50 * (1 + played.mean):.0f} % of the balls; standing still catches about {100 / env.size:.0f} %")
    return played.mean


if __name__ == "__main__":
    main()
