"""A model of your own: any eqx.Module with ``initial()`` and ``__call__(input, carry) -> (Output, carry)``.

This one knows that CartPole is symmetric: in the mirror, left is right. Its policy is odd and its V is even by
construction, π(left | s) = π(right | −s) and V(s) = V(−s), so every episode teaches two.

python examples/own_model.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import policygrad as pg


class Mirror(eqx.Module):
    """Two networks, seen from both sides."""

    push: eqx.nn.MLP
    worth: eqx.nn.MLP

    def __init__(self, key):
        push_key, worth_key = jax.random.split(key)
        self.push = eqx.nn.MLP(4, "scalar", 32, 2, activation=jnp.tanh, key=push_key)
        self.worth = eqx.nn.MLP(4, "scalar", 32, 2, activation=jnp.tanh, key=worth_key)

    def initial(self):
        return None  # no memory

    def __call__(self, input: pg.Input, carry):
        push = self.push(input.obs) - self.push(-input.obs)
        value = self.worth(input.obs) + self.worth(-input.obs)
        return pg.Output(pg.Categorical(jnp.stack([-push, push])), None, value), carry


def main(total_timesteps: int = 120_000, seeds: int = 2) -> dict[str, float]:
    options = dict(total_timesteps=total_timesteps, seeds=seeds, eval_every=0, out=None)
    runs, found = {}, {}
    for name, model in {"mirror": Mirror, "mlp": None}.items():
        runs[name] = pg.train("CartPole-v1", "a2c", model=model, **options)
        returns = runs[name].history["rollout/ep_rew_mean"]
        found[name] = float(np.nanmean(returns))
        print(f"{name:>7}: mean return over all of training {found[name]:.0f}, at the end {returns[-1].mean():.0f}")

    policy = runs["mirror"].policy
    state = jnp.array([0.1, 0.4, -0.05, 0.2])
    print(f"in one state and in its mirror image it does {policy.predict(state)[0]} and {policy.predict(-state)[0]}")
    return found


if __name__ == "__main__":
    main()
