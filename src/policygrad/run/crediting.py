"""``pg.credit``: which actions get the credit on each rung, and how far a step along it may go."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from policygrad.envs import registry
from policygrad.ladder.psi import Psi
from policygrad.measure.credit import KL, LIKELIHOOD, Credit, StepPoint, direction_of, step_curve
from policygrad.measure.credit import credit as credit_of
from policygrad.measure.rungs import Rung, make_rungs
from policygrad.run.build import enable_compilation_cache
from policygrad.run.columns import aligned
from policygrad.run.measuring import Stage, Subject, require_whole, subject_of
from policygrad.run.recipes import RecipeError
from policygrad.run.record import json_ready
from policygrad.storage.checkpoint import write_atomically

RUNGS = ("reinforce", "reinforce-togo")
LENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""Of the steps that are tried, in nats per row."""
WHICH = ("best", "median", "worst")
"""Trajectories that can be chosen by their return."""
SHOWN = 12
"""Rows of a trajectory that are printed."""


def credit(
    env: Any,
    policy: Any = None,
    *,
    critic: Any = None,
    rungs: Sequence[str] | Mapping[str, Psi] | None = None,
    objective: str = "approximation",
    gamma: float | None = None,
    trajectories: int = 64,
    kl: float = KL,
    episode: int | str = "median",
    fresh: int = 128,
    max_episode_steps: int | None = None,
    seed: int = 0,
) -> "CreditReport":
    """Who gets the credit: Ψ_t along the policy's own episodes, and what one step along each rung's gradient makes of
    log π(a_t|s_t); then fresh episodes after longer and longer steps.

        report = pg.credit(run)
        print(report)
        report.save("credit")                      # two pictures and credit.json

    Args:
        env: an id or an environment; or a :class:`Run`, whose policy is looked at where it was trained.
        policy: a :class:`Policy`, a :class:`Run` or a model (``eqx.Module``).
        critic: a model whose V is used; None: the policy's own.
        rungs: names of ``policygrad measure --help``, or name -> Psi; None: total return, reward-to-go and GAE, or a
            mean baseline where there is no V. Maximum likelihood, Ψ = 1, is always there.
        objective: ``discounted`` (γ^t kept), ``undiscounted``, or ``approximation`` (γ^t dropped, as in training).
        gamma: γ; None: the run's, else 0.99.
        trajectories: of the batch that is learned from.
        kl: the length of the one step, in nats per row.
        episode: the trajectory that is shown row by row: its number, ``best``, ``median`` or ``worst``.
        fresh: episodes played after each step of :data:`LENGTHS`; 0: none. A pure world only.
        max_episode_steps: time limit, in place of the environment's own.

    Raises:
        RecipeError, ValueError: a policy that does not fit, a rung that needs a critic where there is none, no such
            trajectory, no end of an episode in sight. One sentence each.
    """
    enable_compilation_cache()
    began = time.perf_counter()
    who, chosen = plan(
        env, policy, critic=critic, rungs=rungs, objective=objective, gamma=gamma, trajectories=trajectories,
        fresh=fresh, max_episode_steps=max_episode_steps, seed=seed,
    )  # fmt: skip
    with Stage(who.env, [who.policy], who.recipe, trajectories, who.limit) as stage:
        batch = jax.tree.map(np.asarray, stage.collector(who.policy)(jax.random.key(seed)))
        found = credit_of(
            who.policy.model, batch, {LIKELIHOOD: None, **chosen}, kl=kl, gamma=who.gamma, critic=who.critic
        )
        place = place_of(episode, found.ret)
        pure = not registry.is_host(stage.made)
        curves = fresh_returns(stage, who, chosen, batch, fresh, seed) if pure and fresh else {}
    return CreditReport(
        env=who.name,
        gamma=who.gamma,
        kl=kl,
        credit=found,
        reward=np.where(found.mask, batch.reward, 0),
        episode=place,
        curves=curves,
        pure=pure,
        fresh=fresh,
        recipe=who.recipe.to_dict() if who.recipe else None,
        seed=seed,
        seconds=time.perf_counter() - began,
    )


def plan(
    env: Any,
    policy: Any = None,
    *,
    rungs: Any,
    objective: str,
    gamma: float | None,
    trajectories: int,
    fresh: int,
    max_episode_steps: int | None,
    seed: int,
    critic: Any = None,
) -> tuple[Subject, dict[str, Rung]]:
    """What :func:`credit` is about to do, looked at before anything is played: whose gradient, and the rungs."""
    require_whole([("trajectories", trajectories, 4), ("fresh", fresh, 0), ("seed", seed, 0)])
    if fresh == 1:
        raise RecipeError("one fresh episode has no spread: give at least 2, or 0 for none")
    who = subject_of(env, policy, critic, gamma, trajectories, max_episode_steps)
    return who, rungs_of(rungs, who, objective)


