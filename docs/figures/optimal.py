"""The optimal constant: on two arms it takes all variance away; computed in-sample it is biased."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from style import BLUE, DASHDOT, DASHED, EXACT, GREEN, GREY, INK, RED, canvas, label, save
from worlds import bandit, norm, with_logits

from policygrad.ladder import Psi
from policygrad.measure import gradient, ladder_moments, moments

P, REWARDS = 0.8, (1.0, 2.0)
two = bandit(REWARDS)
two_policy = with_logits(two, [0.0, np.log(P / (1 - P))])
MEAN = P * REWARDS[1] + (1 - P) * REWARDS[0]
BEST = (1 - P) * REWARDS[1] + P * REWARDS[0]
b = jnp.linspace(-0.2, 2.6, 141)
variance = jax.jit(jax.vmap(lambda b: moments(two, two_policy, Psi("total_return", "constant", b=b)).variance))

four = bandit((1.0, 0.2, -0.5, 0.6))
four_policy = with_logits(four, [0.8, 0.0, -0.4, 0.3])
truth = gradient(four, four_policy)
BATCHES = (2, 3, 4, 5, 6, 7, 8)
RUNGS = {"mean, in-sample: 1/N": "mean", "b*, in-sample": "optimal_in_sample", "b*, leave-one-out: 0": "optimal"}
psis = {name: Psi("total_return", baseline) for name, baseline in RUNGS.items()}
found = [ladder_moments(four, four_policy, psis, batch=n, reference=truth) for n in BATCHES]


def angle(a: Any, b: Any) -> float:
    """Between two gradients, in degrees."""
    inner = sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
    return float(np.degrees(np.arccos(inner / (norm(a) * norm(b)))))


figure, (left, right) = canvas(2)
left.plot(b, variance(b), color=BLUE, linewidth=2)
for at, name, place in ((0.0, "b = 0", (8, 6)), (MEAN, "E[R]", (8, -6)), (BEST, "b*", (-4, 10))):
    height = float(variance(jnp.asarray([at]))[0])
    left.plot(at, height, "o", color=RED if name == "b*" else INK, markersize=5)
    left.annotate(name, (at, height), place, textcoords="offset points", fontsize=9.5, color=INK)
left.set_ylim(bottom=-0.02)
label(left, "Two arms: variance over b", "constant baseline b", r"$E\|\hat g - E\hat g\|^2$")
for name, color, dashes in zip(RUNGS, (GREY, RED, GREEN), (DASHED, "-", DASHDOT)):
    bias = [100 * float(norm(one[name].bias) / norm(truth)) for one in found]
    right.plot(BATCHES, bias, color=color, linestyle=dashes, marker="o", markersize=4, linewidth=1.8, label=name)
turned = angle(found[0]["b*, in-sample"].mean, truth)
right.text(2.15, 53, f"turned by {turned:.1f}°", fontsize=8.5, color=RED)
right.legend(frameon=False, fontsize=8.5)
right.set_ylim(bottom=-2)
label(right, "Four arms: bias over the batch", "trajectories N", "‖bias‖ in % of ‖∇J‖")
save(figure, "optimal", f"bandits with fixed rewards; {EXACT}")
