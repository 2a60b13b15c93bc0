"""Minari's datasets, of this machine: read, written, never downloaded. Propensities are in the step infos.

dataset = read("cartpole/expert-v0")      # in MINARI_DATASETS_PATH, else ~/.minari/datasets; or a dataset's folder
write("cartpole/expert-v1", dataset)
"""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium import spaces

from policygrad.spaces import MASK_KEY, from_env, masked, per_part
from policygrad.storage.datasets import Dataset, DatasetError, check
from policygrad.types import MaskedObs

ABOUT, LOG_MU = "policygrad_about", "log_mu"
PLAIN = "plain"
"""The key of an observation that is no dict, where a mask is stored beside it."""


def read(name: str) -> Dataset:
    """A dataset by its id, or by its folder.

    Raises:
        DatasetError: it is not on this machine, is no dataset of Minari's, or holds what we have no arrays for.
        ImportError: Minari is missing.
    """
    minari = minari_for(name)
    folder = folder_of(name)
    if not (folder / "data").is_dir():
        raise DatasetError(
            f"there is no Minari dataset {name} at {folder}: nothing is downloaded here; get it with "
            f"`minari download {name}`, or set MINARI_DATASETS_PATH"
        )
    try:
        stored = minari.MinariDataset(folder / "data")
        episodes = list(stored.iterate_episodes())
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise DatasetError(f"{folder} is no readable Minari dataset: {error}") from error
    if not episodes:
        raise DatasetError(f"the Minari dataset {name} has no episodes")
    space = stored.observation_space
    rows = [ours(space, episode.observations) for episode in episodes]
    actions = [from_env(stored.action_space, episode.actions) for episode in episodes]
    log_mu = [(episode.infos or {}).get(LOG_MU) for episode in episodes]
    length = np.array([len(episode.rewards) for episode in episodes])
    together = lambda parts: jax.tree.map(lambda *xs: np.concatenate(xs), *parts)  # noqa: E731
    return check(
        Dataset(
            obs=together([jax.tree.map(lambda x: x[:-1], part) for part in rows]),
            action=together(actions),
            reward=together([np.asarray(episode.rewards, np.float32) for episode in episodes]),
            log_mu=None if any(x is None for x in log_mu) else logged(log_mu, length),
            length=length,
            terminated=np.array([bool(episode.terminations[-1]) for episode in episodes]),
            final_obs=together([jax.tree.map(lambda x: x[-1:], part) for part in rows]),
            about=about_of(stored),
        )
    )


def write(name: str, dataset: Dataset) -> Path:
    """Make the dataset ``name`` (``folder/what-v0``) on this machine, without loss; its folder.

    The spaces are those of ``about["env"]`` where Gymnasium knows it, else what the data show.

    Raises:
        DatasetError: the name is none of Minari's, or taken.
        ImportError: Minari is missing.
    """
    minari = minari_for(name)
    from minari.data_collector import EpisodeBuffer

    folder = require_free(name)
    env = gymnasium_env(dataset)
    observation_space = env.observation_space if env is not None else seen_space(theirs(dataset.obs))
    action_space = env.action_space if env is not None else seen_space(dataset.action)
    obs, final = (uncounted(observation_space, theirs(x)) for x in (dataset.obs, dataset.final_obs))
    action = uncounted(action_space, dataset.action)

    def buffer(i: int, first: int, n: int) -> Any:
        mine = slice(first, first + n)
        last = np.arange(n) == n - 1
        return EpisodeBuffer(
            id=i,
            observations=jax.tree.map(lambda x, end: np.concatenate([x[mine], end[i : i + 1]]), obs, final),
            actions=jax.tree.map(lambda x: x[mine], action),
            rewards=np.asarray(dataset.reward[mine]),
            terminations=last & dataset.terminated[i],
            truncations=last & ~dataset.terminated[i],
            infos=None if dataset.log_mu is None else {LOG_MU: dataset.log_mu[mine]},
        )

    buffers = [buffer(i, first, n) for i, (first, n) in enumerate(zip(dataset.first, dataset.length))]
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of all that Minari would like to be told
            made = minari.create_dataset_from_buffers(
                name, buffers, env=env, observation_space=observation_space, action_space=action_space,
                algorithm_name=str(dataset.about.get("behaviour", "unknown")), author="policygrad",
                author_email="unknown", code_permalink="unknown", description="recorded by policygrad",
                jpeg_encoding=False,
            )  # fmt: skip
        made.storage.update_metadata({ABOUT: json.dumps(dataset.about)})
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, ValueError | AssertionError):
            raise DatasetError(f"Minari cannot store {name}: {error}") from error
        raise
    finally:
        if env is not None:
            env.close()
    return folder


