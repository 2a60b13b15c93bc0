"""Sutton and Barto's random walk: its value solved exactly, and learned from ten episodes by n-step TD and TD(λ).

A hundred runs at once, every step size at once; the error is that of figure 7.2 of the book.
"""

from functools import partial

import numpy as np

from policygrad.envs.tabular import random_walk
from policygrad.measure.dynamic import n_step_td, policy_evaluation, sample_episodes, td_lambda


def main(runs=100, episodes=10, seed=0):
    mdp = random_walk(19)
    uniform = np.full((mdp.n_states, mdp.n_actions), 0.5)
    truth = policy_evaluation(mdp, uniform, gamma=1.0)
    print("exact values of states 1 to 5:", truth[1:6].round(3))

    step_sizes = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0])
    methods = {f"{n}-step TD": partial(n_step_td, n=n, step_size=step_sizes, gamma=1.0) for n in (1, 4, 16)}
    methods |= {f"TD({lam})": partial(td_lambda, lam=lam, step_size=step_sizes, gamma=1.0) for lam in (0.4, 0.8)}
    values = {name: np.zeros((len(step_sizes), runs, mdp.n_states)) for name in methods}
    errors = dict.fromkeys(methods, 0.0)
    rng = np.random.default_rng(seed)
    for _ in range(episodes):
        walks = sample_episodes(mdp, uniform, runs, rng)  # the same walks for every method
        for name, update in methods.items():
            values[name] = update(values[name], walks)
            off = (values[name] - truth)[..., 1:-1]  # the ends have no value
            errors[name] += np.sqrt(np.mean(off**2, axis=-1)).mean(axis=-1) / episodes
    best = {name: (float(error.min()), float(step_sizes[error.argmin()])) for name, error in errors.items()}
    for name, (error, step_size) in best.items():
        print(f"{name:>10}: RMS error {error:.3f} at a step size of {step_size:g}")
    return best


if __name__ == "__main__":
    main()
