"""Old data: why gradients want fresh ones, when an off-policy interval can be believed, when to refuse to learn.

The first panel is exact. The other two are 840 small datasets: 64 episodes each, from a policy at some distance of the
one that is judged by them, and that then learns from them.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from style import BLUE, DASHED, DOTTED, GREEN, GREY, INK, ORANGE, PINK, RED, SOLID, canvas, label, save
from worlds import norm, policy, with_logits

from policygrad.collect import episode_collector
from policygrad.envs import autoreset
from policygrad.envs.tabular import TabularMDP, random_mdp
from policygrad.ladder import Psi
from policygrad.learn import Hyper, Score, make_learner, steps_from
from policygrad.learn.old_data import overlap
from policygrad.measure import gradient, ladder_moments, objective
from policygrad.measure.evaluation import ESTIMATORS, cross_fitted, interval, logged
from policygrad.measure.evaluation import overlap as effective
from policygrad.run.ope import ENOUGH
from policygrad.run.recipes import PRESETS

N, UPDATES = 64, 30
DISTANCES = (0, 0.5, 1, 1.5, 2, 3, 4)
FLOOR = PRESETS["offpolicy"].recipe.min_overlap
LINES = {"is": (BLUE, SOLID), "pdis": (GREEN, DASHED), "wis": (ORANGE, SOLID), "dr": (PINK, DOTTED)}
is_number = eqx.is_inexact_array


def towards(model: Any, other: Any, distance: Any) -> Any:
    return jax.tree.map(lambda a, b: a + distance * b if is_number(a) else a, model, other)


# The gradient of f(w) = E_φ[p_w(τ)/p_φ(τ)·R(τ)]: at w = θ it is ∇J(θ), at w = φ it is ∇J(φ)


def surrogate_gradients(axes: Any) -> None:
    mdp = random_mdp(6, 3, 2, branching=1, n_rewards=1, horizon=6)
    theta, other = policy(mdp), policy(mdp, seed=9, scale=1.0)
    truth = gradient(mdp, theta)
    fresh = Psi("total_return", gamma=1.0)
    weighted = Psi("total_return", "none", "trajectory", gamma=1.0)

    @jax.jit
    @jax.vmap
    def errors(distance: Any) -> Any:
        phi = towards(theta, other, distance)
        at_theta = ladder_moments(mdp, theta, {"w": weighted}, batch=N, behaviour=phi, reference=truth)["w"]
        at_phi = ladder_moments(mdp, phi, {"w": fresh}, batch=N, reference=truth)["w"]
        error = lambda m: jnp.sqrt(norm(m.bias) ** 2 + m.variance) / norm(truth)  # noqa: E731
        return error(at_theta), error(at_phi), norm(at_theta.bias) / norm(truth), norm(at_phi.bias) / norm(truth)

    x = np.linspace(0, 3, 25)
    at_theta, at_phi, no_bias, bias = (np.asarray(y) for y in errors(jnp.asarray(x)))
    print("exact, at distances 0, 1, 2, 3: error of the weighted gradient", at_theta[::8].round(2))
    print("  error of the gradient at φ", at_phi[::8].round(2), "its bias", bias[::8].round(2))
    print(f"  largest bias of the weighted gradient {no_bias.max():.1e}")
    axes.plot(x, at_theta, color=RED, linewidth=1.8)
    axes.plot(x, at_phi, color=BLUE, linewidth=1.8, linestyle=DASHED)
    axes.axhline(at_theta[0], color=GREY, linewidth=1.2, linestyle=DOTTED)
    axes.set_yscale("log")
    axes.set_ylim(0.1, 2000)
    axes.set_yticks([0.1, 1, 10, 100, 1000], ["0.1", "1", "10", "100", "1000"])
    axes.text(1.72, 60, "∇f at θ:\nweighted", color=RED, fontsize=9, ha="right")
    axes.text(3, 1.35, "∇f at φ: ∇J(φ)", color=BLUE, fontsize=9, ha="right")
    axes.text(3, 0.125, "new episodes of θ", color=GREY, fontsize=9, ha="right")
    label(axes, f"Error of the gradient, {N} episodes", "distance of φ from θ (in logits)", "rms error / ‖∇J(θ)‖")


# Small datasets


class Study(NamedTuple):
    """One row per dataset."""

    share: np.ndarray
    """Overlap, ESS/N · min(1, mean weight), for the policy that begins."""
    gain: np.ndarray
    """J after learning from it, minus J before; exact."""
    sizes: np.ndarray
    """The same, in episodes."""
    covered: dict[str, np.ndarray]
    """Whether each estimator's 95 % interval holds the true J of the policy that begins."""


