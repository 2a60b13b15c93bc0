"""Tables of transitions, one row for each step, in CSV or Parquet.

| column | meaning |
| --- | --- |
| `episode` | which episode the row belongs to: a number or a word |
| `step` | its place there, a whole number from 0 or 1; without it rows are in the file's order |
| `obs`, or `obs_0`, `obs_1`, ... | s_t: one whole number is a Discrete one; a list, or several columns, a Box |
| `action`, or `action_0`, ... | a_t: whole numbers from 0 are Discrete, others a Box |
| `reward`, `terminated` | r_t, and whether the state after a_t is an end |
| `truncated` | whether the episode was cut there |
| `log_mu`, or `propensity` | of the policy that acted: log μ(a_t), or μ(a_t) |
| or `probabilities` (`probabilities_0`, ...) | its μ of every action |
| `next_obs`, or `next_obs_0`, ... | s_{t+1} |

Without `next_obs` nobody knows what the last row of a cut episode led to: that row is dropped, and its observation is
the successor of the row before.
"""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policygrad.storage.datasets import Dataset, DatasetError, check
from policygrad.storage.tables import column, read_table, write_table

NEEDED = ("episode", "reward", "terminated")
FAMILIES = ("obs", "action", "next_obs", "probabilities")
PLAIN = ("episode", "step", "reward", "terminated", "truncated", "log_mu", "propensity")
KNOWN = "episode, step, obs or obs_0.., action or action_0.., reward, terminated, truncated, log_mu, propensity, "
KNOWN += "probabilities or probabilities_0.., next_obs or next_obs_0.."
SUM_TOLERANCE = 1e-4
"""How far probabilities that were written as decimals may be from a sum of one."""


def read(path: str | os.PathLike, *, ignore_columns: Sequence[str] = ()) -> Dataset:
    """The whole episodes of a table.

    Raises:
        DatasetError: columns that are unknown or missing, probabilities that are none, episodes that do not fit
            together; the message names the row or the episode.
        TableError: no such file, or no table.
    """
    path = Path(path)
    table = read_table(path)
    ignored = [name for name in ignore_columns if name not in table]
    if ignored:
        raise DatasetError(f"{path} has no column {ignored[0]!r} to ignore; it has {', '.join(table)}")
    table = {name: values for name, values in table.items() if name not in ignore_columns}
    refuse_unknown(path, table)
    for name in NEEDED:
        column(path, table, name)
    rows, length = order(path, table)
    table = {name: values[rows] for name, values in table.items()}
    obs, action = family(path, table, "obs"), family(path, table, "action")
    if obs is None or action is None:
        raise DatasetError(f"{path} has no column {'obs' if obs is None else 'action'!r}: it needs {KNOWN}")
    last = np.cumsum(length) - 1
    terminated = flags(path, table, "terminated")
    ends = terminated | flags(path, table, "truncated")
    early = np.flatnonzero(np.delete(ends, last))
    if early.size:
        row = int(np.delete(np.arange(len(ends)), last)[early[0]])
        raise DatasetError(f"{path}: {where(table, row)} goes on after its end: make what follows another episode")
    dataset = Dataset(
        obs=obs,
        action=action,
        reward=numbers(path, table, "reward"),
        log_mu=propensities(path, table, action),
        length=length,
        terminated=terminated[last],
        final_obs=obs[last],
        about={"source": path.name},
    )
    following = family(path, table, "next_obs")
    return check(
        without_cut_rows(path, dataset) if following is None else with_successors(path, table, dataset, following)
    )


def write(path: str | os.PathLike, dataset: Dataset) -> None:
    """One row for each step, with ``next_obs`` and, where it was logged, ``log_mu``.

    Raises:
        DatasetError: observations or actions that are no number and no vector.
    """
    for name, part in (("obs", dataset.obs), ("action", dataset.action)):
        if not isinstance(part, np.ndarray) or part.ndim > 2:
            raise DatasetError(
                f"{path}: the {name} is no number and no vector, which is all a table holds: write .safetensors"
            )
    last = np.cumsum(dataset.length) - 1
    following = np.roll(dataset.obs, -1, axis=0)
    following[last] = dataset.final_obs
    ended, cut = np.zeros(dataset.rows, bool), np.zeros(dataset.rows, bool)
    ended[last], cut[last] = dataset.terminated, ~dataset.terminated
    columns = {
        "episode": np.repeat(np.arange(dataset.episodes), dataset.length),
        "step": np.arange(dataset.rows) - np.repeat(dataset.first, dataset.length),
        **spread("obs", dataset.obs),
        **spread("action", dataset.action),
        "reward": dataset.reward,
        "terminated": ended,
        "truncated": cut,
        **({} if dataset.log_mu is None else {"log_mu": dataset.log_mu}),
        **spread("next_obs", following),
    }
    write_table(path, columns)


