"""Where episodes begin, who explores, how long it lasts and how far one looks: five small worlds, four pictures.

Every return is exact: that of the policy learned so far, by dynamic programming. ``python docs/figures/horizons.py
ledge`` draws one of them: ledge, horizons, resets or diversity.
"""

import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from style import BLUE, DASHDOT, DASHED, GREEN, GREY, INK, PINK, RED, canvas, curves, label, save

import policygrad as pg
from policygrad.envs.lessons import apprentice, climb, ledge, near_far, orchard
from policygrad.envs.tabular import TabularMDP
from policygrad.measure import (
    gradient,
    ladder_moments,
    objective,
    policy_evaluation,
    policy_probabilities,
    value_iteration,
)


class Learned(NamedTuple):
    """``[updates, seeds]`` the exact returns of the policies on the way, ``[seeds, S]`` how often states were seen."""

    returns: np.ndarray
    visits: np.ndarray


def learn(
    world: TabularMDP,
    judge: TabularMDP,
    *,
    updates: int,
    n_envs: int,
    seeds: int,
    rate: float,
    ent_coef: float = 0.0,
    baseline: str = "none",
    horizon: int | None = None,
) -> Learned:
    """REINFORCE with reward-to-go on ``world``, a softmax table and plain gradient steps; judged on ``judge``."""
    collector = pg.episode_collector(pg.autoreset(world, world.horizon), n_envs)
    spaces = world.observation_space, world.action_space
    learner = pg.make_learner(
        lambda key: pg.make_model(*spaces, key=key, policy="tabular", critic=False, horizon=horizon),
        pg.Psi("reward_to_go", baseline, gamma=1.0),
        kind=pg.Score(),
        hyper=pg.Hyper(rate, ent_coef, vf_coef=0.0, max_grad_norm=jnp.inf),
        optimizer="sgd",
    )

    def update(state: Any, key: Any) -> Any:
        learned, played = state
        worth = objective(judge, learner.model(learned))
        played, trajectory, _ = collector.collect(learner.model(learned), played, key)
        seen = jax.nn.one_hot(trajectory.obs, world.n_states) * trajectory.mask[..., None]
        return (learner.update(learned, trajectory, key)[0], played), (worth, jnp.sum(seen, axis=(0, 1)))

    def run(key: Any) -> Any:
        learned = learner.init(key)
        state = learned, collector.init(learner.model(learned), key)
        _, (worth, seen) = jax.lax.scan(update, state, jax.random.split(key, updates))
        return worth, jnp.sum(seen, axis=0)

    returns, visits = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), seeds))
    return Learned(np.asarray(returns).T, np.asarray(visits))


def uniform(world: TabularMDP) -> Any:
    return pg.make_model(world.observation_space, world.action_space, key=jax.random.key(0), policy="tabular")


def norm(tree: Any) -> float:
    return float(jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree))))


def draw_resets() -> None:
    """The same climb, begun at the foot, or half of the time somewhere on the way."""
    n, updates, seeds = 16, 600, 8
    judge = climb(n, time_limit=2 * n)
    figure, (left, middle, right) = canvas(3, width=9.6, height=3.5)
    for good, color, dashes, name in ((0.0, RED, DASHED, "from the foot"), (0.5, BLUE, "-", "half on the way")):
        world = climb(n, good, time_limit=2 * n)
        found = learn(world, judge, updates=updates, n_envs=16, seeds=seeds, rate=1.0)
        seen = found.visits.mean(axis=0)[:n]
        left.plot(np.arange(n), np.maximum(seen, 0.1), color=color, linestyle=dashes, marker="o", markersize=3)
        curves(middle, np.arange(updates), found.returns, name, color, dashes)
        lengths = range(2, 25, 2)
        slopes = [norm(gradient(w, uniform(w))) for w in (climb(k, good, time_limit=2 * k) for k in lengths)]
        right.plot(lengths, slopes, color=color, linestyle=dashes, marker="o", markersize=3)
        print(f"climb, good={good}: return {found.returns[-1].mean():.3f}, seen {seen.round().tolist()}, ‖∇J‖ {slopes}")
    left.set(yscale="log", xticks=range(0, n, 5))
    middle.set(ylim=(-0.03, 1.03))
    middle.legend(frameon=False, fontsize=8.5, loc="center right", bbox_to_anchor=(1.03, 0.5), handlelength=1.4)
    right.set(yscale="log")
    label(left, "Visits while learning", "place, from the foot up", "")
    label(middle, "Return from the foot", "update (16 episodes)", "")
    label(right, "‖∇J‖ at the start, exact", "steps to the top", "")
    save(figure, "resets", f"climb({n}), reward-to-go, softmax table, steps of 1.0; seeds 0–{seeds - 1}, 95 % bands")