def study(mdp: TabularMDP, seed: int, copies: int, ascent: int) -> Study:
    """Datasets of an MDP, for policies that have taken ``ascent`` exact gradient steps."""
    n_steps = mdp.horizon
    collector = episode_collector(autoreset(mdp, n_steps), N)
    psi = Psi("reward_to_go", "leave_one_out", "self_normalized", gamma=1.0)
    climb = eqx.filter_grad(lambda model: objective(mdp, model))

    def random(key: Any, scale: float) -> Any:
        return with_logits(mdp, scale * jax.random.normal(key, (mdp.n_states, mdp.n_actions)))

    @jax.jit
    @jax.vmap
    def one(key: Any, distance: Any) -> Any:
        keys = jax.random.split(key, 4)
        up = lambda model, _: (towards(model, climb(model), 0.5), None)  # noqa: E731
        begin = jax.lax.scan(up, random(keys[0], 0.7), None, length=ascent)[0]
        behaviour = towards(begin, random(keys[1], 1.0), distance)
        data = collector.collect(behaviour, collector.init(behaviour, keys[3]), keys[2])[1]
        learner = make_learner(lambda _: begin, psi, kind=Score(), hyper=Hyper(0.05, 0.0, 0.0, jnp.inf))
        learn = lambda state, _: (learner.update(state, data, keys[3])[0], None)  # noqa: E731
        end = learner.model(jax.lax.scan(learn, learner.init(keys[3]), None, length=UPDATES)[0])
        steps = steps_from(begin, data, psi)
        probs = jax.nn.softmax(begin.actor.head.last.rows)
        share = overlap(steps.log_rho, data.mask, "self_normalized")
        return share, objective(mdp, begin), objective(mdp, end), probs, steps, data.obs, data.action

    distances = jnp.repeat(jnp.asarray(DISTANCES, float), copies)
    found = one(jax.random.split(jax.random.key(seed), len(distances)), distances)
    share, before, after, probs, steps, state, action = jax.tree.map(np.asarray, found)
    sizes, covered = np.zeros(len(share)), {name: np.zeros(len(share), bool) for name in LINES}
    for i in range(len(share)):
        reward, mask = steps.reward[i], steps.mask[i]
        grid = np.broadcast_to(probs[i], (n_steps, *probs[i].shape))
        q, value = cross_fitted(state[i], action[i], reward, mask, grid, 1.0)
        data = logged(reward, steps.log_rho[i], mask, q, value)
        sizes[i] = effective(data)[0]
        for name in LINES:
            estimate = interval(ESTIMATORS[name](data, 1.0), n=500, seed=i)
            covered[name][i] = estimate.low <= before[i] <= estimate.high
    return Study(share, after - before, sizes, covered)


