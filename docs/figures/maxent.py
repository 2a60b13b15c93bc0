"""What entropy is worth: the soft objective beside the one-step bonus, exact and learned, on the fork; and a
temperature that finds its own value."""

import numpy as np
from scipy.special import softmax
from style import BLUE, DASHED, GREY, INK, RED, SOLID, canvas, label, save

import policygrad as pg
from policygrad.envs.tabular import fork
from policygrad.measure import policy_probabilities
from policygrad.measure.dynamic import policy_evaluation, soft_value_iteration, value_iteration

mdp = fork(4, 0.9, time_limit=100)
ALPHAS = np.geomspace(0.01, 1, 60)
TRAINED = (0.02, 0.05, 0.1, 0.2, 0.5)
SEEDS, STEPS = 4, 1_000_000
HOW = dict(
    policy="tabular", n_envs=32, n_steps=8, gamma=1.0, gae_lambda=1.0, optimizer="adam", learning_rate=0.02,
    lr_schedule="linear", max_grad_norm=None, eval_every=0, total_timesteps=STEPS, seeds=SEEDS, out=None,
)  # fmt: skip


def bonus_optimum(beta):
    """Where the bonus comes to rest: π(a | s) = exp(Q^π(s, a)/β)/Z with the hard Q^π, found by repetition."""
    policy = np.full((mdp.n_states, mdp.n_actions), 0.5)
    for _ in range(1000):
        value = policy_evaluation(mdp, policy, 1.0)
        reward = np.sum(mdp.transition * mdp.reward_value[..., 0], axis=-1)
        policy, before = softmax((reward + mdp.transition @ value) / beta, axis=-1), policy
        if np.abs(policy - before).max() < 1e-12:
            return policy
    raise RuntimeError(f"no rest at {beta}")


def learned(algo, **coefficient):
    """π of every seed, ``[seeds, S, A]``."""
    run = pg.train(mdp, algo, **HOW, **coefficient)
    return np.stack([np.asarray(policy_probabilities(mdp, policy.model, 1))[0] for policy in run.policies])


def plain_return(policy):
    """What it earns, entropy not counted."""
    return policy_evaluation(mdp, policy, 1.0)[0]


optimum = {"soft": [soft_value_iteration(mdp, 1.0, a).policy for a in ALPHAS], "bonus": [*map(bonus_optimum, ALPHAS)]}
found = {
    "soft": [learned("maxent", alpha=a) for a in TRAINED],
    "bonus": [learned("a2c-gae", ent_coef=a) for a in TRAINED],
}
best = value_iteration(mdp, 1.0).value[0]

figure, (left, middle, right) = canvas(3, width=9.8, height=3.7)
for name, color, line, words in (
    ("soft", BLUE, SOLID, "soft objective, α"),
    ("bonus", RED, DASHED, "one-step bonus, β"),
):
    left.plot(ALPHAS, [p[0, 1] for p in optimum[name]], color=color, linestyle=line, linewidth=1.6, label=words)
    middle.plot(ALPHAS, [plain_return(p) for p in optimum[name]], color=color, linestyle=line, linewidth=1.6)
    for a, policies in zip(TRAINED, found[name]):
        left.plot([a] * SEEDS, policies[:, 0, 1], "o", color=color, markersize=3.5, alpha=0.7)
        middle.plot([a] * SEEDS, [plain_return(np.float64(p) / np.float64(p).sum(-1, keepdims=True)) for p in policies],
                    "o", color=color, markersize=3.5, alpha=0.7)  # fmt: skip
for axes in (left, middle):
    axes.set_xscale("log")
left.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left")
left.set_ylim(-0.03, 1.25)
left.set_yticks(np.linspace(0, 1, 6))
middle.axhline(best, color=GREY, linewidth=0.8)
middle.text(1, best + 0.005, "the best return", fontsize=8, color=GREY, ha="right")
label(left, "The wide way", "α or β", "probability at the fork")
label(middle, "What it earns", "α or β", "return, entropy not counted")

TARGET = 0.5
for start, color, line in ((0.02, BLUE, SOLID), (1.0, RED, DASHED)):
    how = HOW | dict(total_timesteps=3_000_000, lr_schedule="constant", seeds=1, log_every=20_000)
    run = pg.train(mdp, "maxent", alpha=start, target_entropy=TARGET, alpha_rate=0.01, **how)
    steps = run.history["time/total_timesteps"] / 1e6
    right.plot(steps, run.history["train/alpha"].ravel(), color=color, linestyle=line, linewidth=1.6)
    right.plot(steps, run.history["train/entropy"].ravel(), color=color, linestyle=line, linewidth=0.9, alpha=0.8)
right.axhline(TARGET, color=GREY, linewidth=0.8)
right.set_yscale("log")
right.text(3, TARGET * 1.15, "entropy (thin), target 0.5", fontsize=8, color=GREY, ha="right")
right.text(3, 0.036, "temperature α", fontsize=8, color=GREY, ha="right")
label(right, "A temperature that is steered", "million steps", "nats, or reward per nat")

index = TRAINED.index(0.1)
at = int(np.argmin(np.abs(ALPHAS - 0.1)))
exact = {"soft": soft_value_iteration(mdp, 1.0, 0.1).policy, "bonus": bonus_optimum(0.1)}
for name in ("soft", "bonus"):
    p = found[name][index]
    print(f"{name} at 0.1: wide way exact {exact[name][0, 1]:.4f}, learned {p[:, 0, 1].round(4)}, "
          f"return exact {plain_return(exact[name]):.4f}")  # fmt: skip
save(
    figure,
    "maxent",
    how=f"points: seeds 0 to {SEEDS - 1}, {STEPS:,} steps each; lines: dynamic programming, float64; right: seed 0",
)
