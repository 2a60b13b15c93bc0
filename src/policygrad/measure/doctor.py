"""Why does it not learn? A run's own log, read by rules of thumb.

Each rule looks at one number, holds it against a limit of :data:`LIMITS`, and names the one flag to change. Most rules
are asked only where the return did not rise: what learns needs no cure. Where all returns are alike and γ < 1, the
episodes' length is asked instead: a reward at the end is worth more the sooner it comes. The figures are means over
seeds; where half of the seeds or more did not rise, over those that did not.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from jaxtyping import Float

from policygrad.measure.microscope import Measurement, RungReport
from policygrad.spaces import parts

AT_MOST = 6
"""So many verdicts are worth reading."""
AS_TRAINED = "as trained"
"""The run's own estimator among the rungs of a measurement."""
SWAY, STILL = 0.7, 0.1
"""Shares of a healthy run's rise that are worth a word: less than that is left, or more came in the last fifth."""
HALF = 0.5
"""Where this share of the seeds or more did not rise by themselves, no run is healthy."""
PARTS = 10
"""A run is read in so many parts of equal length."""
ALIKE, VARIED = 0.02, 5.0
"""Returns are alike where their parts differ by no more than this share of their size, and those of the lengths by so
many times that share."""
SETTLED = 3.0
"""Lengths are read once so many episodes' time has passed: before, only short episodes can have ended."""


class Limit(NamedTuple):
    """A threshold, and why it is where it is."""

    value: float
    why: str