def together(parts: list[Study]) -> Study:
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def coverage(axes: Any, all_of_it: Study) -> None:
    edges = np.array([1, 2, 4, 8, 15, 30, 45, 64.01])
    bins = np.digitize(np.maximum(all_of_it.sizes, 1), edges) - 1
    centres = np.sqrt(edges[:-1] * np.minimum(edges[1:], 64))
    print("datasets per bin of ESS", [f"{a:g}-{b:g}: {n}" for a, b, n in zip(edges, edges[1:], np.bincount(bins))])
    for name, (color, dashes) in LINES.items():
        rate = np.array([all_of_it.covered[name][bins == k].mean() for k in range(len(centres))])
        enough = all_of_it.covered[name][all_of_it.sizes >= ENOUGH].mean()
        few = all_of_it.covered[name][all_of_it.sizes < ENOUGH].mean()
        print(f"coverage of {name}: {rate.round(2)}; ESS >= {ENOUGH:g}: {enough:.3f}, below: {few:.3f}")
        axes.plot(
            centres, 100 * rate, color=color, linestyle=dashes, linewidth=1.8, marker="o", markersize=3, label=name
        )
    axes.axhline(95, color=GREY, linewidth=1, linestyle=DOTTED)
    axes.axvline(ENOUGH, color=GREY, linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([1.5, 4, 8, 15, 30, 60], ["1.5", "4", "8", "15", "30", "60"])
    axes.minorticks_off()
    axes.set_ylim(0, 103)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower left", ncols=2)
    label(axes, "Does a 95 % interval hold the truth?", f"effective episodes, of {N}", "coverage in %")


def refusals(axes: Any, kinds: dict[str, tuple[Study, str, Any]]) -> None:
    edges = np.array([0, 0.03, 0.05, 0.1, 0.2, 0.4, 1.01])
    centres = np.array([0.022, 0.039, 0.071, 0.141, 0.283, 0.63])
    for name, (found, color, dashes) in kinds.items():
        bins, better = np.digitize(found.share, edges) - 1, found.gain > 0
        rate = [better[bins == k].mean() for k in range(len(centres))]
        axes.plot(centres, 100 * np.array(rate), color=color, linestyle=dashes, linewidth=1.8, marker="o", markersize=3)
        axes.text(0.95, 44 if dashes == SOLID else 36, name, color=color, fontsize=9, ha="right")
        refused = found.share < FLOOR
        print(f"{name}: {len(better)} datasets, refused {refused.mean():.1%}")
        for word, those in (("refused", refused), ("others", ~refused)):
            print(f"  {word}: improved {better[those].mean():.1%}, mean gain {found.gain[those].mean():+.3f}")
        print(f"  refused, of those that would improve: {refused[better].mean():.1%}")
        print(f"  refused, of those that would not: {refused[~better].mean():.1%}")
    axes.axvline(FLOOR, color=GREY, linewidth=1)
    axes.axhline(50, color=GREY, linewidth=1, linestyle=DOTTED)
    axes.set_xscale("log")
    axes.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5, 1], ["2", "5", "10", "20", "50", "100"])
    axes.minorticks_off()
    axes.set_ylim(0, 103)
    label(axes, "Does learning improve the policy?", "overlap at the start, in %", "datasets that do, in %")


def main(copies: int = 30) -> None:
    """``copies``: datasets for each distance, world and kind of start."""
    worlds = {seed: random_mdp(seed, 5, 3, branching=2, n_rewards=1, horizon=h) for seed, h in ((10, 6), (11, 12))}
    untrained, trained = (
        together([study(mdp, 100 + seed, copies, ascent) for seed, mdp in worlds.items()]) for ascent in (0, 10)
    )
    figure, panels = canvas(3, width=10.8, height=3.9)
    surrogate_gradients(panels[0])
    coverage(panels[1], together([untrained, trained]))
    refusals(panels[2], {"begins untrained": (untrained, BLUE, SOLID), "begins trained": (trained, RED, DASHED)})
    figure.subplots_adjust(wspace=0.36)
    many = 4 * copies * len(DISTANCES)
    save(figure, "old_data", f"left: exact; others: {many} datasets of {N} episodes, random_mdp(10, 11), keys 110, 111")


if __name__ == "__main__":
    main()