def draw_diversity() -> None:
    """A small reward at once hides a large one: one worker, several, or one with an entropy bonus."""
    world, updates, seeds = near_far(time_limit=10), 1000, 32
    options = dict(updates=updates, seeds=seeds, rate=0.2)
    figure, (left, right) = canvas(2, width=8.6, height=3.6)
    runs = {
        "1 worker": (left, dict(n_envs=1), RED, DASHED),
        "4 workers": (left, dict(n_envs=4), PINK, DASHDOT),
        "16 workers": (left, dict(n_envs=16), BLUE, "-"),
        "1 worker, no bonus": (right, dict(n_envs=1), RED, DASHED),
        "entropy bonus 0.3": (right, dict(n_envs=1, ent_coef=0.3), GREEN, DASHDOT),
        "entropy bonus 0.6": (right, dict(n_envs=1, ent_coef=0.6), BLUE, "-"),
    }
    for name, (axes, changes, color, dashes) in runs.items():
        found = learn(world, world, **options, **changes).returns
        out = int((found[-1] > 25).sum())
        curves(axes, np.arange(updates), found, f"{name}: {out} of {seeds} out", color, dashes)
        print(f"near_far, {name}: {out} of {seeds} end above 25, mean {found[-1].mean():.2f}")
    patient = learn(world, world, **options | {"updates": 16 * updates}, n_envs=1).returns[-1]
    print(f"near_far, 1 worker, 16 times the updates: {int((patient > 25).sum())} of {seeds} end above 25")
    for axes, title in ((left, "More workers, as many updates"), (right, "One worker, entropy")):
        axes.axhline(1, color=GREY, linewidth=0.8)
        axes.set(ylim=(0, 52))
        axes.legend(frameon=False, fontsize=8.5, loc="lower right")
        label(axes, title, "update", "exact return")
    save(figure, "diversity", f"near_far(): 1 at once or 50 after 6 steps; rate 0.2; seeds 0–{seeds - 1}, 95 % bands")


def best_blind(world: TabularMDP) -> tuple[float, float]:
    """The best constant probability of felling, and what it brings: a search over a fine grid."""
    chances = np.linspace(0, 1, 2001)
    probs = np.stack([1 - chances, chances], axis=1)
    worth = jax.vmap(lambda p: policy_evaluation(world, jnp.stack([p, p]), 1.0)[0, 0])(jnp.asarray(probs))
    best = int(jnp.argmax(worth))
    return float(chances[best]), float(worth[best])


def draw_horizons() -> None:
    """Left: a policy that sees the time to go. Right: cuts that are bootstrapped, or taken for ends."""
    world, updates, seeds = orchard(), 1500, 8
    figure, (left, right) = canvas(2, width=8.6, height=3.6)
    options = dict(updates=updates, n_envs=32, seeds=seeds, rate=0.05, baseline="leave_one_out")
    aware, (chance, blind) = float(value_iteration(world, 1.0).value[0, 0]), best_blind(world)
    for name, horizon, color, dashes in (("sees T − t", 10, BLUE, "-"), ("does not", None, RED, DASHED)):
        found = learn(world, world, **options, horizon=horizon).returns
        curves(left, np.arange(updates), found, name, color, dashes)
        print(f"orchard, {name}: {found[-1].mean():.2f}")
    print(f"orchard: best {aware}, best without the time {blind:.3f} with chance {chance}")
    for best in (aware, blind):
        left.axhline(best, color=GREY, linewidth=0.8)
        left.annotate(f"best: {best:.2f}", (updates, best), (0, 3), textcoords="offset points", ha="right", fontsize=8)
    left.set(ylim=(8, 18))
    left.legend(frameon=False, fontsize=8.5, loc="center right", bbox_to_anchor=(1, 0.62))
    label(left, "An orchard of ten years", "update (32 episodes)", "exact return")

    gamma, endless = 0.95, apprentice()
    cuts = (4, 5, 6, 8, 12)
    lines = {"cut: V goes on": ("time_limit", BLUE, "-"), "taken for an end": ("horizon", RED, DASHED)}
    for name, (kind, color, dashes) in lines.items():
        worth = [true_worth(apprentice(**{kind: cut}), endless, gamma) for cut in cuts]
        curves(right, cuts, np.array(worth), name, color, dashes)
        print(f"apprentice, {name}: {dict(zip(cuts, np.round(np.mean(worth, axis=1), 2)))}")
    for best, words in ((float(value_iteration(endless, gamma).value[0]), "learn"), (1 / (1 - gamma), "odd jobs")):
        right.axhline(best, color=GREY, linewidth=0.8)
        right.annotate(f"{words}: {best:.1f}", (12, best), (0, 3), textcoords="offset points", ha="right", fontsize=8)
    right.set(ylim=(15, 38), xticks=cuts)
    right.legend(frameon=False, fontsize=8.5, loc="center right")
    label(right, "An apprentice, watched for a few steps", "steps until the cut", "worth without an end")
    save(figure, "horizons", f"reward-to-go (left), a2c with γ = {gamma} (right); seeds 0–{seeds - 1}, 0–3; 95 % bands")


