"""GAE: λ walks from the critic's bias to the returns' variance, for three critics of known quality."""

import jax
import jax.numpy as jnp
import numpy as np
from style import BLUE, EXACT, GREEN, INK, RED, canvas, label, save
from worlds import norm, policy

from policygrad.envs.tabular import random_mdp
from policygrad.ladder import Psi
from policygrad.measure import gradient, moments, policy_evaluation, policy_probabilities, table_critic

GAMMA, T = 0.95, 7
mdp = random_mdp(11, 3, 2, branching=1, n_rewards=1, horizon=T)
model = policy(mdp)
truth = gradient(mdp, model, GAMMA)
exact = policy_evaluation(mdp, policy_probabilities(mdp, model, T), GAMMA)
noise = jax.random.normal(jax.random.key(0), exact.shape)
LAMBDAS = jnp.linspace(0, 1, 21)


@jax.jit
def moments_over_lambda(value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(relative bias, standard deviation) of GAE(λ) with that critic, for every λ."""

    def one(lam: jax.Array) -> tuple[jax.Array, jax.Array]:
        psi = Psi("lambda_return", "value", gamma=GAMMA, lam=lam, discounted=True)
        found = moments(mdp, model, psi, critic=table_critic(mdp, value), reference=truth)
        return norm(found.bias) / norm(truth), jnp.sqrt(found.variance) / norm(truth)

    return jax.vmap(one)(LAMBDAS)


CRITICS = {
    "V = 0": (jnp.zeros_like(exact), RED),
    "V with errors": (exact + 0.5 * noise * (exact != 0), GREEN),
    "V exact": (exact, BLUE),
}
figure, (left, right) = canvas(2)
for name, (value, color) in CRITICS.items():
    bias, std = (np.asarray(x) for x in moments_over_lambda(value))
    left.plot(LAMBDAS, 100 * bias, color=color, linewidth=2, label=name)
    right.plot(LAMBDAS, std, color=color, linewidth=2)
    right.plot(LAMBDAS, np.sqrt(bias**2 + std**2 / 16), color=color, linewidth=1, linestyle=(0, (1.2, 1.2)))
left.set_ylim(bottom=-3)
right.set_ylim(bottom=0)
left.legend(frameon=False, fontsize=9, labelcolor=INK)
right.plot([], [], color=INK, linewidth=2, label="standard deviation, one trajectory")
right.plot([], [], color=INK, linewidth=1, linestyle=(0, (1.2, 1.2)), label="root mean square error of 16")
right.legend(frameon=False, fontsize=8.5, labelcolor=INK)
label(left, "Bias", "λ", "‖bias‖ in % of ‖∇J‖")
label(right, "Noise, and the error of a batch", "λ", "in units of ‖∇J‖")
save(figure, "gae", f"random_mdp(11), {T} steps, γ = {GAMMA}; {EXACT}")
