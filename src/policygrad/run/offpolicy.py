"""Learning from a dataset of another policy: the same update, on episodes that were played before.

    train ENV --algo offpolicy --data DATASET

Between two marks of the outer loop everything is one XLA program, with the whole dataset on the device. At each mark
all of the data are weighed once: a policy that has left them behind learns from noise, and goes no further.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from policygrad.collect.dataset import dataset_collector
from policygrad.learn.old_data import overlap, seen_by
from policygrad.run.host import HostProgram
from policygrad.run.notes import note
from policygrad.run.policy import Policy, cast, cast_obs, with_memory
from policygrad.run.program import SEEDS, Program, RunState, Stats, advancer, compiled, means, select, updater
from policygrad.run.recipes import Recipe, RecipeError
from policygrad.run.record import RunDirectory
from policygrad.spaces import parts, to_bounds, unmasked
from policygrad.storage.datasets import Dataset, DatasetError, fingerprint, trajectories
from policygrad.storage.formats import read_dataset
from policygrad.types import Trajectory

OVERLAP = "offpolicy/overlap"
FINGERPRINT = "data.sha256"
"""Beside the recipe of a run: its dataset's."""


# A dataset, as a policy sees it


def as_seen(
    dataset: Dataset,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    *,
    remembers: bool = False,
    finite_horizon: bool = False,
) -> Trajectory:
    """All episodes of a dataset as one trajectory ``[T, B]`` on the device, without a carry.

    Args:
        remembers: the policy's observations hold the last action and reward.
        finite_horizon: the time limit is an end.

    Raises:
        DatasetError: observations or actions that do not fit the spaces, or propensities that are none.
    """
    require_fit(dataset, observation_space, action_space)
    rows = trajectories(dataset)
    obs, cut_obs = cast_obs(rows.obs), cast_obs(rows.cut_obs)
    action, reward, log_mu = (jax.tree.map(cast, x) for x in (rows.action, rows.reward, rows.log_mu))
    if remembers:
        show = jax.vmap(partial(with_memory, observation_space, action_space))
        given = to_bounds(action_space, action)
        at_end = lambda x: x[dataset.length - 1, np.arange(dataset.episodes)][None]  # noqa: E731
        before = lambda x: jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])  # noqa: E731
        never = np.zeros((1, dataset.episodes), bool)
        obs = show(obs, jax.tree.map(before, given), before(reward), rows.start)
        cut_obs = show(cut_obs, jax.tree.map(at_end, given), at_end(reward), never)
    ended = rows.terminated | (rows.truncated & finite_horizon)
    return jax.tree.map(
        jnp.asarray,
        rows._replace(
            obs=obs, action=action, reward=reward, log_mu=log_mu, cut_obs=cut_obs,
            terminated=ended, truncated=rows.truncated & ~ended,
        ),
    )  # fmt: skip