def true_worth(world: TabularMDP, endless: TabularMDP, gamma: float) -> list[float]:
    """What the policies that were trained with cuts are worth where nothing ends, one for each seed."""
    cut = world.time_limit or world.horizon  # windows are episodes, so that V is asked at the cut alone
    options = dict(policy="tabular", gamma=gamma, n_envs=16, n_steps=cut, optimizer="sgd", max_grad_norm=None)
    rates = dict(learning_rate=0.005, vf_coef=100.0)  # the critic is quick, the policy waits for it
    run = pg.train(world, "a2c", **options, **rates, total_timesteps=800_000, seeds=4, eval_every=0, out=None)
    probs = [policy_probabilities(endless, model, 1)[0] for model in run.models]
    return [float(policy_evaluation(endless, p, gamma)[0]) for p in probs]


def draw_ledge() -> None:
    """What a small γ chooses, what that is worth, and how wrong its gradient is."""
    gammas, fall, cost = np.linspace(0.02, 1, 99), 0.5, 4.0
    figure, (left, right) = canvas(2, width=8.6, height=3.6)
    for length, color, dashes in ((2, GREEN, DASHDOT), (5, BLUE, "-"), (20, RED, DASHED)):
        world = ledge(length, fall, cost)
        worth = [chosen_worth(world, gamma) for gamma in gammas]
        left.plot(gammas, worth, color=color, linestyle=dashes, label=f"falls after {length}")
        print(f"ledge({length}): threshold {(fall * cost) ** (-1 / length):.4f}")
    left.set(ylim=(-1.15, 0.3))
    left.legend(frameon=False, fontsize=8.5, loc="upper left", ncols=3, columnspacing=1, handlelength=1.6)
    label(left, "True return of the best policy for γ", "γ", "undiscounted return")

    world = ledge(5, fall, cost, horizon=6)
    model, few = uniform(world), np.linspace(0.5, 1, 11)
    truth = gradient(world, model)
    psis = {f"{g:.2f}": pg.Psi("reward_to_go", gamma=float(g)) for g in few}
    found = ladder_moments(world, model, psis, reference=truth)
    bias = np.array([norm(m.bias) for m in found.values()]) / norm(truth)
    closed = fall * cost * (1 - gammas**5) / abs(1 - fall * cost)
    right.plot(gammas, closed, color=BLUE, label="closed form")
    right.plot(few, bias, "o", color=INK, markersize=5, label="all trajectories")
    right.axhline(1, color=GREY, linewidth=0.8)
    right.annotate("above 1 it points to the ledge", (0.03, 1), (0, 4), textcoords="offset points", fontsize=8.5)
    right.set(ylim=(0, 2.1))
    right.legend(frameon=False, fontsize=8.5, loc="lower left")
    label(right, "Bias of the gradient, ledge of 5", "γ", "‖bias‖ / ‖∇J‖")
    print("ledge(5), bias:", dict(zip(few.round(2).tolist(), bias.round(3).tolist())))
    save(figure, "ledge", "ledge: 1 now, −4 later with probability 1/2; exact, no sampling")


def chosen_worth(world: TabularMDP, gamma: float) -> float:
    """The undiscounted return of the policy that is best for γ."""
    return float(policy_evaluation(world, value_iteration(world, gamma).policy, 1.0)[0])


if __name__ == "__main__":
    pictures = {"ledge": draw_ledge, "horizons": draw_horizons, "resets": draw_resets, "diversity": draw_diversity}
    for name in sys.argv[1:] or pictures:
        pictures[name]()