def spread(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """``name``, or ``name_0``, ``name_1``, ... of vectors."""
    return {name: values} if values.ndim == 1 else {f"{name}_{i}": values[:, i] for i in range(values.shape[1])}


# Columns


def refuse_unknown(path: Path, table: Mapping[str, np.ndarray]) -> None:
    numbered = re.compile(rf"({'|'.join(FAMILIES)})(_\d+)?")
    unknown = [name for name in table if name not in PLAIN and not numbered.fullmatch(name)]
    if unknown:
        names = ",".join(unknown)
        raise DatasetError(
            f"{path} has unknown columns ({names}): rename them, or ignore them with --ignore-columns "
            f"{names}. Known are {KNOWN}"
        )


def family(path: Path, table: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    """One column, or numbered ones side by side: whole numbers as int32, others as float32. None: there is none."""
    own = [key for key in table if re.fullmatch(rf"{name}_\d+", key)]
    numbered = sorted(own, key=lambda key: int(key[len(name) + 1 :]))
    if name in table and numbered:
        raise DatasetError(f"{path} has both {name} and {numbered[0]}: ignore one of them")
    missing = [f"{name}_{i}" for i, key in enumerate(numbered) if key != f"{name}_{i}"]
    if missing:
        raise DatasetError(f"{path} has {numbered[-1]} but no {missing[0]}: number the columns from 0")
    if name in table:
        values = table[name]
    elif numbered:
        values = np.stack([table[key] for key in numbered], axis=1)
    else:
        return None
    if values.dtype.kind not in "iufb":
        raise DatasetError(f"{path}: {name} holds words, not numbers")
    whole = values.dtype.kind in "iub" and (values.ndim == 1 or name == "action")
    return values.astype(np.int32 if whole else np.float32)


def numbers(path: Path, table: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    values = table[name]
    if values.dtype.kind not in "iufb" or values.ndim != 1:
        raise DatasetError(f"{path}: {name} must be one number a row")
    return values.astype(np.float32)


def flags(path: Path, table: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Truths, also written as 0 and 1; all False where there is no such column."""
    values = table.get(name, np.zeros(len(table["reward"]), bool))
    if values.dtype.kind not in "iufb" or not np.isin(values, (0, 1)).all():
        raise DatasetError(f"{path}: {name} must be true or false (1 or 0) in every row")
    return values.astype(bool)


def order(path: Path, table: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """``(rows, length)``: the rows of each episode one after another, episodes in the order of their first rows."""
    _, first, episode = np.unique(named(path, table["episode"]), return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[episode.reshape(-1)]
    length = np.bincount(rank)
    if "step" not in table:
        return np.argsort(rank, kind="stable"), length
    steps = whole(path, "step", table["step"])
    rows = np.lexsort((steps, rank))
    step, start = steps[rows], np.repeat(np.cumsum(length) - length, length)
    late = np.flatnonzero((step[start] < 0) | (step[start] > 1))
    if late.size:
        row = rows[late[0]]
        raise DatasetError(
            f"{path}: episode {table['episode'][row]} begins with step {steps[row]}, not 0 or 1: add the rows before, "
            "or drop that episode"
        )
    wrong = np.flatnonzero(step - step[start] != np.arange(len(rows)) - start)
    if wrong.size:
        row = rows[wrong[0]]
        raise DatasetError(
            f"{path}: the steps of episode {table['episode'][row]} are not 0, 1, 2, ...: "
            f"step {steps[row]} does not follow the one before"
        )
    return rows, length


def named(path: Path, episode: np.ndarray) -> np.ndarray:
    """One number or word a row, none of them empty."""
    if episode.ndim != 1:
        raise DatasetError(f"{path}: episode must be one number or word a row")
    empty = np.flatnonzero(np.char.strip(episode) == "" if episode.dtype.kind == "U" else episode != episode)
    if empty.size:
        raise DatasetError(f"{path}: episode is empty in row {empty[0]}: say which episode it belongs to")
    return episode


def whole(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    """Whole numbers, one a row."""
    if values.ndim != 1:
        raise DatasetError(f"{path}: {name} must be one whole number a row")
    if values.dtype.kind == "U":
        bad: Any = np.array([not re.fullmatch(r"[+-]?\d{1,18}", cell.strip()) for cell in values])
    else:
        bad = values.dtype.kind not in "iuf" or ~np.isfinite(values) | (values != np.round(values))
    wrong = np.flatnonzero(np.broadcast_to(bad, values.shape))
    if wrong.size:
        cell = str(values[wrong[0]]).strip()
        shown = "empty" if cell in ("", "nan") else repr(cell)
        raise DatasetError(f"{path}: {name} is {shown} in row {wrong[0]}: it must be a whole number in every row")
    return values.astype(np.int64)


def where(table: Mapping[str, np.ndarray], row: int) -> str:
    """A row in the table's own words."""
    step = f", step {table['step'][row]}" if "step" in table else ""
    return f"episode {table['episode'][row]}{step}"


# What the policy that acted gave its actions


def propensities(path: Path, table: Mapping[str, np.ndarray], action: np.ndarray) -> np.ndarray | None:
    """log μ(a_t), in nats, from whichever column says it; None: nothing does."""
    probabilities = family(path, table, "probabilities")
    given = [name for name in ("log_mu", "propensity") if name in table]
    given += ["probabilities"] if probabilities is not None else []
    if len(given) > 1:
        raise DatasetError(f"{path} has both {given[0]} and {given[1]}, which say the same: ignore one of them")
    if not given:
        return None
    if given[0] == "log_mu":
        return numbers(path, table, "log_mu")
    if action.dtype.kind != "i":
        raise DatasetError(f"{path}: {given[0]} is for Discrete actions; of others give the log density, log_mu")
    if probabilities is None:
        return np.log(in_range(path, table, "propensity", numbers(path, table, "propensity"), action))
    return np.log(of_action(path, table, probabilities, action))


def of_action(path: Path, table: Mapping[str, np.ndarray], p: np.ndarray, action: np.ndarray) -> np.ndarray:
    """μ(a_t) from μ(·) ``[N, k]``, which must be probabilities."""
    if p.ndim != 2 or action.ndim != 1:
        raise DatasetError(f"{path}: probabilities need one number for each action, and one action a row")
    bad = np.flatnonzero((p < 0).any(axis=1) | (abs(p.sum(axis=1) - 1) > SUM_TOLERANCE) | ~np.isfinite(p).all(axis=1))
    if bad.size:
        row = int(bad[0])
        raise DatasetError(
            f"{path}: the probabilities of {where(table, row)} sum to {p[row].sum():.4g} (least "
            f"{p[row].min():.4g}): they must be at least 0 and sum to 1"
        )
    outside = np.flatnonzero((action < 0) | (action >= p.shape[1]))
    if outside.size:
        row = int(outside[0])
        raise DatasetError(
            f"{path}: the action {action[row]} of {where(table, row)} has no probability: "
            f"there are {p.shape[1]}, counted from 0"
        )
    return in_range(path, table, "probability", p[np.arange(len(p)), action], action)


def in_range(path: Path, table: Mapping[str, np.ndarray], name: str, p: np.ndarray, action: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero(~((p > 0) & (p <= 1)))
    if bad.size:
        row = int(bad[0])
        raise DatasetError(
            f"{path}: the {name} of action {action[row]} in {where(table, row)} is {p[row]:.4g}: "
            "an action that was taken has a probability in (0, 1]"
        )
    return p


# Successors


def with_successors(path: Path, table: Mapping[str, np.ndarray], dataset: Dataset, following: np.ndarray) -> Dataset:
    """The last successor of each episode, which may be blank after an end; the others must be the next row's
    observation."""
    obs: Any = dataset.obs
    if following.shape != obs.shape:
        raise DatasetError(f"{path}: next_obs has shape {following.shape[1:]} and obs {obs.shape[1:]}: give both alike")
    last = np.cumsum(dataset.length) - 1
    inner = np.delete(np.arange(dataset.rows), last)
    same = (following[inner] == obs[inner + 1]).reshape(len(inner), -1).all(axis=1)
    if not same.all():
        row = int(inner[np.argmin(same)])
        raise DatasetError(
            f"{path}: next_obs of {where(table, row)} is not the obs of the row after it: "
            "sort the rows, or ignore next_obs"
        )
    blank = np.isnan(following[last]) & dataset.terminated.reshape(-1, *[1] * (obs.ndim - 1))
    return dataset._replace(final_obs=np.where(blank, obs[last], following[last]).astype(obs.dtype))


def without_cut_rows(path: Path, dataset: Dataset) -> Dataset:
    """Cut episodes lose their last row, whose observation is the successor of the row before."""
    cut = ~dataset.terminated
    if not cut.any():
        return dataset
    if (dataset.length[cut] < 2).any():
        raise DatasetError(
            f"{path}: an episode that was cut has one row, and no next_obs says what it led to: "
            "add next_obs, or drop that episode"
        )
    kept = np.ones(dataset.rows, bool)
    kept[(np.cumsum(dataset.length) - 1)[cut]] = False
    warnings.warn(
        f"{path}: without next_obs the last row of each of {cut.sum()} cut episodes only says what the row before led "
        "to, and is dropped",
        stacklevel=2,
    )
    return dataset._replace(
        obs=dataset.obs[kept],
        action=dataset.action[kept],
        reward=dataset.reward[kept],
        log_mu=None if dataset.log_mu is None else dataset.log_mu[kept],
        length=dataset.length - cut,
    )
