"""Demonstrations as a clone needs them: in the environment's spaces, whole episodes on one side or the other, rows or
episodes as one trajectory.

Here the action of a dataset is a pair ``(taken, shown)``: what was done, which a policy with memory sees afterwards,
and what should be done, which is learned. They differ where DAgger's clone played and its expert spoke.
"""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from policygrad.envs.stateful import misfit
from policygrad.models.actor_critic import initial_carry, is_memoryless
from policygrad.run.policy import cast, cast_obs, with_memory
from policygrad.run.recipes import Recipe, RecipeError
from policygrad.spaces import parts, per_part, to_bounds, unmasked
from policygrad.storage.datasets import Dataset, DatasetError, check, trajectories
from policygrad.types import Trajectory

DUPLICATES = ("refuse", "drop", "keep")
INSIDE = 1e-4
"""A squashed policy never reaches its bounds: demonstrated actions are moved inside by this share of the range."""


def paired(dataset: Dataset) -> Dataset:
    """Demonstrations: what was taken is what is shown."""
    return dataset._replace(action=(dataset.action, dataset.action), log_mu=None)


def env_of(dataset: Dataset, env: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """``(environment, its options)``: the one that is given, else the dataset's own."""
    own = dataset.about.get("env")
    if env is None and not own:
        raise RecipeError(
            f"{name or 'the dataset'} does not say which environment it is from: give env (--env ENV), an id or your "
            "own file.py:Class"
        )
    if env is not None and env != own:
        return env, {}
    about = dataset.about
    return own, {key: about[key] for key in ("env_kwargs", "wrapper", "max_episode_steps") if about.get(key)}


def require_fit(dataset: Dataset, env: Any) -> None:
    """A DatasetError where observations or actions are none of the environment's."""
    check(dataset)
    obs, mask = unmasked(dataset.obs)
    for what, space, x in (("obs", env.observation_space, obs), ("action", env.action_space, dataset.action)):
        wrong = misfit(space, x, (dataset.rows,), f"the dataset's {what}")
        if wrong:
            raise DatasetError(f"{wrong}: these are demonstrations of another environment, give its own with env")
        for part, leaf in zip(parts(space), jax.tree.leaves(x)):
            require_inside(what, part, leaf)
    if mask is not None and isinstance(env.action_space, spaces.Discrete):
        taken = np.take_along_axis(np.asarray(mask, bool), np.asarray(dataset.action)[:, None], axis=1)[:, 0]
        if not taken.all():
            row = int(np.argmin(taken))
            raise DatasetError(f"the action in row {row} is invalid by its own mask: leave out that episode")


def require_inside(what: str, space: spaces.Space, x: np.ndarray) -> None:
    """Whole numbers count from 0 to what the space allows."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        count = space.n if isinstance(space, spaces.Discrete) else space.nvec
        bad = ((x < 0) | (x >= count)).reshape(len(x), -1).any(axis=1)
        if bad.any():
            row = int(np.argmax(bad))
            raise DatasetError(
                f"the dataset's {what} in row {row} is {x[row]}, and the environment has {count}, counted from 0: "
                "renumber them"
            )


# Two sides


def split(dataset: Dataset, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``(training, held out)``: whole episodes, at random; at least one on each side, but none held out for 0."""
    n = dataset.episodes
    held = 0 if share == 0 else max(1, round(share * n))
    if held >= n:
        raise DatasetError(
            f"{n} episode{'s' if n > 1 else ''} cannot be divided with validation={share:g}: record more, or set "
            "validation=0 and give the number of epochs"
        )
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[held:]), np.sort(order[:held])


