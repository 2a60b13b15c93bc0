"""The library's pure functions, composed by hand: a stream, a collector, Ψ, a learner, a loop.

python examples/by_hand.py
"""

from functools import partial

import jax
import jax.numpy as jnp

import policygrad as pg

stream = pg.autoreset(pg.make("CartPole-v1"))
collector = pg.window_collector(stream, n_envs=16, n_steps=32)
learner = pg.make_learner(
    lambda key: pg.make_model(stream.env.observation_space, stream.env.action_space, key=key),
    pg.Psi("lambda_return", "value", gamma=0.99, lam=0.95),
    kind=pg.Score(),
    hyper=pg.Hyper(learning_rate=3e-3, ent_coef=0.0, vf_coef=0.5, max_grad_norm=0.5),
    per="step",
    critic_target="lambda_return",
)


def update(state, key):
    """Play a window, learn from it, and say what the finished episodes returned on average."""
    learned, played = state
    played, trajectory, finished = collector.collect(learner.model(learned), played, key)
    learned, _ = learner.update(learned, trajectory, key)
    return (learned, played), jnp.sum(finished.ret * finished.done) / jnp.sum(finished.done)


@partial(jax.jit, static_argnums=1)
def train(key, n_updates):
    learned = learner.init(key)
    state = learned, collector.init(learner.model(learned), key)
    return jax.lax.scan(update, state, jax.random.split(key, n_updates))


def main(n_updates: int = 400) -> list[float]:
    _, returns = train(jax.random.key(0), n_updates)
    tenth = n_updates // 10
    found = [float(jnp.nanmean(returns[i * tenth : (i + 1) * tenth])) for i in range(10)]
    for i, mean in enumerate(found):
        print(f"after {(i + 1) * tenth * 16 * 32:>7,} steps: mean return {mean:6.1f}  {'▇' * round(mean / 10)}")
    return found


if __name__ == "__main__":
    main()