def require_fit(dataset: Dataset, observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """The dataset's observations and actions are elements of these spaces."""
    for what, space, tree in (
        ("observation", observation_space, unmasked(dataset.obs)[0]),
        ("action", action_space, dataset.action),
    ):
        wanted, leaves = parts(space), jax.tree.leaves(tree)
        if len(leaves) != len(wanted) or any(x.shape[1:] != (part.shape or ()) for x, part in zip(leaves, wanted)):
            shapes = ", ".join(str(x.shape[1:]) for x in leaves)
            raise DatasetError(
                f"the dataset's {what}s have shape {shapes} and the environment's {what} space is {space}"
            )
        for x, part in zip(leaves, wanted):
            if isinstance(part, spaces.Discrete) and (x.min() < 0 or x.max() >= part.n):
                raise DatasetError(
                    f"the dataset has the {what} {x.max() if x.min() >= 0 else x.min()}: {space} has none"
                )
    discrete = all(isinstance(part, spaces.Discrete | spaces.MultiDiscrete) for part in parts(action_space))
    if discrete and dataset.log_mu is not None and dataset.log_mu.max() > 1e-5:
        row = int(np.argmax(dataset.log_mu))
        raise DatasetError(
            f"log_mu is {dataset.log_mu[row]:.3g} in row {row}, a probability above one: "
            "give the logarithm of the probability with which the action was chosen"
        )


def with_propensities(dataset: Dataset, behaviour: Policy) -> Dataset:
    """The dataset with log μ as another policy gives it: the one that played, or its clone."""
    data = as_seen(dataset, behaviour.observation_space, behaviour.action_space, remembers=behaviour.remembers)
    log_mu = np.asarray(eqx.filter_jit(seen_by)(behaviour.model, data)[0])
    return dataset._replace(log_mu=log_mu.T[np.asarray(data.mask).T])


def require_propensities(dataset: Dataset) -> None:
    """Refuse a dataset without log μ, or of a policy that never tried another action: no weight makes up for that."""
    if dataset.log_mu is None:
        raise DatasetError(
            "the dataset has no log_mu, the log-probability of each action under the policy that acted, so nothing can "
            "be weighed: record it with policygrad record, or estimate it: policygrad clone, then --behaviour CLONE"
        )
    if not dataset.log_mu.any():
        raise DatasetError(
            "the policy that made the dataset took every action with probability one (log_mu is always zero), so the "
            "data say nothing about any other action: record a policy that draws its actions"
        )


# The program


def on_data(program: Program | HostProgram, read: Callable[[], Dataset]) -> Program | HostProgram:
    """The program of a recipe with ``collect="dataset"``: it plays in evaluations alone. ``read`` is called when data
    are needed for the first time: a run that is only looked at needs none."""
    recipe, learner = program.recipe, program.learner
    env = program.raw_env

    def advance(state: RunState, steps: Array, data: Trajectory) -> tuple[RunState, Stats]:
        update = updater(learner, dataset_collector(data, recipe.n_envs), clip_reward=recipe.clip_reward)
        look = lambda state: weigh(learner.model(state.learner), data, recipe.correction)  # noqa: E731
        if recipe.seeds > 1:
            update, look = jax.vmap(update, axis_name=SEEDS), jax.vmap(look)
        state, stats = advancer(update, freeze=True)(state, steps)
        return state, stats | look(state)

    @cache
    def data() -> Trajectory:
        return loaded(read(), recipe, env.observation_space, env.action_space)

    groups = program.groups if isinstance(program, Program) else 1
    step = compiled(advance, groups, P("seed"), P(), P(), options={})
    made: Any = program
    return replace(made, advance=lambda state, steps, stop=None: step(state, jnp.int32(steps), data()))


def loaded(dataset: Dataset, recipe: Recipe, observation_space: spaces.Space, action_space: spaces.Space) -> Trajectory:
    """The dataset of a recipe, on the device."""
    require_propensities(dataset)
    if dataset.episodes < recipe.n_envs:
        raise RecipeError(
            f"n_envs={recipe.n_envs} episodes an update, and the dataset has {dataset.episodes}: lower n_envs"
        )
    finite = recipe.time_to_go
    return as_seen(dataset, observation_space, action_space, remembers=recipe.remembers, finite_horizon=finite)


def weigh(model: Any, data: Trajectory, correction: str) -> Stats:
    """What all the data are worth to this policy: ``overlap`` is the share that the weights of the correction leave,
    ``effective_sample_size`` what ρ_τ leave, in episodes, and ``largest_share`` the part that one episode has of all
    ρ_τ."""
    log_rho = jnp.where(data.mask, seen_by(model, data)[0] - data.log_mu, 0)
    return {
        OVERLAP: overlap(log_rho, data.mask, correction),
        "offpolicy/effective_sample_size": overlap(log_rho, data.mask, "trajectory") * data.mask.shape[1],
        "offpolicy/largest_share": jnp.max(jax.nn.softmax(jnp.sum(log_rho, axis=0))),
    }


# A run keeps its data


def keep_fingerprint(directory: RunDirectory, dataset: Dataset) -> None:
    """Write down what a run learns from."""
    (directory.path / FINGERPRINT).write_text(fingerprint(dataset) + "\n")


def require_same_data(directory: RunDirectory, recipe: Recipe) -> None:
    """Refuse to go on with other data than those a run began with."""
    known = directory.path / FINGERPRINT
    if known.exists() and known.read_text().strip() != fingerprint(read_dataset(recipe.data)):
        raise RecipeError(
            f"{recipe.data} is not what {directory.path} has learned from: a resumed run keeps its data, so bring "
            "those back, or start a new run"
        )


# How far learning may go


def require_overlap(program: Any, state: RunState) -> None:
    """Refuse to begin where the data say next to nothing about the policy that begins."""
    if program.recipe.correction == "none":
        note(
            "correction=none weighs nothing: the gradient is that of the policy that made the data, and biased for the "
            "one that learns"
        )
    _, stats = program.advance(state, jnp.int32(0))
    worst = float(np.min(means(stats)[OVERLAP]))
    if worst < program.recipe.min_overlap:
        raise RecipeError(
            f"the data say next to nothing about the policy that begins: their effective sample size is {worst:.2%} of "
            f"them, below min_overlap={program.recipe.min_overlap:g}; begin nearer, with --init-from RUN (the policy "
            "that made them, or its clone), or choose correction=vtrace, whose weights are of single steps"
        )


def lost(recipe: Recipe, row: dict[str, Any]) -> np.ndarray:
    """``[seeds]``: whose policy has left the data behind since the last mark."""
    return row.get(OVERLAP, np.ones(recipe.seeds)) < recipe.min_overlap


def undone(recipe: Recipe, lost: np.ndarray, after: RunState, before: RunState) -> RunState:
    """The state of the last mark, for the seeds that are lost, but for the steps they took."""
    flag = jnp.asarray(lost if recipe.seeds > 1 else lost[0])
    return after._replace(learner=select(flag, before.learner, after.learner))


def left_the_data(recipe: Recipe, row: dict[str, Any], steps: np.ndarray) -> str:
    """Why a run ends before its budget does."""
    return (
        f"stopped after {int(steps.min()):,} rows: the policy leaves the data behind, their effective sample size is "
        f"{np.max(row[OVERLAP]):.2%} of them, below min_overlap={recipe.min_overlap:g}; the policy before that is kept"
    )