def about_of(stored: Any) -> dict[str, Any]:
    """What is known: our own note, else Minari's."""
    noted = stored.storage.metadata.get(ABOUT)
    if noted is not None:
        return json.loads(noted)
    about: dict[str, Any] = {"behaviour": stored.storage.metadata.get("algorithm_name", "unknown")}
    if stored.env_spec is not None:
        about["env"] = stored.env_spec.id
        if stored.env_spec.kwargs:
            about["env_kwargs"] = dict(stored.env_spec.kwargs)
    return about


def logged(log_mu: list[Any], length: np.ndarray) -> np.ndarray:
    """One log μ for each row. Minari's own collector has an info for the reset too, which stands first."""
    return np.concatenate([np.asarray(x, np.float32)[-n:] for x, n in zip(log_mu, length)])


# Observations: ours and theirs


def ours(space: spaces.Space, obs: Any) -> Any:
    """Counted from 0, a mask inside ``MaskedObs``."""
    seen = masked(space, from_env(space, obs))
    if isinstance(seen, MaskedObs) and set(seen.obs) == {PLAIN}:
        return MaskedObs(seen.obs[PLAIN], seen.mask)
    return seen


def theirs(obs: Any) -> Any:
    """A mask as one more key of a dict."""
    if not isinstance(obs, MaskedObs):
        return obs
    plain = dict(obs.obs) if isinstance(obs.obs, Mapping) else {PLAIN: obs.obs}
    return plain | {MASK_KEY: np.asarray(obs.mask, np.int8)}


def uncounted(space: spaces.Space, obs: Any) -> Any:
    """Discrete parts from their own ``start``; all else as it is: a Box action as it was drawn, maybe outside."""

    def one(part: Any, x: Any) -> np.ndarray:
        counted = isinstance(part, spaces.Discrete | spaces.MultiDiscrete)
        return (x + part.start).astype(part.dtype) if counted else np.asarray(x)

    return per_part(one, space, obs)


def seen_space(x: Any) -> spaces.Space:
    """The least space that holds the rows of ``x``."""
    if isinstance(x, Mapping):
        return spaces.Dict({key: seen_space(part) for key, part in x.items()})
    if isinstance(x, tuple):
        return spaces.Tuple([seen_space(part) for part in x])
    if x.dtype.kind in "iu" and x.dtype != np.uint8 and x.ndim == 1 and x.min() >= 0:
        return spaces.Discrete(int(x.max()) + 1)
    if x.dtype.kind in "iu" and x.dtype != np.uint8 and x.min() >= 0:
        return spaces.MultiDiscrete(x.max(axis=0) + 1)
    low, high = (0, 255) if x.dtype == np.uint8 else (-np.inf, np.inf)
    dtype: Any = x.dtype if x.dtype.kind in "fu" else np.float32
    return spaces.Box(low, high, x.shape[1:], dtype)


def gymnasium_env(dataset: Dataset) -> Any:
    """One environment as the dataset's, where Gymnasium has it and its observations are shaped as these."""
    name, options = str(dataset.about.get("env", "")).removeprefix("gym:"), dataset.about.get("env_kwargs") or {}
    if name not in gymnasium.registry or dataset.about.get("wrapper"):
        return None
    env = gymnasium.make(name, **options)
    shapes = lambda tree: [np.shape(x)[1:] for x in jax.tree.leaves(tree)]  # noqa: E731
    one = from_env(env.observation_space, env.observation_space.sample())
    if shapes(theirs(dataset.obs)) == [np.shape(x) for x in jax.tree.leaves(one)]:
        return env
    env.close()
    return None


# Names


def folder_of(name: str) -> Path:
    """A dataset's own folder, or the one of its id."""
    return Path(name) if (Path(name) / "data").is_dir() else folder_of_id(name)


def folder_of_id(name: str) -> Path:
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.storage.datasets_root_dir import get_dataset_path

    try:
        parse_dataset_id(name)
    except (ValueError, TypeError) as error:  # a TypeError where there is no version
        raise DatasetError(f"{name!r} is no Minari id with a version: write one such as cartpole/expert-v0") from error
    return Path(get_dataset_path(name))


def require_free(name: str) -> Path:
    """The folder of an id that no dataset has yet."""
    minari_for(name)
    folder = folder_of_id(name)
    if folder.exists():
        raise DatasetError(f"{folder} already exists: choose another name, such as {next_version(name)}")
    return folder


def next_version(name: str) -> str:
    stem, _, version = name.rpartition("-v")
    return f"{stem}-v{int(version) + 1}"


def minari_for(name: str) -> ModuleType:
    try:
        import h5py  # noqa: F401
        import minari
    except ImportError as error:
        raise ImportError(f"minari:{name} needs Minari: pip install 'policygrad[data]'") from error
    return minari
