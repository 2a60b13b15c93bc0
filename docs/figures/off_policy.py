"""Data from another policy: exact bias and error of the corrections, over the distance of the policy that acted."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import NullLocator
from style import BLUE, DASHDOT, DASHED, DOTTED, EXACT, GREEN, INK, ORANGE, PINK, RED, SOLID, canvas, label, save
from worlds import norm, policy

from policygrad.envs.tabular import random_mdp
from policygrad.ladder import Psi
from policygrad.measure import (
    enumerate_trajectories,
    gradient,
    ladder_moments,
    policy_evaluation,
    policy_probabilities,
    table_critic,
)

GAMMA, T, N = 0.9, 5, 64
mdp = random_mdp(6, 3, 2, branching=1, n_rewards=1, horizon=T)
model = policy(mdp)
other = policy(mdp, seed=9, scale=1.0)
truth = gradient(mdp, model, GAMMA)
critic = table_critic(mdp, policy_evaluation(mdp, policy_probabilities(mdp, model, T), GAMMA))
RUNGS = {
    "none": (Psi("reward_to_go", "none", gamma=GAMMA, discounted=True), RED, SOLID),
    "per trajectory": (Psi("reward_to_go", "none", "trajectory", gamma=GAMMA, discounted=True), BLUE, SOLID),
    "per decision": (Psi("per_decision", "none", "decision", gamma=GAMMA, discounted=True), GREEN, DASHED),
    "truncated at 1": (Psi("reward_to_go", "none", "truncated", gamma=GAMMA, discounted=True), ORANGE, DASHDOT),
    "V-trace, exact V": (Psi("vtrace", "value", "vtrace", gamma=GAMMA, discounted=True), PINK, DOTTED),
}
DISTANCES = jnp.linspace(0, 1.5, 16)
is_number = eqx.is_inexact_array


@jax.jit
@jax.vmap
def at(distance: jax.Array) -> tuple[dict[str, tuple[jax.Array, jax.Array]], jax.Array]:
    """Per rung (relative bias, rms error of N trajectories), and the effective share of the sample, 1/E[ρ²]."""
    mu = jax.tree.map(lambda a, b: a + distance * b if is_number(a) else a, model, other)
    psis = {name: psi for name, (psi, *_) in RUNGS.items()}
    found = ladder_moments(mdp, model, psis, batch=N, behaviour=mu, critic=critic, reference=truth)
    error = {name: jnp.sqrt(norm(m.bias) ** 2 + m.variance) / norm(truth) for name, m in found.items()}
    pairs = {name: (norm(m.bias) / norm(truth), error[name]) for name, m in found.items()}
    _, under_pi = enumerate_trajectories(mdp, model)
    _, under_mu = enumerate_trajectories(mdp, model, behaviour=mu)
    return pairs, 1 / jnp.sum(under_pi**2 / under_mu)


pairs, share = at(DISTANCES)
figure, panels = canvas(3, width=9.6, height=3.9)
for name, (_, color, dashes) in RUNGS.items():
    bias, error = (np.asarray(x) for x in pairs[name])
    for axes, y in zip(panels[1:], (100 * bias, error)):
        axes.plot(DISTANCES, y, color=color, linestyle=dashes, linewidth=1.8, label=name)
panels[0].plot(DISTANCES, 100 * np.asarray(share), color=INK, linewidth=1.8)
panels[0].set_ylim(0, 102)
panels[1].legend(frameon=False, fontsize=8.5, labelcolor=INK)
panels[1].set_ylim(bottom=-2)
panels[2].set_yscale("log")
panels[2].set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
panels[2].yaxis.set_minor_locator(NullLocator())
for axes in panels:
    axes.set_xlim(0, 1.5)
label(panels[0], "What the data are worth", "distance of μ from π (in logits)", "effective sample size in %")
label(panels[1], "Bias", "distance of μ from π (in logits)", "‖bias‖ in % of ‖∇J‖")
label(panels[2], f"Error of {N} trajectories", "distance of μ from π (in logits)", "rms error / ‖∇J‖")
figure.subplots_adjust(wspace=0.38)
save(figure, "off_policy", f"random_mdp(6), {T} steps, γ = {GAMMA}; {EXACT}")
