"""Two ways to a goal: what a policy does when freedom of action is worth something.

The narrow way pays 1 and forgives nothing; the wide way pays 0.9 and lets you do as you like. Trains the soft objective
at some temperatures and compares it with the exact soft optimum.

    python examples/maximum_entropy.py
"""

import numpy as np

import policygrad as pg
from policygrad.envs.tabular import fork
from policygrad.measure import policy_probabilities
from policygrad.measure.dynamic import soft_value_iteration


def main(alphas=(0.02, 0.05, 0.1), total_timesteps=1_000_000):
    """Returns α -> (learned, exact) probability of the wide way."""
    world = fork(length=4, wide=0.9, time_limit=100)
    found = {}
    print("temperature   wide way: learned   exact")
    for alpha in alphas:
        run = pg.train(
            world,
            "maxent",
            alpha=alpha,
            gamma=1.0,
            gae_lambda=1.0,
            policy="tabular",
            n_envs=32,
            n_steps=8,
            optimizer="adam",
            learning_rate=0.02,
            lr_schedule="linear",
            max_grad_norm=None,
            total_timesteps=total_timesteps,
            eval_every=0,
            out=None,
        )
        learned = float(np.asarray(policy_probabilities(world, run.policy.model, 1))[0, 0, 1])
        exact = float(soft_value_iteration(world, 1.0, alpha).policy[0, 1])
        found[alpha] = learned, exact
        print(f"{alpha:11g}   {learned:17.3f}   {exact:5.3f}")
    return found


if __name__ == "__main__":
    main()
