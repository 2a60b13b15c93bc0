"""The rungs that are measured, by name, each turned toward one declared objective. No arrays: names and numbers only.

Three objectives, and what is unbiased for each:

    discounted      J = E[Σ_t γ^t r_t]      every rung keeps the factor γ^t
    undiscounted    J = E[Σ_t r_t]          Monte-Carlo rungs have γ = 1; those that bootstrap keep γ, and its bias
    approximation   E[Σ_t ∇log π_t·Q^γ_t]   what most implementations climb: γ in the returns, γ^t dropped. It is the
                                            gradient of no objective (Nota & Thomas 2020), and REINFORCE's total return
                                            is biased for it
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from policygrad.ladder.names import (
    ALONE,
    BOOTSTRAPPING,
    NUMBERS,
    OBJECTIVES,
    OFF_POLICY,
    RUNGS,
    WITH_CRITIC,
    in_range,
    one_of,
)
from policygrad.ladder.psi import Psi

UNBIASED = frozenset({"none", "constant", "leave_one_out", "optimal", "optimal_per_time", "value"})
"""Baselines that know nothing of a_t, whatever the data."""


class Rung(NamedTuple):
    """One way to estimate the gradient."""

    name: str
    psi: Psi
    unbiased: bool
    """Proven for the declared objective, whatever policy, critic and environment."""
    window: int | None = None
    """Streams are cut every so many steps, as a collector of fixed windows does; None: whole episodes."""

    @property
    def couples(self) -> bool:
        """Whether the trajectories of a batch enter each other's estimates."""
        return "batch" in self.psi.needs

    @property
    def critic(self) -> bool:
        """Whether it asks for V."""
        return "value" in self.psi.needs


def make_rungs(
    names: Sequence[str] | Mapping[str, Psi] | None,
    *,
    gamma: float,
    objective: str = "discounted",
    critic: bool = True,
    off_policy: bool = False,
) -> dict[str, Rung]:
    """The rungs of a report, plain REINFORCE the first: everything is compared with it.

    Args:
        names: of :data:`~policygrad.ladder.names.RUNGS`, each perhaps with its number (``gae:0.9``); ``all``; None:
            the ladder's main steps. Or own ones, name -> Psi, which are taken as they are.
        gamma: γ of the policy's training.
        critic: whether there is a V. Without it the default leaves out what needs one.
        off_policy: whether another policy acts.

    Raises:
        ValueError: unknown names, a rung that needs a critic where there is none, or one that does not fit the data.
    """
    one_of("objective", objective, OBJECTIVES)
    in_range("gamma", gamma, 0, 1)
    if isinstance(names, Mapping):
        own = {name: Rung(name, psi, is_unbiased(psi, objective, gamma)) for name, psi in names.items()}
        plain = "importance" if off_policy else "reinforce"
        rungs = {plain: make_rung(plain, gamma, objective)} | own
    else:
        rungs = {name: make_rung(name, gamma, objective) for name in chosen(names, critic, off_policy)}
    for name, rung in rungs.items():
        if rung.critic and not critic:
            raise ValueError(f"the rung {name!r} needs a critic and this policy has none: drop it, or give critic=")
        if off_policy and rung.psi.correction == "none":
            raise ValueError(
                f"the rung {name!r} has no importance weights and another policy acts: "
                f"choose among {', '.join(OFF_POLICY)}"
            )
    return rungs


def chosen(names: Sequence[str] | None, critic: bool, off_policy: bool) -> list[str]:
    """The names asked for, in the order of :data:`~policygrad.ladder.names.RUNGS`, with plain REINFORCE before all."""
    if names is None and off_policy:
        names = OFF_POLICY if critic else OFF_POLICY[:-1]
    elif names is None:
        names = (*ALONE, *WITH_CRITIC) if critic else ALONE
    elif "all" in names:
        kept = [name for name in RUNGS if (name in OFF_POLICY) == off_policy]
        names = [name for name in kept if critic or not needs_critic(RUNGS[name])]
        names += [name for name in names if ":" in name]
    plain = "importance" if off_policy else "reinforce"
    return list(dict.fromkeys([plain, *names]))


def needs_critic(options: dict[str, Any]) -> bool:
    return options.get("baseline") == "value" or options["target"] in BOOTSTRAPPING


def make_rung(name: str, gamma: float, objective: str) -> Rung:
    """One rung by its name, ``gae`` or ``gae:0.9``."""
    base, _, number = name.partition(":")
    one_of("rung", base, RUNGS)
    options = dict(RUNGS[base])
    if number:
        if base not in NUMBERS:
            raise ValueError(f"the rung {base!r} has no number to set: write {base!r} alone")
        if not re.fullmatch(r"\d+" if NUMBERS[base] == "n" else r"\d*\.?\d+", number):
            wanted = "a whole number of steps" if NUMBERS[base] == "n" else "λ in [0, 1]"
            raise ValueError(f"in {name!r} the number must be {wanted}, not {number!r}")
        options[NUMBERS[base]] = int(number) if NUMBERS[base] == "n" else float(number)
    monte_carlo = options["target"] not in BOOTSTRAPPING
    psi = Psi(
        **options,
        gamma=1.0 if objective == "undiscounted" and monte_carlo else gamma,
        discounted=objective == "discounted" and options["target"] != "total_return",
    )
    return Rung(name, psi, is_unbiased(psi, objective, gamma))


def is_unbiased(psi: Psi, objective: str, gamma: float) -> bool:
    """Whether E[ĝ] is the objective's gradient for every policy, critic and environment."""
    fits = psi.baseline in UNBIASED and not psi.standardize and psi.correction in ("none", "trajectory", "decision")
    fits = fits and psi.alpha == 0
    if psi.target == "total_return":
        return fits and psi.gamma == (1.0 if objective == "undiscounted" else gamma) and objective != "approximation"
    if psi.target not in ("reward_to_go", "per_decision"):
        return False
    if psi.gamma == 1.0 and gamma == 1.0:
        return fits
    return (
        fits
        and {
            "discounted": psi.discounted and psi.gamma == gamma,
            "undiscounted": psi.gamma == 1.0,
            "approximation": not psi.discounted and psi.gamma == gamma,
        }[objective]
    )


def reference_rung(gamma: float, objective: str, critic: bool) -> Rung:
    """The unbiased rung of least variance that every policy has: it stands for the true gradient."""
    return make_rung("reinforce-value" if critic else "reinforce-mean", gamma, objective)


def without_baseline(rung: Rung) -> Rung:
    """The same target with nothing subtracted: what a baseline is judged against."""
    p = rung.psi
    options = {"n": p.n, "lam": p.lam, "alpha": p.alpha, "rho_bar": p.rho_bar, "c_bar": p.c_bar, "weights": p.weights}
    psi = Psi(p.target, "none", p.correction, discounted=p.discounted, gamma=p.gamma, **options)
    return Rung(f"{rung.name} without baseline", psi, False, rung.window)
