"""One batch of episodes on the desk: the same trajectories, one rung of the ladder after the other.

python examples/gradient_on_the_desk.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp

import policygrad as pg

RUNGS = {
    "total return": pg.Psi("total_return", gamma=1.0),
    "reward-to-go": pg.Psi("reward_to_go", gamma=1.0),
    "… − mean of the others": pg.Psi("reward_to_go", "leave_one_out", gamma=1.0),
    "… − optimal constant": pg.Psi("reward_to_go", "optimal", gamma=1.0),
    "… − mean at that time": pg.Psi("reward_to_go", "per_time", gamma=1.0),
}


def norm_sq(tree):
    return sum(jnp.sum(x**2) for x in jax.tree.leaves(tree))


@eqx.filter_jit
def moments(model, trajectory, psi):
    """(‖ĝ‖², total variance of one trajectory's estimate)."""
    weights = psi(pg.steps_from(model, trajectory, psi))
    mean = pg.policy_gradient(model, trajectory, weights)
    samples = pg.gradient_samples(model, trajectory, weights)
    n = weights.shape[1]
    spread = norm_sq(jax.tree.map(lambda one, all: one - all, samples, mean)) / (n - 1)
    return norm_sq(mean), spread


def main(n_episodes: int = 128) -> dict[str, float]:
    stream = pg.autoreset(pg.make("CartPole-v1"), time_limit=100)
    spaces = stream.env.observation_space, stream.env.action_space
    model = pg.make_model(*spaces, key=jax.random.key(0), net=(16,), critic=False)
    collector = pg.episode_collector(stream, n_episodes)
    state = collector.init(model, jax.random.key(1))
    _, trajectory, finished = collector.collect(model, state, jax.random.key(2))
    print(f"{n_episodes} episodes, mean return {jnp.sum(finished.ret * finished.done) / n_episodes:.1f}\n")

    found = {}
    print(f"{'target − baseline':<26}{'variance':>10}{'worth':>10}")
    for name, psi in RUNGS.items():
        found[name] = float(moments(model, trajectory, psi)[1])
        print(f"{name:<26}{found[name]:>10.0f}{found['total return'] / found[name]:>9.1f}×")
    print("\nworth: so many times more episodes would the total return need for the same variance")
    return found


if __name__ == "__main__":
    main()
