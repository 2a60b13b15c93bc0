"""What dropping γ^t does: exact bias and noise of reward-to-go with and without it, over γ."""

import jax
import jax.numpy as jnp
import numpy as np
from style import BLUE, DASHED, EXACT, RED, canvas, label, save
from worlds import norm, policy

from policygrad.envs.tabular import random_mdp
from policygrad.ladder import Psi
from policygrad.measure import gradient, moments

GAMMAS = jnp.linspace(0.5, 1, 26)
mdp = random_mdp(4, 4, 2, branching=1, n_rewards=1, horizon=8)
model = policy(mdp)


@jax.jit
@jax.vmap
def kept_and_dropped(gamma: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """(relative bias, noise-to-signal of one trajectory) with γ^t, and without."""
    truth = gradient(mdp, model, gamma)
    psis = [Psi("reward_to_go", gamma=gamma, discounted=kept) for kept in (True, False)]
    found = [moments(mdp, model, psi, reference=truth) for psi in psis]
    return [(norm(m.bias) / norm(truth), jnp.sqrt(m.variance) / norm(m.mean)) for m in found]


figure, (left, right) = canvas(2)
STYLES = ((BLUE, "-", r"with $\gamma^t$"), (RED, DASHED, r"without $\gamma^t$"))
for (bias, noise), (color, dashes, name) in zip(kept_and_dropped(GAMMAS), STYLES):
    left.plot(GAMMAS, 100 * np.asarray(bias), color=color, linestyle=dashes, linewidth=2, label=name)
    right.plot(GAMMAS, noise, color=color, linestyle=dashes, linewidth=2, label=name)
label(left, "Bias: one switch", "discount γ", "‖bias‖ in % of ‖∇J‖")
label(right, "Noise of one trajectory", "discount γ", "standard deviation / ‖mean‖")
left.legend(frameon=False, fontsize=9)
for axes in (left, right):
    axes.set_xlim(0.5, 1)
    axes.set_ylim(bottom=0 if axes is right else -3)
save(figure, "discount", f"random_mdp(4), 8 steps; {EXACT}")
