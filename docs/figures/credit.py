"""Who gets the credit, how far to go, and where the variance comes from: a walk with a delayed reward, and CartPole."""

import jax
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from style import BLUE, DASHDOT, DASHED, DOTTED, FAINT, GREEN, GREY, INK, RED, SOLID, canvas, curves, label, save

import policygrad as pg
from policygrad.collect import episode_collector
from policygrad.envs.core import autoreset
from policygrad.envs.tabular import chain
from policygrad.measure import policy_evaluation, table_critic
from policygrad.measure.credit import credit, direction_of, step_curve
from policygrad.measure.decomposition import decompose
from policygrad.measure.rungs import make_rungs
from policygrad.models import make_model

GAMMA = 0.9
NAMES = {"likelihood": "Ψ = 1", "reinforce": "total return", "reinforce-togo": "reward-to-go", "actor-critic": "TD(0)"}
COLORS = {"likelihood": GREY, "reinforce": RED, "reinforce-togo": GREEN, "actor-critic": BLUE}
LINES = {"likelihood": SOLID, "reinforce": DASHED, "reinforce-togo": DASHDOT, "actor-critic": DOTTED}
DIVERGING = LinearSegmentedColormap.from_list("credit", [RED, "#ffffff", BLUE])


def play(stream, model, n, seed):
    """n whole episodes."""
    collector = episode_collector(stream, n)
    start, play = jax.random.split(jax.random.key(seed))
    return jax.jit(lambda: collector.collect(model, collector.init(model, start), play)[1])()


# Credit on a walk whose only reward is at its end

mdp = chain(6, slip=0.1, horizon=40, time_limit=40)
walker = make_model(mdp.observation_space, mdp.action_space, policy="tabular", key=jax.random.key(0))
critic = table_critic(mdp, policy_evaluation(mdp, np.full((6, 2), 0.5), GAMMA))
walks = play(autoreset(mdp), walker, 64, seed=0)
rungs = {"likelihood": None} | make_rungs(["reinforce-togo", "actor-critic"], gamma=GAMMA, objective="approximation")
found = credit(walker, walks, rungs, gamma=GAMMA, critic=critic)

length = found.mask.sum(axis=0)
wrong = (np.asarray(walks.action) == 0).sum(axis=0, where=found.mask)
chosen = next(i for i in np.argsort(-wrong) if 9 <= length[i] <= 12 and found.ret[i] > 0)
steps = length[chosen]

figure, (left, middle, right) = canvas(3, width=9.8, height=3.7, gridspec_kw={"width_ratios": [1.15, 1.15, 1]})
for axes, field, title in ((left, "psi", "Ψ along one walk"), (middle, "change", "After one step: change of log π")):
    for row, name in enumerate(NAMES):
        numbers = getattr(found.rungs[name], field)[:steps, chosen]
        axes.imshow(
            numbers[None] / np.abs(numbers).max(), cmap=DIVERGING, vmin=-1.3, vmax=1.3, aspect="auto",
            extent=(-0.5, steps - 0.5, row + 0.42, row - 0.42),
        )  # fmt: skip
        for t in range(steps):
            arrow = "→" if walks.action[t, chosen] == 1 else "←"
            axes.text(t, row, arrow, ha="center", va="center", fontsize=9, color=INK)
    axes.set_xlim(-0.5, steps - 0.5)
    axes.set_ylim(len(NAMES) - 0.5, -0.5)
    axes.set_yticks(range(len(NAMES)), NAMES.values() if axes is left else [""] * len(NAMES), fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.grid(False)
    label(axes, title, "step t", "")
for name, words in NAMES.items():
    if name in ("likelihood", "actor-critic"):
        right.plot(found.ret, found.rungs[name].total, "o", color=COLORS[name], markersize=3, alpha=0.6, linewidth=0)
    slope, start = np.polyfit(found.ret, found.rungs[name].total, 1)
    ends = np.array([found.ret.min(), found.ret.max()])
    right.plot(ends, start + slope * ends, color=COLORS[name], linestyle=LINES[name], linewidth=1.6, label=words)
right.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
right.legend(frameon=False, fontsize=8, labelcolor=INK)
label(right, "All 64 walks", "return R(τ)", "change of log p(τ), nats")
figure.subplots_adjust(left=0.1, right=0.98, wspace=0.3)
middle.set_position(middle.get_position().translated(-0.045, 0))
figure.text(0.1, 0.115, "blue: above zero, orange: below; each row on its own scale", fontsize=8, color=GREY)
save(figure, "credit", f"chain(6, slip=0.1), γ = {GAMMA}, uniform policy, 64 walks, KL = 0.001 per row, seed 0")
print(f"{found.pairs} pairs of rows with the same state and action; their gradients conflict:")
for name, words in NAMES.items():
    print(f"  {words:14} {100 * found.rungs[name].conflict:5.1f} %   correlation {found.correlation(name):+.2f}")


def told(estimate):
    """A number with half its interval."""
    return f"{estimate.value:,.0f} ± {1.96 * estimate.error:,.0f}"


def percent(share):
    """A share with its interval."""
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


# CartPole with a policy in the middle of its training

ALGO, TRAINED, SEED, EPISODES, BATCHES = "ppo", 40_000, 1, 16, 8
model = pg.train("CartPole-v1", ALGO, total_timesteps=TRAINED, seed=SEED, out=None).policy.model
stream = autoreset(pg.make("CartPole-v1"))

DIRECTIONS = {
    "reinforce": ("total return", RED, DASHED),
    "reinforce-togo": ("reward-to-go", GREEN, DASHDOT),
    "gae": ("GAE(0.95)", BLUE, SOLID),
}
rungs = make_rungs(list(DIRECTIONS), gamma=0.99, objective="approximation")
LENGTHS = np.geomspace(1e-4, 1.0, 9)


figure, (axes,) = canvas(1, width=6.4, height=3.8)
batches = [play(stream, model, EPISODES, seed=100 + i) for i in range(BATCHES)]
for name, (words, color, dashes) in DIRECTIONS.items():
    found = [direction_of(rungs[name], model, batch, LENGTHS) for batch in batches]
    points = [step_curve(stream, model, *each, episodes=128) for each in found]
    kl = np.exp(np.mean(np.log([[p.kl for p in each] for each in points]), axis=0))
    gain = np.array([[p.gain.value for p in each] for each in points])
    curves(axes, kl, gain.T, words, color, dashes)
before = points[0][0].ret.value - points[0][0].gain.value
axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)
axes.set_xscale("log")
axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper left")
label(axes, f"From a return of {before:.0f}: gain after one step", "KL of the step, nats per row", "change of return")
how = f"CartPole-v1, {ALGO} at {TRAINED:,} steps (seed {SEED}); {BATCHES} batches of {EPISODES} episodes; 95 % band"
save(figure, "how-much-to-update", how)

parts = decompose(stream, model, gamma=0.99, discounted=False, states=1024, actions=4, continuations=4, seed=SEED)
print(f"variance of one row's term, return {before:.0f}, 1024 states × 4 actions × 4 continuations:")
for words, part in (("without baseline", parts.plain), ("with V", parts.value)):
    print(f"  {words:17} total {told(part.total)}")
    for name in ("trajectory", "action", "state"):
        print(f"    {name:11} {told(getattr(part, name).variance)}, {percent(getattr(part, name).share)}")
print(f"  the best baseline takes away {told(parts.removable.variance)}, {percent(parts.removable.share)}")
print(f"  and leaves of the action's part {told(parts.best.variance)}: {parts.verdict}")
