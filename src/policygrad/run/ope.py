"""``pg.ope``: what a policy would earn, judged from another policy's episodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from policygrad.ladder.names import one_of
from policygrad.learn.old_data import seen_by
from policygrad.measure import evaluation
from policygrad.measure.evaluation import ESTIMATORS, NEED_Q, UNBIASED, Logged, cross_fitted, interval, logged, mean_of
from policygrad.measure.statistics import Estimate
from policygrad.models.actor_critic import is_memoryless, unroll
from policygrad.run.api import Run
from policygrad.run.build import enable_compilation_cache
from policygrad.run.measuring import has_values
from policygrad.run.offpolicy import as_seen, require_propensities, with_propensities
from policygrad.run.policy import Policy
from policygrad.run.recipes import RecipeError
from policygrad.storage.datasets import Dataset, check
from policygrad.storage.formats import read_dataset
from policygrad.types import Trajectory

ENOUGH = 30.0
"""Below so many effective episodes an interval is not to be believed (docs/25-old-data.md has its coverage)."""
COVERAGE = (
    "of 95 % intervals like these 88 to 93 % were found to hold the truth, at 30 or more effective episodes "
    "(docs/25-old-data.md): take them for a little too narrow"
)
COVERED = 0.5
"""Below such a mean weight at least half of what the policy does is missing in the data."""
IMPOSSIBLE = 20.0
"""Weights are positive and one in expectation: their mean is above this with a chance of at most 5 % (Markov)."""
WORDS = {
    "is": "importance sampling",
    "wis": "weighted (self-normalised)",
    "pdis": "per decision",
    "wpdis": "weighted per decision",
    "dr": "doubly robust",
    "wdr": "weighted doubly robust",
}


@dataclass(frozen=True)
class OffPolicyEvaluation:
    """What the data say about a policy: estimates of J = E_π[Σ_t γ^t r_t], each with an interval over episodes."""

    estimates: dict[str, Estimate]
    behaviour: Estimate
    """The mean return of the data themselves, with the same γ."""
    episodes: int
    effective_sample_size: float
    """Of ρ_τ, in episodes: ESS · min(1, mean weight)."""
    largest_share: float
    """Of one episode, in the sum of all weights."""
    mean_weight: float
    """The mean of ρ_τ, whose expectation is one where the data cover this policy."""
    gamma: float
    level: float
    guess: str
    """Where the doubly robust have their Q̂ from; empty: they are missing."""

    @property
    def enough(self) -> bool:
        """Whether there are effective episodes enough for an interval."""
        return self.effective_sample_size >= ENOUGH

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        whole = {name: getattr(self, name) for name in self.__dataclass_fields__}
        estimates = {name: x._asdict() | {"unbiased": name in UNBIASED} for name, x in self.estimates.items()}
        return whole | {"estimates": estimates, "behaviour": self.behaviour._asdict(), "enough": self.enough}

    def __str__(self) -> str:
        share = self.effective_sample_size / self.episodes
        lines = [
            f"{self.episodes:,} episode{'s' * (self.episodes != 1)}, worth {self.effective_sample_size:.1f} of this "
            f"policy's own ({share:.1%}); the mean weight is {self.mean_weight:.3g} (1 is expected), "
            f"the largest is {self.largest_share:.1%} of all",
            f"{'return, γ = ' + format(self.gamma, 'g'):<34}{'estimate':>10}  {self.level:.0%} interval",
        ]
        rows = {f"{name:<6}{WORDS[name]}": estimate for name, estimate in self.estimates.items()}
        rows["the data's own policy"] = self.behaviour
        lines += [f"{name:<34}{x.value:>10.4g}  [{x.low:.4g}, {x.high:.4g}]" for name, x in rows.items()]
        if self.guess:
            lines.append(f"Q of the doubly robust: {self.guess}")
        return "\n".join([*lines, *(f"note: {text}" for text in self.notes())])

    def notes(self) -> list[str]:
        """What to know before a number above is believed."""
        found, weight = [], self.mean_weight
        if weight > IMPOSSIBLE:
            what = "overflow" if weight == np.inf else f"have the mean {weight:.3g}"
            found.append(
                f"the weights {what}, and their mean should be 1: log_mu is not what the actions were drawn with, "
                "or the data are far from this policy"
            )
        if weight < COVERED:
            found.append(
                f"the mean weight is {weight:.2g} and should be 1: the data show about {min(weight, 1):.2g} of what "
                "this policy does, and nothing of the rest"
            )
        if not self.enough:
            found.append(
                f"fewer than {ENOUGH:g} effective episodes: no interval above is to be believed. "
                "Record more episodes, shorter ones, or those of a policy nearer to this one"
            )
        else:
            found.append(COVERAGE)
        if flat := [name for name, x in self.estimates.items() if x.high - x.low <= 1e-9 * max(1, abs(x.value))]:
            found.append(
                f"the interval of {', '.join(flat)} has no width: all episodes say the same, "
                "and what was never tried is valued 0"
            )
        return found


def ope(
    policy: Any,
    dataset: Any,
    *,
    behaviour: Any = None,
    gamma: float = 1.0,
    estimators: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> OffPolicyEvaluation:
    """Off-policy evaluation: the return of a policy that did not play.

        print(pg.ope(run, "cartpole.safetensors"))

    Args:
        policy: a :class:`Run` (its first seed) or a :class:`Policy`; actions are sampled from π, not its mode.
        dataset: a file, or a :class:`Dataset`. Its episodes must have had no part in making the policy: the same data
            flatter what has learned from them.
        behaviour: a Run or a Policy that gives log μ, where the dataset has none.
        gamma: γ; 1 is the return that ``evaluate`` shows.
        estimators: some of ``is``, ``wis``, ``pdis``, ``wpdis``, ``dr``, ``wdr``; None: all that can be had. The doubly
            robust need a guess of Q: a table fitted to the other half of the episodes where observations and actions
            are Discrete, else the policy's critic.
        level: of the bootstrap intervals.
        seed: of the bootstrap.

    Raises:
        RecipeError, DatasetError: no propensities, data that do not fit the policy, unknown estimators.
    """
    enable_compilation_cache()
    judged = policy_of(policy)
    for name in estimators or ():
        try:
            one_of("estimator", name, ESTIMATORS)
        except ValueError as error:
            raise RecipeError(str(error)) from None
    for name, number in (("gamma", gamma), ("level", level)):
        if not 0 <= number <= 1 or (name == "level" and number in (0, 1)):
            raise RecipeError(f"{name} must be between 0 and 1, not {number!r}")
    if seed < 0:
        raise RecipeError(f"seed must be 0 or more, not {seed}")
    data = check(dataset) if isinstance(dataset, Dataset) else read_dataset(dataset)
    if data.log_mu is None and behaviour is not None:
        data = with_propensities(data, policy_of(behaviour))
    require_propensities(data)
    episodes, guess = as_logged(judged, data, gamma)
    if not guess and NEED_Q & set(estimators or ()):
        raise RecipeError("the doubly robust need a guess of Q, and this policy has no critic: drop dr and wdr")
    chosen = list(estimators or (name for name in ESTIMATORS if guess or name not in NEED_Q))
    how: dict[str, Any] = {"level": level, "seed": seed}
    own = np.sum(evaluation.discounts(len(episodes.mask), gamma) * episodes.reward, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):  # weights that overflow are told in a note
        estimates = {name: interval(ESTIMATORS[name](episodes, gamma), **how) for name in chosen}
    return OffPolicyEvaluation(
        estimates,
        interval(mean_of(own), **how),
        data.episodes,
        *evaluation.overlap(episodes),
        float(gamma),
        float(level),
        guess if NEED_Q & set(chosen) else "",
    )


def policy_of(given: Any) -> Policy:
    """A policy that knows its spaces, from a run or itself."""
    if isinstance(given, Run):
        return given.policy
    if isinstance(given, Policy) and given.observation_space is not None:
        return given
    raise RecipeError(
        f"a {type(given).__name__} is no policy with its spaces: give a Run, or "
        "Policy(model, observation_space, action_space)"
    )


def as_logged(policy: Policy, dataset: Dataset, gamma: float) -> tuple[Logged, str]:
    """A dataset as this policy sees it, and where Q̂ comes from."""
    rows = as_seen(dataset, policy.observation_space, policy.action_space, remembers=policy.remembers)
    log_prob, value = (np.asarray(x, np.float64) for x in eqx.filter_jit(seen_by)(policy.model, rows))
    reward, mask = np.asarray(rows.reward, np.float64), np.asarray(rows.mask)
    log_rho = log_prob - np.asarray(rows.log_mu, np.float64)
    both = (policy.observation_space, policy.action_space)
    plain = all(isinstance(space, spaces.Discrete) for space in both) and not isinstance(rows.obs, tuple)
    if plain and is_memoryless(policy.model) and dataset.episodes > 1:
        probs = probabilities(policy, len(mask))
        state, action = np.asarray(rows.obs), np.asarray(rows.action)
        q, expected = cross_fitted(state, action, reward, mask, probs, gamma)
        return logged(reward, log_rho, mask, q, expected), "a table, fitted to the other half of the episodes"
    if has_values(policy.model):
        normalizer = getattr(policy.model, "normalizer", None)
        scale = 1.0 if normalizer is None else float(normalizer.reward(jnp.ones(())))
        return logged(reward, log_rho, mask, value / scale, value / scale), "the policy's critic, V(s) for every action"
    return logged(reward, log_rho, mask), ""


def probabilities(policy: Policy, n_steps: int) -> np.ndarray:
    """π_t(a | s) of a memoryless policy on a table, ``[T, S, A]``."""
    shape = (n_steps, *(int(space.n) for space in (policy.observation_space, policy.action_space)))  # type: ignore[attr-defined]
    time, state, action = (jnp.asarray(x, jnp.int32) for x in np.indices(shape))
    zero, no = jnp.zeros(shape), jnp.zeros(shape, bool)
    rows = Trajectory(state, action, zero, no, no, zero, time, time == 0, ~no, None, None)
    probs = np.exp(np.asarray(eqx.filter_jit(unroll)(policy.model, rows)[0].log_prob, np.float64))
    return probs / probs.sum(-1, keepdims=True)