def without_leakage(
    dataset: Dataset, train: np.ndarray, held: np.ndarray, duplicates: str
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides such that no episode of the held-out one is learned from: ``drop`` leaves the held-out twins out. The
    training part stays as it is, repetitions too, for E_{τ^gt} counts them.

    Raises:
        DatasetError: an episode of one side is found on the other, and ``duplicates`` is ``refuse``; or ``drop`` leaves
            nothing to hold out.
    """
    if duplicates == "keep":
        return train, held
    digests = fingerprints(dataset)
    known = {digests[i]: int(i) for i in train}
    twins = [(known[digests[i]], int(i)) for i in held if digests[i] in known]
    if twins and duplicates == "refuse":
        pairs = ", ".join(f"{a} and {b}" for a, b in twins[:3])
        raise DatasetError(
            f"{len(twins)} of {len(held)} held-out episodes are learned from as well (identical: {pairs}), so their "
            "likelihood would say nothing: set duplicates=drop (--duplicates drop), or keep where a small world "
            "repeats itself"
        )
    if twins and len(twins) == len(held):
        raise DatasetError(
            "every held-out episode is learned from as well, so dropping those leaves none to hold out: set "
            "duplicates=keep (--duplicates keep) where a small world repeats itself, or validation=0"
        )
    return train, np.array([i for i in held if digests[i] not in known], int)


def at_home(
    new: Dataset, train: np.ndarray, held: np.ndarray, known: Dataset, known_held: Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """``(training, held out)`` of new episodes: as they were divided, but a twin of a known episode goes to the side
    that has it. Actions are pairs here, and twins are alike in what was seen and shown."""
    digests, first, second = (fingerprints(part._replace(action=part.action[1])) for part in (new, known, known_held))
    home = dict.fromkeys(second, False) | dict.fromkeys(first, True)
    for i in (*train, *held):
        home.setdefault(digests[i], i in train)
    learned = np.array([home[digest] for digest in digests])
    return np.flatnonzero(learned), np.flatnonzero(~learned)


def fingerprints(dataset: Dataset) -> list[bytes]:
    """One of each episode's observations and actions, whatever their precision."""
    plain = lambda x: np.asarray(x, np.float32 if np.asarray(x).dtype.kind == "f" else np.int64)  # noqa: E731
    leaves = jax.tree.leaves((dataset.obs, dataset.action))

    def one(first: int, n: int) -> bytes:
        digest = hashlib.sha256()
        for leaf in leaves:
            digest.update(plain(leaf[first : first + n]).tobytes())
        return digest.digest()

    return [one(first, n) for first, n in zip(dataset.first, dataset.length)]


# As one trajectory


def as_trajectory(pairs: Dataset, env: Any, recipe: Recipe, model: Any) -> Trajectory:
    """What is learned from, on the device: ``[1, N]`` rows of a memoryless model, else ``[T, E]`` whole episodes."""
    taken, shown = pairs.action
    time = np.arange(pairs.rows) - np.repeat(pairs.first, pairs.length)
    obs = pairs.obs
    if recipe.remembers:
        received = to_bounds(env.action_space, taken)
        before = lambda tree: jax.tree.map(lambda x: jnp.roll(cast(x), 1, axis=0), tree)  # noqa: E731
        last = before(received), before(pairs.reward), time == 0
        obs = with_memory(env.observation_space, env.action_space, cast_obs(obs), *last)
    if recipe.bounds != "clip":
        shown = inside(env.action_space, shown)
    rows = pairs._replace(obs=jax.tree.map(np.asarray, obs), action=shown)
    if is_memoryless(model):
        t = in_one_row(rows, time)
    else:
        t = trajectories(rows)._replace(carry=initial_carry(model, (pairs.episodes,)), cut_obs=None)
    return t._replace(obs=cast_obs(t.obs), **{
        name: jax.tree.map(cast_unless_bool, getattr(t, name))
        for name in ("action", "reward", "terminated", "truncated", "log_mu", "time", "start", "mask")
    })  # fmt: skip


def cast_unless_bool(x: Any) -> jax.Array:
    return jnp.asarray(x) if np.asarray(x).dtype == bool else cast(x)


def in_one_row(rows: Dataset, time: np.ndarray) -> Trajectory:
    """Every row a column of its own."""
    no = np.zeros((1, rows.rows), bool)
    make: Any = Trajectory
    row = lambda tree: jax.tree.map(lambda x: x[None], tree)  # noqa: E731
    return make(
        obs=row(rows.obs), action=row(rows.action), reward=rows.reward[None], terminated=no, truncated=no,
        log_mu=np.zeros(no.shape, np.float32), time=time[None], start=time[None] == 0, mask=~no, carry=None,
        cut_obs=None,
    )  # fmt: skip


def inside(space: spaces.Space, action: Any) -> Any:
    """Box actions strictly inside their bounds."""

    def one(part: spaces.Space, x: Any) -> Any:
        if not isinstance(part, spaces.Box):
            return x
        margin = INSIDE * (part.high - part.low)
        return np.clip(x, part.low + margin, part.high - margin)

    return per_part(one, space, action)
