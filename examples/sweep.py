"""γ × λ × seeds in one program: numbers are leaves of the state, and leaves sweep under ``vmap``.

python examples/sweep.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import policygrad as pg

GAMMAS = jnp.array([0.9, 0.97, 0.99, 1.0])
LAMBDAS = jnp.array([0.0, 0.8, 0.95, 1.0])

stream = pg.autoreset(pg.make("CartPole-v1"))
collector = pg.window_collector(stream, n_envs=8, n_steps=32)
learner = pg.make_learner(
    lambda key: pg.make_model(stream.env.observation_space, stream.env.action_space, key=key, net=(32,)),
    pg.Psi("lambda_return", "value"),
    kind=pg.Score(),
    hyper=pg.Hyper(learning_rate=3e-3, ent_coef=0.0, vf_coef=0.5, max_grad_norm=0.5),
    per="step",
    critic_target="lambda_return",
)


def train(gamma, lam, key, n_updates):
    """Mean return of the episodes that ended in the last quarter of a run."""
    learned = learner.init(key)
    learned = eqx.tree_at(lambda state: (state.psi.gamma, state.psi.lam), learned, (gamma, lam))

    def update(state, key):
        learned, played = state
        played, trajectory, finished = collector.collect(learner.model(learned), played, key)
        learned, _ = learner.update(learned, trajectory, key)
        return (learned, played), (jnp.sum(finished.ret * finished.done), jnp.sum(finished.done))

    state = learned, collector.init(learner.model(learned), key)
    _, (total, episodes) = jax.lax.scan(update, state, jax.random.split(key, n_updates))
    last = n_updates * 3 // 4
    return jnp.sum(total[last:]) / jnp.maximum(jnp.sum(episodes[last:]), 1)


def sweep(gammas, lambdas, seeds: int, n_updates: int) -> np.ndarray:
    """``[γ, λ, seeds]``: all runs side by side."""
    over_seeds = jax.vmap(lambda gamma, lam, key: train(gamma, lam, key, n_updates), (None, None, 0))
    over_lambdas = jax.vmap(over_seeds, (None, 0, None))
    over_gammas = jax.vmap(over_lambdas, (0, None, None))
    keys = jax.random.split(jax.random.key(0), seeds)
    return np.asarray(jax.jit(over_gammas)(gammas, lambdas, keys))


def main(seeds: int = 3, n_updates: int = 200, gammas=GAMMAS, lambdas=LAMBDAS) -> np.ndarray:
    found = sweep(gammas, lambdas, seeds, n_updates)
    print(f"{found.size} runs of {n_updates * 8 * 32:,} steps in one program; mean return at the end")
    print("           " + "".join(f"λ = {lam:<8.2f}" for lam in np.asarray(lambdas)))
    for gamma, row in zip(np.asarray(gammas), found.mean(axis=-1)):
        print(f"γ = {gamma:<6.2f} " + "".join(f"{x:<12.0f}" for x in row))
    return found


if __name__ == "__main__":
    main()
