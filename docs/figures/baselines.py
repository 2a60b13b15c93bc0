"""Baselines side by side: exact variance and exact bias of a batch of three episodes."""

import jax.numpy as jnp
import numpy as np
from style import BLUE, EXACT, GREY, INK, RED, canvas, label, save
from worlds import norm, policy

from policygrad.envs.tabular import TabularMDP, random_mdp
from policygrad.ladder import Psi
from policygrad.learn import steps_from
from policygrad.measure import (
    action_values,
    enumerate_trajectories,
    gradient,
    ladder_moments,
    policy_evaluation,
    policy_probabilities,
    table_critic,
)

GAMMA, N, T = 0.9, 3, 3
base = random_mdp(8, 3, 2, branching=1, n_rewards=1, horizon=T)
mdp = TabularMDP(base.initial, base.transition, base.reward_value + 1, horizon=T)
model = policy(mdp)
truth = gradient(mdp, model, GAMMA)
value = policy_evaluation(mdp, policy_probabilities(mdp, model, T), GAMMA)

NAMES = {
    "none": "none",
    "mean": "mean",
    "leave_one_out": "leave-one-out",
    "per_time": "mean per time",
    "optimal": "b*, leave-one-out",
    "optimal_per_time": "b* per time, leave-one-out",
    "value": "V(s), exact",
}
ORDER = ("none", "mean", "leave_one_out", "per_time", "optimal", "optimal_per_time", "known", "value", "sees")
rungs = {name: Psi("reward_to_go", name, gamma=GAMMA, discounted=True) for name in NAMES}
found = ladder_moments(mdp, model, rungs, batch=N, critic=table_critic(mdp, value), reference=truth)

# Two more, each a constant that broadcasts: b* as if it were known, and Q(s, a), which sees the action.
trajectory, probability = enumerate_trajectories(mdp, model)
scored = steps_from(model, trajectory, Psi("reward_to_go", "optimal", gamma=GAMMA, discounted=True))
best = probability @ scored.score_cov / (probability @ scored.score_sq)
q = jnp.stack([action_values(mdp, v, GAMMA) for v in value[1:]])[trajectory.time, trajectory.obs, trajectory.action]
constants = {"known": jnp.broadcast_to(best, q.shape), "sees": q}
psis = {name: Psi("reward_to_go", "constant", gamma=GAMMA, discounted=True, b=b) for name, b in constants.items()}
constants = ladder_moments(mdp, model, psis, batch=N, reference=truth)
NAMES |= {"known": "b*, known", "sees": "Q(s, a): sees the action"}
found = {NAMES[name]: (found | constants)[name] for name in ORDER}

places = np.arange(len(found))[::-1]
variance = np.array([float(m.variance) for m in found.values()])
bias = np.array([100 * float(norm(m.bias) / norm(truth)) for m in found.values()])
figure, (left, right) = canvas(2, height=4.1, sharey=True)
for axes, numbers, form in ((left, variance, "{:.3f}"), (right, bias, "{:.1f} %")):
    for place, number in zip(places, numbers):
        color = RED if bias[len(places) - 1 - place] > 1e-6 else BLUE
        axes.plot([0, number], [place, place], color=color, linewidth=1.4)
        axes.plot(number, place, "o", color=color, markersize=5)
        words = form.format(number if number > 1e-9 else 0)
        axes.annotate(words, (number, place), (7, 0), textcoords="offset points", fontsize=8.5, color=INK, va="center")
    axes.grid(False)
    axes.set_xlim(0, 1.25 * numbers.max())
    axes.tick_params(axis="y", length=0)
left.set_yticks(places, list(found), fontsize=9)
label(left, "Variance", r"$E\|\hat g - E\hat g\|^2$", "")
label(right, "Bias", "‖bias‖ in % of ‖∇J‖", "")
right.text(0.98, 0.93, "red: biased", transform=right.transAxes, color=GREY, fontsize=8.5, ha="right")
figure.subplots_adjust(left=0.27, wspace=0.1)
save(figure, "baselines", f"random_mdp(8) with rewards + 1, {T} steps, γ = {GAMMA}, N = {N}; {EXACT}")