def rungs_of(names: Sequence[str] | Mapping[str, Psi] | None, who: Subject, objective: str) -> dict[str, Rung]:
    """The rungs that are compared; plain REINFORCE the first."""
    if names is None:
        names = (*RUNGS, "gae" if who.has_critic else "reinforce-mean")
    elif not isinstance(names, Mapping):
        names = [name for name in names if name != LIKELIHOOD]
    return make_rungs(names, gamma=who.gamma, objective=objective, critic=who.has_critic)


def fresh_returns(
    stage: Stage, who: Subject, rungs: Mapping[str, Rung], batch: Any, fresh: int, seed: int
) -> dict[str, list[StepPoint]]:
    """R after steps of every length."""
    stream, model = stage.stream(who.policy), who.policy.model
    curves = {}
    for name, rung in rungs.items():
        direction, sizes = direction_of(rung, model, batch, jnp.asarray(LENGTHS), who.critic)
        if np.all(np.asarray(sizes) > 0):
            steps = [float(size) for size in sizes]
            curves[name] = step_curve(stream, model, direction, steps, episodes=fresh, gamma=who.gamma, seed=seed + 1)
    return curves


def place_of(episode: int | str, ret: Float[np.ndarray, "B"]) -> int:
    """The number of a trajectory."""
    if isinstance(episode, str) and episode in WHICH:
        order = np.argsort(ret, kind="stable")
        return int(order[{"worst": 0, "median": (len(ret) - 1) // 2, "best": -1}[episode]])
    if isinstance(episode, int) and not isinstance(episode, bool) and 0 <= episode < len(ret):
        return episode
    raise RecipeError(
        f"there is no trajectory {episode!r}: give a number from 0 to {len(ret) - 1}, or {', '.join(WHICH)}"
    )


@dataclass(frozen=True)
class CreditReport:
    """What :func:`credit` returns. ``print`` it, ``save`` it, or read ``credit``."""

    env: str
    gamma: float
    kl: float
    credit: Credit
    reward: Float[np.ndarray, "T B"]
    episode: int
    """The trajectory that is shown."""
    curves: dict[str, list[StepPoint]]
    """Fresh returns after steps of growing length, for each rung whose gradient is not zero."""
    pure: bool
    fresh: int
    recipe: dict[str, Any] | None
    seed: int
    seconds: float

    def __str__(self) -> str:
        return "\n".join(
            [*self.heading(), "", *self.table(), "", *self.rows(), "", *(f"- {text}" for text in self.sentences())]
        )

    @property
    def length(self) -> int:
        """Rows of the trajectory that is shown."""
        return int(self.credit.mask[:, self.episode].sum())

    def heading(self) -> list[str]:
        """What was looked at."""
        ret, length = self.credit.ret, self.credit.mask.sum(axis=0)
        return [
            f"{self.env}: {len(ret)} trajectories, {length.mean():.4g} steps long on average; R = Σ γ^t r = "
            f"{ret.mean():.4g} ({ret.min():.4g} to {ret.max():.4g}), γ = {self.gamma:g}",
            f"one step along each rung's gradient, {self.kl:g} nats a row long",
        ]

    def table(self) -> list[str]:
        """A line for each rung."""
        head = ["rung", "η", "Ψ < 0", "conflict", "Δ log p(τ), best quarter", "worst quarter", "correlation with R"]
        lines = [head]
        for name, rung in self.credit.rungs.items():
            good, bad = self.quarters(name)
            opposed = "" if rung.conflict is None else f"{rung.conflict:.1%}"
            numbers = [f"{rung.step:.3g}", f"{self.negative(name):.0%}", opposed, f"{good:+.3g}", f"{bad:+.3g}"]
            lines.append([name, *numbers, f"{self.credit.correlation(name):+.2f}".replace("+nan", "")])
        return aligned(lines)

    def rows(self) -> list[str]:
        """The chosen trajectory: Ψ_t, and the change of log π(a_t|s_t) in brackets."""
        shown = min(self.length, SHOWN)
        lines = [["t", "reward", *(f"{name}: Ψ (Δ log π)" for name in self.credit.rungs)]]
        for t in range(shown):
            at = t, self.episode
            cells = [f"{x.psi[at]:.3g} ({x.change[at]:+.1e})" for x in self.credit.rungs.values()]
            lines.append([str(t), f"{self.reward[at]:.4g}", *cells])
        title = f"trajectory {self.episode}, R = {self.credit.ret[self.episode]:.4g}:"
        left = self.length - shown
        return [title, *aligned(lines), *([f"... and {left:,} rows more: the pictures have them"] if left else [])]

    def sentences(self) -> list[str]:
        """What the numbers say."""
        return [self.about_pairs(), self.about_order(), *self.about_lengths()]

    def about_pairs(self) -> str:
        if self.credit.note:
            return f"{self.credit.note}."
        worst = max(self.credit.rungs, key=lambda name: self.credit.rungs[name].conflict or 0)
        share = self.credit.rungs[worst].conflict or 0
        words = f"{self.credit.pairs:,} pairs of rows share state and action"
        return f"{words}; " + (f"with {worst} {share:.1%} of them" if share else "none") + " pull against each other."

    def about_order(self) -> str:
        known = {name: self.credit.correlation(name) for name in self.credit.rungs if name != LIKELIHOOD}
        known = {name: x for name, x in known.items() if math.isfinite(x)}
        if not known:
            return "All returns are the same: no step can prefer the better trajectories."
        told = ", ".join(f"{name} {x:+.2f}" for name, x in sorted(known.items(), key=lambda item: -item[1]))
        plain = self.credit.correlation(LIKELIHOOD)
        beside = f"; maximum likelihood {plain:+.2f}" if math.isfinite(plain) else ""
        n = len(self.credit.ret)
        apart = 2 * math.tanh(math.sqrt(2 / (n - 3)))  # ± half of it by Fisher's z, if the two were independent
        words = f"Correlation of R with the change of log p(τ): {told}{beside}."
        return f"{words} Between two of them less than {apart:.2g} may be chance."

    def about_lengths(self) -> list[str]:
        if not self.curves:
            why = "every gradient is zero" if self.fresh else "fresh episodes were not asked for"
            return [f"How far a step may go was not tried: {why if self.pure else 'that needs a pure JAX world'}."]
        said = []
        for name, points in self.curves.items():
            best = max(points, key=lambda p: p.gain.value)
            last, gain, before = points[-1], best.gain, best.ret.value - best.gain.value
            further = "the longest step tried" if best is last else f"at {last.kl:.1g} it is {last.gain.value:+.4g}"
            if gain.low <= 0:
                said.append(f"Along {name} no step gains what {self.fresh} fresh episodes could tell from chance.")
                continue
            said.append(
                f"Along {name} R gains most at {best.kl:.1g} nats: {gain.value:+.4g} ({gain.low:.4g} to "
                f"{gain.high:.4g}) over {before:.4g}; {further}."
            )
        return said

    def negative(self, rung: str) -> float:
        """The share of rows with Ψ < 0."""
        return float((self.credit.rungs[rung].psi < 0).sum() / self.credit.mask.sum())

    def quarters(self, rung: str) -> tuple[float, float]:
        """The mean change of log p(τ), in nats, of the best and of the worst quarter of the trajectories."""
        order, total = np.argsort(self.credit.ret, kind="stable"), self.credit.rungs[rung].total
        n = len(order) // 4
        return float(total[order[-n:]].mean()), float(total[order[:n]].mean())

    def to_dict(self) -> dict[str, Any]:
        """Everything, in plain values; row by row for the trajectory that is shown."""
        rows = slice(0, self.length), self.episode
        rungs = {}
        for name, x in self.credit.rungs.items():
            good, bad = self.quarters(name)
            rungs[name] = {
                "step": x.step,
                "kl": x.kl,
                "negative": self.negative(name),
                "conflict": x.conflict,
                "correlation": self.credit.correlation(name),
                "best_quarter": good,
                "worst_quarter": bad,
                "change_of_trajectories": x.total.tolist(),
                "psi": x.psi[rows].tolist(),
                "change": x.change[rows].tolist(),
                "after_steps": [point._asdict() for point in self.curves.get(name, [])],
            }
        return json_ready(
            {
                "env": self.env,
                "gamma": self.gamma,
                "kl": self.kl,
                "trajectories": len(self.credit.ret),
                "returns": self.credit.ret.tolist(),
                "pairs": self.credit.pairs,
                "note": self.credit.note,
                "episode": self.episode,
                "reward": self.reward[rows].tolist(),
                "rungs": rungs,
                "sentences": self.sentences(),
                "recipe": self.recipe,
                "seed": self.seed,
                "seconds": self.seconds,
            }
        )

    def save(self, out: str | Path = "credit") -> Path:
        """Write ``credit.svg``, ``steps.svg`` (where steps were tried) and ``credit.json`` to a folder; returns it."""
        from policygrad.run.credit_pictures import pictures

        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "steps.svg").unlink(missing_ok=True)  # of an earlier report
        for name, svg in pictures(self).items():
            write_atomically(folder / f"{name}.svg", svg)
        write_atomically(folder / "credit.json", json.dumps(self.to_dict(), indent=1, allow_nan=False).encode())
        return folder
