"""Datasets at rest: whole episodes of some policy, in one safetensors file of our own.

    dataset = load("cartpole.safetensors")
    trajectory = trajectories(dataset, range(32))       # [T, 32], what gradients are made of

The rows of all episodes follow one another; row t belongs to the action a_t. Other formats are read and written beside
this file.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import PyTree

from policygrad.storage.checkpoint import write_atomically
from policygrad.types import MaskedObs, Trajectory

FORMAT = "policygrad-dataset"
FORMAT_VERSION = 1


class DatasetError(ValueError):
    """A dataset that cannot be read, written or used; the message names the fix."""


class Dataset(NamedTuple):
    """E whole episodes with N rows all together."""

    obs: PyTree[np.ndarray]
    """s_t, ``[N, ...]``, as the environment shows it."""
    action: PyTree[np.ndarray]
    """a_t as it was sampled, ``[N, ...]``."""
    reward: np.ndarray
    """r_t, ``[N]``."""
    log_mu: np.ndarray | None
    """log μ(a_t | ·) of the policy that acted, in nats, ``[N]``; None where it was not logged."""
    length: np.ndarray
    """Rows of each episode, ``[E]``."""
    terminated: np.ndarray
    """``[E]``: the state after the last row is an end. Otherwise the episode was cut there."""
    final_obs: PyTree[np.ndarray]
    """The true successor of each last row, ``[E, ...]``; of an episode that ended it is not looked at."""
    about: dict[str, Any]
    """Plain JSON: ``env`` (its id) and whatever else is known (``env_kwargs``, ``behaviour``, ``seed``, ...)."""

    @property
    def episodes(self) -> int:
        return len(self.length)

    @property
    def rows(self) -> int:
        return len(self.reward)

    @property
    def first(self) -> np.ndarray:
        """The first row of each episode, ``[E]``."""
        return np.cumsum(self.length) - self.length

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted return of each episode, ``[E]``."""
        return np.add.reduceat(np.asarray(self.reward, np.float64), self.first)


def check(dataset: Dataset) -> Dataset:
    """The dataset itself, if its parts fit together and its numbers are finite.

    Raises:
        DatasetError: what does not fit, and where.
    """
    n, e = dataset.rows, dataset.episodes
    if not e or (dataset.length < 1).any() or int(dataset.length.sum()) != n:
        raise DatasetError(f"the lengths of {e} episodes must be positive and add up to the {n} rows there are")
    for name, part, count in (
        ("obs", dataset.obs, n),
        ("action", dataset.action, n),
        ("terminated", dataset.terminated, e),
        ("final_obs", dataset.final_obs, e),
    ):
        for leaf in jax.tree.leaves(part):
            if len(leaf) != count:
                raise DatasetError(f"{name} has {len(leaf)} entries where {count} are needed")
            refuse_infinite(name, leaf)
    refuse_infinite("reward", dataset.reward)
    if dataset.log_mu is not None:
        if len(dataset.log_mu) != n:
            raise DatasetError(f"log_mu has {len(dataset.log_mu)} entries where {n} are needed")
        refuse_infinite("log_mu", dataset.log_mu)
    return dataset


def refuse_infinite(name: str, leaf: np.ndarray) -> None:
    if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
        row = int(np.argmax(~np.isfinite(leaf.reshape(len(leaf), -1)).all(axis=1)))
        raise DatasetError(f"{name} is not finite in row {row}: mend or leave out that episode")


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 of all arrays with their names, types and shapes, in hexadecimal: what a run learned from. ``about`` does
    not count."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(dataset._replace(about={})._asdict()):
        values = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {values.dtype.str} {values.shape};".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def select(dataset: Dataset, episodes: Sequence[int] | np.ndarray) -> Dataset:
    """Some episodes, in the order given."""
    chosen = np.asarray(episodes, int)
    first, length = dataset.first[chosen], dataset.length[chosen]
    rows = np.concatenate([np.arange(f, f + n) for f, n in zip(first, length)]) if len(chosen) else np.zeros(0, int)
    by = lambda index: lambda tree: jax.tree.map(lambda x: x[index], tree)  # noqa: E731
    row, episode = by(rows), by(chosen)
    return dataset._replace(
        obs=row(dataset.obs), action=row(dataset.action), reward=dataset.reward[rows],
        log_mu=None if dataset.log_mu is None else dataset.log_mu[rows],
        length=length, terminated=dataset.terminated[chosen], final_obs=episode(dataset.final_obs),
    )  # fmt: skip


