"""Logged rows: what somebody chose, was paid, and with which probability. Enough to learn from, and to judge others by.

The value of any policy π on rows that μ chose, without playing it (Horvitz & Thompson 1952; Dudík et al. 2011):

    V̂(π) = (1/T) Σ_t  π(a_t|x_t) / μ(a_t|x_t) · r_t,      E[V̂(π)] = V(π)  where μ(a|x) > 0
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from policygrad.bandits.bandit import Bandit, BanditState
from policygrad.bandits.data import in_order, is_whole, words_of
from policygrad.bandits.stream import in_pieces, pick

ACTION, REWARD, LOSS, PROPENSITY, PROBABILITIES, ROW = "action", "reward", "loss", "propensity", "probabilities", "row"
OURS = (ROW, ACTION, REWARD, LOSS, PROPENSITY, PROBABILITIES)
"""The columns of a log; all others are features."""


class LogError(ValueError):
    """A log that cannot be used; the message says what is wrong with it."""


class Logged(NamedTuple):
    """Rows that somebody chose."""

    columns: dict[str, np.ndarray]
    """Features by name, ``[T]`` each."""
    action: np.ndarray
    """``[T]``, 0 to K − 1."""
    reward: np.ndarray
    """``[T]``; losses where the log has them."""
    propensity: np.ndarray
    """``[T]``: with which probability the action was chosen, in (0, 1]."""
    classes: tuple[str, ...]


def read_log(
    columns: Mapping[str, np.ndarray], *, losses: bool = False, classes: tuple[str, ...] | None = None
) -> Logged:
    """The log in a table with the columns ``action``, ``reward`` (or ``loss``) and ``propensity``, and features.

    A column ``probabilities`` (the whole distribution, ``[T, K]``, in the order of the actions: whole numbers by size,
    words by the alphabet) is checked too. Where it is wider than the actions that appear, and these are whole numbers
    from 0 on, the actions are 0 to K − 1.

    Args:
        losses: the log has losses.
        classes: the actions in their order, where they are known; some may never appear.

    Raises:
        LogError: a column is missing, a propensity is outside (0, 1], a reward outside [0, 1], probabilities do not sum
            to one or differ from the propensity, or an action is unknown.
    """
    pay = LOSS if losses else REWARD
    for name in (ACTION, pay, PROPENSITY):
        if name not in columns:
            raise LogError(f"the log has no column {name!r}{hint(name, columns)}; it has {', '.join(columns)}")
    words = words_of(columns[ACTION])
    if words is None:
        raise LogError(f"the log's column {ACTION!r} must hold words or whole numbers")
    names = actions_of(words, columns.get(PROBABILITIES)) if classes is None else classes
    if len(names) < 2:
        raise LogError(f"every row of the log has the action {names[0]!r}: there is nothing to compare it with")
    numbers = {name: number for number, name in enumerate(names)}
    unknown = sorted(set(words.tolist()) - set(names))
    if unknown:
        raise LogError(f"the log has the action {unknown[0]!r}; the bandit's are {', '.join(names)}")
    action = np.asarray([numbers[word] for word in words])
    reward, propensity = numbers_of(columns, pay), numbers_of(columns, PROPENSITY)
    first(~((propensity > 0) & (propensity <= 1)), PROPENSITY, propensity, "must be above 0 and at most 1")
    first(~((reward >= 0) & (reward <= 1)), pay, reward, "must be from 0 to 1: scale it")
    if PROBABILITIES in columns:
        check_probabilities(columns[PROBABILITIES], action, propensity, names)
    features = {name: column for name, column in columns.items() if name not in OURS}
    return Logged(features, action, reward.astype(np.float32), propensity.astype(np.float32), names)


def hint(missing: str, columns: Mapping[str, np.ndarray]) -> str:
    """What may be meant, or what is lost."""
    if missing == PROPENSITY:
        return "; a log without it cannot be corrected for who chose"
    return " but one of losses: add --losses" if missing == REWARD and LOSS in columns else ""


def actions_of(words: np.ndarray, probabilities: np.ndarray | None) -> tuple[str, ...]:
    """The actions that appear, or 0 to K − 1 where there are K probabilities a row and only some actions appear."""
    names = in_order(words)
    width = probabilities.shape[1] if probabilities is not None and probabilities.ndim == 2 else 0
    numbered = all(is_whole(name) and 0 <= int(name) < width for name in names)
    return tuple(map(str, range(width))) if numbered and width > len(names) else names


def check_probabilities(
    probabilities: np.ndarray, action: np.ndarray, propensity: np.ndarray, names: tuple[str, ...]
) -> None:
    """Each row is a distribution over the actions, and agrees with the propensity."""
    order = ", ".join(names) if len(names) <= 20 else f"{names[0]}, {names[1]}, ..., {names[-1]}"
    if probabilities.ndim != 2 or probabilities.shape[1] != len(names):
        width = f"{probabilities.shape[1]} numbers" if probabilities.ndim == 2 else "no list"
        raise LogError(
            f"a row of the log's probabilities must be a list of {len(names)} numbers, for the actions {order} in this "
            f"order, and is {width}: name all actions with --actions"
        )
    total = probabilities.sum(axis=1)
    first(~(np.abs(total - 1) <= 1e-3), "sum of probabilities", total, "must be 1")
    chosen = probabilities[np.arange(len(action)), action]
    words = f"is not the action's probability; they are taken in the order {order}"
    first(~(np.abs(chosen - propensity) <= 1e-3), PROPENSITY, propensity, words)


def numbers_of(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    column = columns[name]
    if column.dtype.kind not in "biuf" or column.ndim != 1:
        raise LogError(f"the log's column {name!r} must hold one number a row")
    return column.astype(np.float64)


def first(bad: np.ndarray, name: str, values: np.ndarray, words: str) -> None:
    """Name the first bad row, if there is one."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise LogError(f"row {row} of the log: {name} is {values[row]:g}; it {words}")


