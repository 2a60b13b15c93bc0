"""Demonstrations: clone a driver from a few episodes, let it correct the clone, and go on by policy gradient.

python examples/clone.py
"""

import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

import policygrad as pg

ENV = "MountainCar-v0"
QUIET = {"out": None, "tensorboard": False}


class Pump(eqx.Module):
    """Push to where the car is rolling, nine times out of ten."""

    def initial(self):
        return None

    def __call__(self, input, carry):
        rolling = jnp.where(input.obs[1] < 0, 0, 2)
        return pg.Output(pg.Categorical(3.0 * jax.nn.one_hot(rolling, 3)), None, jnp.zeros(())), None


def main(episodes: int = 4, epochs: int = 200, total_timesteps: int = 50_000, judged: int = 100) -> dict[str, float]:
    """Mean returns, with actions drawn from each policy."""
    env = pg.make(ENV)
    expert = pg.Policy(Pump(), env.observation_space, env.action_space)
    with tempfile.TemporaryDirectory() as folder:
        file, path = Path(folder) / "demonstrations.safetensors", Path(folder) / "clone"
        shown = pg.record(expert, ENV, episodes=episodes, out=file)
        print(f"{shown.episodes} demonstrations, {shown.rows:,} steps, mean return {shown.returns.mean():.0f}")

        # ∇log p(τ) is the policy gradient with all weights 1: no reward is looked at.
        how = {"epochs": epochs, "normalize_obs": True}
        clone = pg.clone(file, path=path, tensorboard=False, **how)
        print(f"held-out log-likelihood {clone.best_reward[0]:.3f} nats a step")

        # The clone plays, and the expert says what it would have done.
        asked = pg.clone(shown, dagger=1, expert=expert, episodes=episodes, **how, **QUIET)

        # The same network goes on, with returns as weights. A new one would never see the top of the hill.
        budget = {"total_timesteps": total_timesteps, "eval_every": 0}
        tuned = pg.train(ENV, "reinforce-mean", init_from=path, **budget, **QUIET)

    runs = {"expert": expert, "clone": clone, "DAgger": asked, "clone, then reinforce-mean": tuned}
    found = {name: pg.evaluate(run, ENV, episodes=judged, deterministic=False).mean for name, run in runs.items()}
    for name, mean in found.items():
        print(f"{name:<27} {mean:7.1f}")
    return found


if __name__ == "__main__":
    main()