LIMITS: dict[str, Limit] = {
    "rise": Limit(4.0, "standard errors by which the return must rise, so that chance alone would not do it"),
    "rise_share": Limit(0.1, "and the share of its own size: less is no learning worth the name"),
    "kept": Limit(0.15, "share of the rise that is left at the end; healthy runs sway, but do not fall that far"),
    "constant": Limit(1e-6, "spread of the returns, as a share of their size: all episodes earned the same"),
    "updates": Limit(100, "gradient steps; with the presets' step sizes a policy has hardly moved by then"),
    "reward_large": Limit(1e3, "discounted return's size; V's error is its square, and swamps the policy's gradient"),
    "reward_small": Limit(1e-2, "discounted return's size; the entropy bonus and the optimiser's ε outweigh it"),
    "entropy_low": Limit(0.05, "share of the untrained policy's randomness; what is not tried is not learned"),
    "entropy_high": Limit(0.95, "share of the untrained policy's randomness that the bonus has kept to the end"),
    "entropy_moved": Limit(0.01, "largest change of that share; a policy that learns moves more"),
    "clip_fraction": Limit(0.3, "share of the rows whose ratio is clipped; they teach nothing more in this window"),
    "approx_kl": Limit(0.1, "nats between the policy that played and the one that learns; PPO's habit is 0.01 to 0.03"),
    "sight_short": Limit(0.05, "1/(1 − γ) as a share of an episode: beyond it nothing is seen"),
    "sight_blind": Limit(3.0, "steps; 1/(1 − γ) below it, in long episodes, is wrong even where the return rises"),
    "explained": Limit(0.05, "explained variance of V: below it V is no better than a constant"),
    "snr": Limit(
        0.01,
        "signal-to-noise ratio of one update: of a hundred steps one points the way; up to 0.1 if not told from zero",
    ),
    "clipped_norm": Limit(100.0, "gradient's norm in units of max_grad_norm: every step is cut to its direction"),
    "truncated": Limit(0.99, "share of the episodes that the time limit cut: no return tells how an episode ends"),
}
"""Every threshold; ``docs/22-doctor.md`` has the same table."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong, the number behind it, and what to change."""

    name: str
    words: str
    value: float
    limit: float
    flag: str
    """The one thing to change; empty where nothing needs to be."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.words} Try: {self.flag}" if self.flag else self.words


class Randomness(NamedTuple):
    """How random the untrained policy is: what its entropy is held against."""

    entropy: float
    """In nats."""
    continuous: int
    """Dimensions of a continuous action; 0 for a discrete one."""

    def share(self, entropy: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """What is left of it: H/H₀ for discrete actions, e^((H − H₀)/d) (the spread's ratio) for d continuous ones."""
        if self.continuous:
            return np.exp((entropy - self.entropy) / self.continuous)
        return np.asarray(entropy / max(self.entropy, 1e-9))


def randomness_of(action_space: spaces.Space, recipe: Mapping[str, Any]) -> Randomness | None:
    """That of a policy that has learned nothing: uniform over discrete actions, N(0, σ₀²) in each continuous dimension.
    None where the space is mixed, or its distribution no Gaussian."""
    leaves = parts(action_space)
    if all(isinstance(leaf, spaces.Box) for leaf in leaves):
        if recipe["bounds"] != "clip" or recipe["gsde"] or recipe["policy"] == "own":
            return None
        d = sum(math.prod(leaf.shape or ()) for leaf in leaves)
        return Randomness(d * (0.5 * math.log(2 * math.pi * math.e) + recipe["log_std_init"]), d)
    counts = [log_choices(leaf) for leaf in leaves]
    known = [count for count in counts if count is not None]
    return Randomness(sum(known), 0) if len(known) == len(counts) else None


def log_choices(space: spaces.Space) -> float | None:
    """The logarithm of how many actions there are; None for a continuous one."""
    if isinstance(space, spaces.Discrete):
        return math.log(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return float(np.log(space.nvec).sum())
    if isinstance(space, spaces.MultiBinary):
        return math.prod(space.shape) * math.log(2)
    return None


@dataclass(frozen=True)
class Course:
    """A figure that rises where a policy learns, row by row."""

    rows: Float[np.ndarray, "n"]
    early: int = 1
    """The rows from which it rises."""

    @cached_property
    def parts(self) -> Float[np.ndarray, "parts"]:
        """Its mean in each part of the run."""
        return parts_of(self.rows)

    @property
    def first(self) -> float:
        return float(self.rows[: self.early].mean())

    @property
    def best(self) -> float:
        """That of the best part."""
        return float(self.parts.max())

    @property
    def last(self) -> float:
        """That of the last part."""
        return float(self.parts[-1])

    @property
    def rise(self) -> float:
        """From the first rows to the best part."""
        return self.best - self.first

    @cached_property
    def noise(self) -> float:
        """Standard error of ``rise``, from how neighbouring rows differ."""
        if len(self.rows) < 3:
            return math.inf
        row = 1.48 * float(np.median(np.abs(np.diff(self.rows)))) / math.sqrt(2)
        return row * math.sqrt(1 / self.early + len(self.parts) / len(self.rows))

    @cached_property
    def rose(self) -> bool:
        """It rose by more than chance, and by more than nothing."""
        return self.told(self.rise, self.best)

    @property
    def fall(self) -> float:
        """From the first rows to the last part."""
        return self.first - self.last

    @property
    def fell(self) -> bool:
        """It ended below its start, by as much as a rise must have."""
        return self.told(self.fall, self.last)

    def told(self, change: float, end: float) -> bool:
        """Whether a change from the first rows to ``end`` is more than chance, and more than nothing."""
        by_chance = LIMITS["rise"].value * self.noise
        return change > by_chance and change > LIMITS["rise_share"].value * max(abs(self.first), abs(end))

    @property
    def kept(self) -> float:
        """The share of the rise that is left at the end."""
        return (self.last - self.first) / self.rise


def from_a_tenth(rows: Float[np.ndarray, "n"]) -> Course:
    """A course whose start is the mean of its first tenth."""
    return Course(rows, early=max(1, len(rows) // PARTS))


def parts_of(rows: Float[np.ndarray, "n"]) -> Float[np.ndarray, "parts"]:
    """The mean of each part of a run."""
    return np.array([part.mean() for part in np.array_split(rows, min(PARTS, len(rows)))])


def spread(x: Float[np.ndarray, "n"]) -> float:
    """Between the least and the greatest, as a share of their size."""
    return float(np.ptp(x)) / max(float(np.abs(x).max()), 1e-9)


@dataclass(frozen=True)
class Case:
    """All that is known of a run."""

    history: Mapping[str, Float[np.ndarray, "rows"]]
    """Means over seeds."""
    recipe: Mapping[str, Any]
    randomness: Randomness | None
    own: RungReport | None
    """The run's own estimator under the microscope."""
    seeds: int = 1
    """Those in which an episode ended."""
    flat: int = 0
    """Those whose own return (or length) did not rise."""
    has_first: bool = True
    """Whether the first seed, whose policy a measurement is of, is among those that the figures are means of."""

    def column(self, name: str) -> Float[np.ndarray, "n"]:
        """The rows in which ``name`` was measured."""
        rows = np.asarray(self.history.get(name, ()), float)
        return rows[np.isfinite(rows)]

    def late(self, name: str) -> float:
        """Its median over the second half; NaN where it was not measured."""
        rows = self.column(name)
        return float(np.median(rows[len(rows) // 2 :])) if len(rows) else math.nan

    @cached_property
    def ret(self) -> Float[np.ndarray, "n"]:
        """Mean returns of finished episodes."""
        return self.column("rollout/ep_rew_mean")

    @property
    def size(self) -> float:
        """The size of a return."""
        return float(np.abs(self.ret).max())

    @cached_property
    def by_length(self) -> bool:
        """All returns are alike, lengths are not, and γ < 1 tells a short episode from a long one."""
        lengths = self.column("rollout/ep_len_mean")
        if self.size == 0 or self.recipe["gamma"] >= 1 or not len(lengths) or Course(self.ret).rose:
            return False
        returns = spread(parts_of(self.ret))
        return returns <= ALIKE and spread(parts_of(lengths)) > max(LIMITS["constant"].value, VARIED * returns)

    @cached_property
    def course(self) -> Course:
        """What must rise: the return. Where all are alike, −length if they are positive, else length."""
        return self.course_of(self.by_length)

    def course_of(self, by_length: bool) -> Course:
        """That of the lengths, or that of the returns."""
        if not by_length:
            return Course(self.ret)
        return from_a_tenth(-np.sign(self.ret.mean()) * self.settled("rollout/ep_len_mean"))

    def settled(self, name: str) -> Float[np.ndarray, "n"]:
        """A column without the first rows, in which only short episodes can have ended; all, if no others are."""
        rows, lengths = self.history[name], self.history["rollout/ep_len_mean"]
        passed = self.history["time/total_timesteps"] / self.recipe["n_envs"] > SETTLED * float(np.nanmedian(lengths))
        settled = rows[passed & np.isfinite(rows)]
        return settled if len(settled) else self.column(name)

    @property
    def mixed(self) -> bool:
        """Half of the seeds or more did not rise."""
        return self.seeds > 1 and self.flat >= HALF * self.seeds

    @property
    def steps(self) -> float:
        return float(self.column("time/total_timesteps")[-1])

    @property
    def length(self) -> float:
        """Steps of an episode."""
        return self.late("rollout/ep_len_mean")

    @property
    def updates(self) -> float:
        """Gradient steps."""
        recipe, windows = self.recipe, self.steps / self.recipe["n_envs"]
        if recipe["collect"] == "window":
            windows /= recipe["n_steps"]
        else:
            windows *= float(np.mean(1 / self.column("rollout/ep_len_mean")))
        return windows * recipe["n_epochs"] * recipe["n_minibatches"]

    @property
    def trajectories(self) -> float:
        """Episodes in one update."""
        recipe = self.recipe
        return recipe["n_envs"] * (recipe["n_steps"] / self.length if recipe["collect"] == "window" else 1.0)

    @property
    def sight(self) -> float:
        """1/(1 − γ), in steps."""
        return 1 / max(1 - self.recipe["gamma"], 1e-12)

    @cached_property
    def random(self) -> Float[np.ndarray, "n"]:
        """The share of the untrained policy's randomness, row by row."""
        entropy = self.column("train/entropy")
        if not len(entropy):
            return entropy
        return (self.randomness or Randomness(entropy[0], 0 if entropy[0] > 0 else 1)).share(entropy)


def diagnose(
    history: Mapping[str, Float[np.ndarray, "rows seeds"]],
    recipe: Mapping[str, Any],
    *,
    randomness: Randomness | None = None,
    measurement: Measurement | None = None,
    rung: str = AS_TRAINED,
) -> list[Verdict]:
    """Why a run does not learn: at most six verdicts, the most important first. One that learned has one, "healthy".

    Args:
        history: the log's columns by their names (``rollout/ep_rew_mean``, ``train/entropy``, ...), NaN where nothing
            was measured; ``time/total_timesteps`` among them.
        recipe: the run's options.
        randomness: of the untrained policy; None: as the first row has it.
        measurement: of its policy under the microscope, where there is one.
        rung: which rung of the measurement is the run's own estimator; where there is none, none is read.

    Raises:
        ValueError: a history without rows.
    """
    own = None if measurement is None else measurement.rungs.get(rung)
    case = case_of(history, recipe, randomness, own)
    if not len(case.ret):
        return [no_episode(case)]
    found = [verdict for check in rules_for(case) if (verdict := check(case)) is not None]
    return found[:AT_MOST] or [healthy(case) if case.course.rose else unclear(case)]


def reads_measurement(history: Mapping[str, Float[np.ndarray, "rows seeds"]], recipe: Mapping[str, Any]) -> bool:
    """Whether a measurement could change what :func:`diagnose` says: a rule asks for the noise, and the log has none.

    Raises:
        ValueError: a history without rows.
    """
    case = case_of(history, recipe)
    asked = len(case.ret) > 0 and noisy in rules_for(case) and not len(case.column("measure/snr"))
    return asked and case.has_first


def case_of(
    history: Mapping[str, Float[np.ndarray, "rows seeds"]],
    recipe: Mapping[str, Any],
    randomness: Randomness | None = None,
    own: RungReport | None = None,
) -> Case:
    """The seeds' mean; where half of them or more did not rise, that of those."""
    if not len(history.get("time/total_timesteps", ())):
        raise ValueError("the run has logged nothing yet: train it for longer")
    columns = {name: np.asarray(x, float).reshape(len(x), -1) for name, x in history.items()}

    def mean_of(chosen: list[int], seeds: int = 1, flat: int = 0) -> Case:
        rows = {name: mean_over_seeds(x[:, chosen] if x.shape[1] > 1 else x) for name, x in columns.items()}
        first = 0 in chosen
        return Case(rows, recipe, randomness, own if first else None, seeds, flat, first)

    n = columns["rollout/ep_rew_mean"].shape[1] if "rollout/ep_rew_mean" in columns else 1
    every = mean_of(list(range(n)))
    if n == 1 or not len(every.ret):
        return every
    alone = {i: one for i in range(n) if len((one := mean_of([i])).ret)}
    flat = [i for i, one in alone.items() if not one.course_of(every.by_length).rose]
    counted = replace(every, seeds=len(alone), flat=len(flat))
    return mean_of(flat, len(alone), len(flat)) if counted.mixed else counted


def rules_for(case: Case) -> "tuple[Rule, ...]":
    """Those that are asked of it."""
    if case.course.rose and not case.mixed and not fell_back(case):
        return ALWAYS
    return ALWAYS + (TOO_LITTLE if any(rule(case) for rule in TOO_LITTLE) else IF_NOT_LEARNED)


def mean_over_seeds(x: Float[np.ndarray, "rows seeds"]) -> Float[np.ndarray, "rows"]:
    """NaN only where no seed has a number."""
    x = np.asarray(x, float).reshape(len(x), -1)
    known = np.isfinite(x)
    return np.where(known, x, 0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)


def verdict(name: str, limit: str, value: float, flag: str, words: str) -> Verdict:
    return Verdict(name, words, float(value), LIMITS[limit].value, flag)


# What is wrong even where the return rises


def fell_back(case: Case) -> Verdict | None:
    course, flag = case.course, f"--learning-rate {slower(case):.1g}"
    if not course.rose:
        return fell(case, flag)
    if course.kept >= LIMITS["kept"].value:
        return None
    words = f"{what_rose(case)} and fell back to {abs(course.last):.4g}: steps this large lose what was learned."
    return verdict("fell-back", "kept", course.kept, flag, words + of_seeds(case))


def fell(case: Case, flag: str) -> Verdict | None:
    """A return that never rose, and ended below its start."""
    course = from_a_tenth(case.settled("rollout/ep_rew_mean"))
    if case.by_length or not course.fell:
        return None
    words = f"The return fell from {course.first:.4g} to {course.last:.4g}, and never rose: its steps only lose."
    return verdict("fell-back", "rise", course.fall / max(course.noise, 1e-9), flag, words + of_seeds(case))


def of_seeds(case: Case) -> str:
    """A sentence to add, where some seeds did not rise, unless a verdict has said so."""
    return f" {case.flat} of {case.seeds} seeds did not rise." if case.flat and not seeds_differ(case) else ""


def seeds_differ(case: Case) -> Verdict | None:
    """Half of the seeds or more did not rise by themselves, and others, or the mean, did."""
    if not case.mixed or (case.flat == case.seeds and not case.course.rose):
        return None
    words = (
        f"{case.flat} of {case.seeds} seeds did not rise: a mean over all hides that. Any other verdict is of those."
    )
    return Verdict("seeds-differ", words, case.flat / case.seeds, HALF, longer(case, 4))


def what_rose(case: Case) -> str:
    """The half of a sentence."""
    course = case.course
    if not case.by_length:
        return f"The return rose from {course.first:.4g} to {course.best:.4g}"
    change = "shorter" if case.ret.mean() > 0 else "longer"
    return (
        f"{all_alike(case)}, and episodes became {change}, which counts at γ = {case.recipe['gamma']:g}: "
        f"from {abs(course.first):.4g} to {abs(course.best):.4g} steps"
    )


def all_alike(case: Case) -> str:
    """The half of a sentence."""
    exactly = spread(case.ret) <= LIMITS["constant"].value
    return f"{'Every episode' if exactly else 'Nearly every episode'} returned {np.median(case.ret):.6g}"


def reward_large(case: Case) -> Verdict | None:
    value = discounted(case)
    if case.recipe["normalize_reward"] or case.recipe["clip_reward"] or not value > LIMITS["reward_large"].value:
        return None
    words = f"Discounted returns have a size of about {value:.2g}: too large for V and for the gradient's clip."
    return verdict("reward-large", "reward_large", value, "--normalize-reward", words)


def reward_small(case: Case) -> Verdict | None:
    value = discounted(case)
    if case.recipe["normalize_reward"] or not 0 < value < LIMITS["reward_small"].value:
        return None
    words = f"Discounted returns have a size of about {value:.2g}: the optimiser's ε and any entropy bonus outweigh it."
    return verdict("reward-small", "reward_small", value, "--normalize-reward", words)


def discounted(case: Case) -> float:
    """The size of a discounted return: that of the return, as far as γ sees."""
    lengths = case.column("rollout/ep_len_mean")
    return float(np.median(np.abs(case.ret) * np.minimum(1.0, case.sight / lengths)))


def blind(case: Case) -> Verdict | None:
    if not (case.sight < LIMITS["sight_blind"].value and case.length > 10 * case.sight):
        return None
    return short_sight(case, "sight_blind", case.sight)


def short_sight(case: Case, limit: str, value: float) -> Verdict:
    better = max(0.9, 1 - float(f"{5 / case.length:.1g}"))
    words = (
        f"γ = {case.recipe['gamma']:g} sees {case.sight:.2g} steps ahead, and an episode has {case.length:.3g}: "
        "what an action brings later is not credited to it."
    )
    return verdict("short-sighted", limit, value, f"--gamma {better:.12g}", words)


def far(case: Case) -> Verdict | None:
    value = case.late("train/approx_kl")
    if not value > LIMITS["approx_kl"].value:
        return None
    words = f"A window's steps move the policy by {value:.2g} nats (approx_kl): its data is another policy's by then."
    return verdict("too-far", "approx_kl", value, f"--learning-rate {slower(case):.1g}", words)


def slower(case: Case) -> float:
    """A smaller step size: for the optimisers that scale their steps at most 1e-3."""
    rate = case.recipe["learning_rate"] / 3
    return rate if case.recipe["optimizer"] == "sgd" else min(rate, 1e-3)


def faster(case: Case) -> float:
    """A larger step size, and no tiny one."""
    rate = 10 * case.recipe["learning_rate"]
    return rate if case.recipe["optimizer"] == "sgd" else max(rate, 1e-4)


def more_random(case: Case) -> str:
    """A larger entropy bonus."""
    present = case.recipe["ent_coef"]
    return f"--ent-coef {0.01 if present < 0.01 else 2 * present:.2g}"


def later_limit(case: Case) -> str:
    """Twice the time limit: where it cuts the episodes, their length is the limit."""
    present = case.recipe["max_episode_steps"] or case.length
    return f"--max-episode-steps {2 * math.ceil(present)}"


def longer(case: Case, times: float) -> str:
    """A larger budget."""
    return f"--total-timesteps {times * case.steps:.0e}"


# What is asked only where the return did not rise


def no_signal(case: Case) -> Verdict | None:
    value = spread(case.ret)
    if value > LIMITS["constant"].value or case.by_length:
        return None
    what = "no reward was ever seen" if case.size == 0 else f"every episode returned {case.ret[0]:.6g}"
    cut = case.late("rollout/truncated") > LIMITS["truncated"].value
    flag = later_limit(case) if cut else more_random(case)
    more = f", and the time limit cut it after {case.length:.4g} steps" if cut else ""
    return verdict("no-signal", "constant", value, flag, f"Nothing to learn from: {what}{more}.")


def few_updates(case: Case) -> Verdict | None:
    if not case.updates < LIMITS["updates"].value:
        return None
    words = f"The budget of {case.steps:,.0f} steps is {case.updates:.0f} gradient steps."
    return verdict(
        "few-updates", "updates", case.updates, longer(case, 10 * LIMITS["updates"].value / max(case.updates, 1)), words
    )


def entropy_collapsed(case: Case) -> Verdict | None:
    if not len(case.random):
        return None
    value = float(np.median(case.random[-max(1, len(case.random) // 4) :]))
    if not value < LIMITS["entropy_low"].value:
        return None
    words = f"{value:.1%} of the policy's randomness is left, and it has learned nothing that lasts: it stopped trying."
    bold = case.recipe["learning_rate"] >= 1e-2
    flag = f"--learning-rate {slower(case):.1g}" if bold else more_random(case)
    return verdict("entropy-collapsed", "entropy_low", value, flag, words)


def entropy_stuck(case: Case) -> Verdict | None:
    if not len(case.random) or case.recipe["ent_coef"] == 0:
        return None
    value = float(case.random[-1])
    if value < LIMITS["entropy_high"].value:
        return None
    lower = case.recipe["ent_coef"] / 100
    words = (
        f"The policy still has {value:.0%} of its randomness: the bonus of {case.recipe['ent_coef']:g} pays more "
        "than the rewards."
    )
    return verdict("entropy-stuck", "entropy_high", value, f"--ent-coef {lower:.1g}", words)


def hardly_moves(case: Case) -> Verdict | None:
    if not len(case.random) or entropy_stuck(case):
        return None
    moved = float(np.ptp(case.random))
    if moved > LIMITS["entropy_moved"].value:
        return None
    words = f"The policy hardly moves: in {case.updates:,.0f} gradient steps its randomness changed by {moved:.2%}."
    return verdict("hardly-moves", "entropy_moved", moved, f"--learning-rate {faster(case):.1g}", words)


def clipped(case: Case) -> Verdict | None:
    value, kl = case.late("train/clip_fraction"), case.late("train/approx_kl")
    if not value > LIMITS["clip_fraction"].value or kl > LIMITS["approx_kl"].value:
        return None
    words = f"{value:.0%} of the rows are clipped at ε = {case.recipe['clip_range']:g}: they teach nothing."
    tight = case.recipe["clip_range"] < 0.1
    flag = "--clip-range 0.2" if tight else f"--learning-rate {slower(case):.1g}"
    return verdict("always-clipped", "clip_fraction", value, flag, words)


def sees_little(case: Case) -> Verdict | None:
    value = case.sight / case.length
    if blind(case) or not value < LIMITS["sight_short"].value:
        return None
    return short_sight(case, "sight_short", value)


def critic_blind(case: Case) -> Verdict | None:
    value = case.late("train/explained_variance")
    if not value < LIMITS["explained"].value:
        return None
    words = f"The critic explains {max(value, 0):.0%} of the returns' variance: a constant would be as good."
    return verdict("critic-blind", "explained", value, better_critic(case), words)


def better_critic(case: Case) -> str:
    """The first thing that is not done yet."""
    recipe = case.recipe
    if recipe["vf_coef"] < 0.25:
        return "--vf-coef 0.5"
    if not recipe["normalize_reward"]:
        return "--normalize-reward"
    if not recipe["normalize_obs"] and recipe["policy"] != "tabular":  # a table has nothing to normalise
        return "--normalize-obs"
    return f"--vf-coef {2 * recipe['vf_coef']:.2g}"


def noisy(case: Case) -> Verdict | None:
    value, limit = snr_of(case), LIMITS["snr"].value
    if not value < max(limit, min(2 * snr_error(case), 10 * limit)):
        return None
    words = f"The gradient is drowned in noise: an update's signal-to-noise ratio is {value:.2g}"
    words += "." if value < limit else ", which is not told from zero."
    times = 2 ** min(6, max(2, math.ceil(math.log2(limit / max(value, 1e-9)))))
    return verdict("noisy", "snr", value, f"--n-envs {case.recipe['n_envs'] * times}", words)


def snr_error(case: Case) -> float:
    """Standard error of what was logged; 0 where it was not."""
    logged = case.column("measure/snr")
    return float(logged.std(ddof=1) / math.sqrt(len(logged))) if len(logged) > 1 else 0.0


def snr_of(case: Case) -> float:
    """‖E ĝ‖²/tr Cov ĝ of one update, as it was logged; else that of the last policy: an update's trajectories over the
    noise scale. Where no signal was seen the scale's lower end gives what it is at most. NaN where nobody looked."""
    logged = case.column("measure/snr")
    if len(logged):
        return float(logged.mean())
    if case.own is None:
        return math.nan
    scale = case.own.noise_scale
    known = scale.value if math.isfinite(scale.value) and scale.value > 0 else scale.low
    return case.trajectories / known if known > 0 else math.nan


def gradient_clipped(case: Case) -> Verdict | None:
    bound = case.recipe["max_grad_norm"]
    if bound is None:
        return None
    value = case.late("train/grad_norm") / bound
    if not value > LIMITS["clipped_norm"].value:
        return None
    words = (
        f"The gradient is {value:.3g} times as long as max_grad_norm: every step is cut, and V's share is the largest."
    )
    flag = "--max-grad-norm none" if case.recipe["normalize_reward"] else "--normalize-reward"
    return verdict("gradient-clipped", "clipped_norm", value, flag, words)


def truncated(case: Case) -> Verdict | None:
    value = case.late("rollout/truncated")
    if not value > LIMITS["truncated"].value:
        return None
    words = f"The time limit cuts {value:.0%} of the episodes, after {case.length:.4g} steps: no end is ever seen."
    return verdict("always-truncated", "truncated", value, later_limit(case), words)


# Where no rule speaks


def no_episode(case: Case) -> Verdict:
    words = f"No episode ended in {case.steps:,.0f} steps: there is no return to judge by."
    limit, n_envs = case.recipe["max_episode_steps"], case.recipe["n_envs"]
    played = case.steps / n_envs  # steps of each environment
    flag = f"--max-episode-steps {min(1000, math.ceil(played / 2))}"
    return Verdict("no-episode", words, 0.0, 1.0, longer(case, max(2, 20 * limit / played)) if limit else flag)


def healthy(case: Case) -> Verdict:
    course, flag = case.course, ""
    words = f"Healthy: {lowered(what_rose(case))}.{of_seeds(case)}"
    if course.kept < SWAY:
        words += f" It sways, and ended at {abs(course.last):.4g}."
        constant = case.recipe["lr_schedule"] == "constant"
        flag = "--lr-schedule linear" if constant else f"--learning-rate {slower(case):.1g}"
    elif len(course.parts) > 2 and course.last - course.parts[-3] > STILL * course.rise:
        words += " Lengths were still changing." if case.by_length else " It was still rising."
        flag = longer(case, 2)
    return verdict("healthy", "rise", course.rise / max(course.noise, 1e-9), flag, words)


def unclear(case: Case) -> Verdict:
    course = case.course
    ends = f"({abs(course.first):.4g} steps at first, {abs(course.last):.4g} at last)"
    words = (
        f"{all_alike(case)}, but lengths have not changed for the better {ends}, and no rule says why."
        if case.by_length
        else f"The return did not rise ({course.first:.4g} at first, {course.last:.4g} at last), and no rule says why."
    )
    return verdict("unclear", "rise", course.rise / max(course.noise, 1e-9), longer(case, 4), words + of_seeds(case))


def lowered(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


Rule = Callable[[Case], Verdict | None]

ALWAYS: tuple[Rule, ...] = (reward_large, reward_small, seeds_differ, fell_back, blind, far)
TOO_LITTLE: tuple[Rule, ...] = (no_signal, few_updates)
IF_NOT_LEARNED: tuple[Rule, ...] = (
    entropy_collapsed,
    entropy_stuck,
    clipped,
    hardly_moves,
    sees_little,
    critic_blind,
    noisy,
    gradient_clipped,
    truncated,
)
"""The rules, the gravest first. Where there was too little to learn from, all other figures mean nothing."""