def replay(
    bandit: Bandit,
    state: BanditState,
    features: Float[ArrayLike, "T d"],
    action: ArrayLike,
    reward: Float[ArrayLike, "T"],
    propensity: Float[ArrayLike, "T"],
) -> tuple[BanditState, Float[Array, "T"]]:
    """Learn from a log in its order, each row weighted by 1/(K·propensity).

    Returns:
        The state, and ``[T]``: the probability with which the bandit itself would have chosen the logged action, before
        it learned from the row. :func:`off_policy_value` turns that into an honest estimate of what it would have
        earned, learning as it went on these rows.
    """
    rows = jnp.asarray(features), jnp.asarray(action), jnp.asarray(reward), jnp.asarray(propensity)
    return in_pieces(partial(replay_piece, bandit), state, rows)


@partial(jax.jit, static_argnames="bandit")
def replay_piece(bandit: Bandit, state: BanditState, rows: tuple) -> tuple[BanditState, Float[Array, "T"]]:
    """:func:`replay` in one program."""

    def step(state: BanditState, row: tuple) -> tuple[BanditState, Array]:
        x, a, r, p = row
        would = pick(bandit.predict(state, x).probabilities, a)
        return bandit.learn(state, x, a, r, p), would

    return jax.lax.scan(step, state, rows)


ENOUGH, COVERED = 30, 0.5
"""Below so many effective rows, or so small a mean weight, an interval is not to be believed."""


class Value(NamedTuple):
    """An estimate of E[r] under another policy, with its standard error, in the unit of the reward."""

    mean: float
    error: float
    effective: float
    """(Σw)²/Σw², the effective sample size: how many rows the estimate is really made of (Kong 1992)."""
    weight: float
    """The mean of w = π/μ. It is one on average; it falls short by the share of what π does that μ never tried."""

    def doubts(self) -> list[str]:
        """Why the interval is not to be believed; empty where nothing speaks against it."""
        said = []
        if self.weight < COVERED:
            said.append(
                f"the mean weight is {self.weight:.2f} and not about 1: much of what the bandit would do the log never "
                "tried, and nobody knows what that pays"
            )
        if self.effective < ENOUGH:
            said.append(f"fewer than {ENOUGH} effective rows: the interval is too narrow")
        return said


def off_policy_value(would: np.ndarray, reward: np.ndarray, propensity: np.ndarray) -> Value:
    """Inverse propensity scoring: the mean of w·r with w = would/propensity, ``[T]`` each. Unbiased."""
    weight = np.asarray(would, np.float64) / np.asarray(propensity, np.float64)
    terms = weight * np.asarray(reward, np.float64)
    error = float(np.std(terms, ddof=1) / math.sqrt(len(terms))) if len(terms) > 1 else math.nan
    total = float(np.sum(weight**2))
    effective = float(np.sum(weight)) ** 2 / total if total else 0.0
    return Value(float(np.mean(terms)), error, effective, float(np.mean(weight)))