def trajectories(
    dataset: Dataset, episodes: Sequence[int] | np.ndarray | None = None, *, pad_to: int | None = None
) -> Trajectory:
    """Whole episodes as one trajectory ``[T, B]``, padded: NumPy arrays, without a recurrent carry.

    Args:
        episodes: which, in order; default: all.
        pad_to: T, at least the longest episode; default: the longest episode.

    Padding repeats the last row's observation and action, so that every number there is an ordinary one; its mask is
    False. ``log_mu`` is zero where none was logged.
    """
    part = dataset if episodes is None else select(dataset, episodes)
    n_steps = int(part.length.max()) if pad_to is None else pad_to
    if n_steps < part.length.max():
        raise DatasetError(f"an episode has {part.length.max()} rows, more than {n_steps}: give a longer limit")
    time: Any = np.arange(n_steps)[:, None]
    mask: Any = time < part.length
    row = part.first + np.minimum(time, part.length - 1)
    last = time == part.length - 1
    times: Any = np.broadcast_to(time, mask.shape).astype(np.int32)
    log_mu = np.zeros(part.rows, np.float32) if part.log_mu is None else part.log_mu
    return Trajectory(
        obs=jax.tree.map(lambda x: x[row], part.obs),
        action=jax.tree.map(lambda x: x[row], part.action),
        reward=(mask * part.reward[row]).astype(part.reward.dtype),
        terminated=last & part.terminated,
        truncated=last & ~part.terminated,
        log_mu=log_mu[row],
        time=times,
        start=times == 0,
        mask=mask,
        carry=None,
        cut_obs=jax.tree.map(lambda x: x[None], part.final_obs),
    )


def join(parts: Sequence[Dataset]) -> Dataset:
    """The episodes of several datasets, one after another; ``about`` is the first one's. Propensities are kept if all
    have them."""
    together = lambda name: jax.tree.map(lambda *xs: np.concatenate(xs), *(getattr(p, name) for p in parts))  # noqa: E731
    logged = all(part.log_mu is not None for part in parts)
    names = ("obs", "action", "reward", "length", "terminated", "final_obs")
    return Dataset(
        **{name: together(name) for name in names},
        log_mu=together("log_mu") if logged else None,
        about=dict(parts[0].about),
    )


def save(path: str | os.PathLike, dataset: Dataset) -> None:
    """Write one ``.safetensors`` file, atomically."""
    arrays: dict[str, np.ndarray] = {}

    def note(tree: Any, name: str) -> Any:
        """The structure of a nested observation or action in JSON, its arrays put aside."""
        if isinstance(tree, Mapping):
            return {"dict": {str(key): note(tree[key], f"{name}.{key}") for key in sorted(tree)}}
        if isinstance(tree, MaskedObs):
            return {"masked": [note(part, f"{name}.{index}") for index, part in enumerate(tree)]}
        if isinstance(tree, tuple):
            return {"tuple": [note(part, f"{name}.{index}") for index, part in enumerate(tree)]}
        arrays[name] = np.ascontiguousarray(tree)
        return name

    parts = {name: note(part, name) for name, part in dataset._asdict().items() if name != "about" and part is not None}
    header = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "parts": json.dumps(parts),
        "about": json.dumps(dataset.about, allow_nan=False),
    }
    write_atomically(path, safetensors.numpy.save(arrays, metadata=header))


def load(path: str | os.PathLike) -> Dataset:
    """Read what :func:`save` wrote, and check it.

    Raises:
        DatasetError: no such file, or no dataset of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"there is no dataset {path}: check the name, or record one with: policygrad record RUN")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise DatasetError(f"{path} is no readable dataset: {error}") from error
    if header.get("format") != FORMAT:
        raise DatasetError(f"{path} is no dataset of policygrad's: record one with: policygrad record RUN --out FILE")
    if int(header["format_version"]) > FORMAT_VERSION:
        raise DatasetError(f"{path} was written by a newer policygrad: update this one")

    def restore(node: Any) -> Any:
        if isinstance(node, str):
            return arrays[node]
        if "dict" in node:
            return {key: restore(part) for key, part in node["dict"].items()}
        if "masked" in node:
            return MaskedObs(*(restore(part) for part in node["masked"]))
        return tuple(restore(part) for part in node["tuple"])

    try:
        parts = {name: restore(node) for name, node in json.loads(header["parts"]).items()}
        return check(Dataset(**{"log_mu": None} | parts, about=json.loads(header["about"])))
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is no whole dataset: {error}") from error
