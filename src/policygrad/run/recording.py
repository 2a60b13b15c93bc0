"""``pg.record``: the episodes of a policy become a dataset."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from gymnasium import spaces

from policygrad.collect.host import Clock, HostCollector, plain
from policygrad.collect.xla import episode_collector
from policygrad.envs import registry
from policygrad.envs.core import autoreset
from policygrad.envs.memory import is_plain, remember
from policygrad.models.distributions import AbstractDistribution
from policygrad.run.api import MAX_HOST_ENVS, Run, carried, make_for, require_same_spaces
from policygrad.run.build import enable_compilation_cache
from policygrad.run.evaluate import NO_LIMIT
from policygrad.run.policy import Policy, with_memory
from policygrad.run.recipes import Recipe, RecipeError
from policygrad.spaces import parts, unmasked, width
from policygrad.storage.datasets import Dataset, check, join, select
from policygrad.storage.formats import MINARI, require_writable, write_dataset
from policygrad.types import Input, MaskedObs, Output, Trajectory

ROWS = 2**18
"""So many rows are played at a time in a pure world, at most."""
Tell = Callable[[int, int], None]
"""``(episodes so far, episodes in all)``."""


def record(
    policy: Run | Policy,
    env: Any = None,
    *,
    episodes: int = 100,
    out: str | os.PathLike | None = None,
    deterministic: bool = False,
    seed: int = 0,
    max_episode_steps: int | None = None,
    tell: Tell = lambda done, of: None,
) -> Dataset:
    """Play whole episodes and keep them, with log μ(a_t) of every action.

        dataset = pg.record(run, episodes=100, out="cartpole.safetensors")

    The observations are the environment's own, whatever the policy remembers; actions are as they were drawn, rewards
    on the environment's own scale.

    Args:
        policy: a :class:`Run`, whose best policy plays where it was trained, or a :class:`Policy`.
        env: an id or an environment to play in; None: the run's.
        out: a file, or ``minari:`` and an id (:func:`policygrad.read_dataset`); it must not exist. None: only return.
        deterministic: the mode of π. Each action then has probability one; a density (Box) there is none, and no
            ``log_mu``.
        max_episode_steps: time limit in place of the environment's own; for a run, the one it was trained with.

    Raises:
        RecipeError, DatasetError: a policy that does not fit, or a name that is taken or says no format.
    """
    for name, number, least in (("episodes", episodes, 1), ("seed", seed, 0)):
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise RecipeError(f"{name} must be a whole number of at least {least}, not {number!r}")
    if out is not None:
        require_free(out)
    enable_compilation_cache()
    run = policy if isinstance(policy, Run) else None
    player = run.policy if run is not None else policy
    assert isinstance(player, Policy)
    if max_episode_steps is None and run is not None:
        max_episode_steps = run.recipe.max_episode_steps
    made, ours = stage(run, env, episodes, max_episode_steps)
    try:
        require_same_spaces(player, made)
        play = playing(player, made, episodes, max_episode_steps, deterministic)
        found: list[Dataset] = []
        done = 0
        while done < episodes:
            part = episodes_of(play(jax.random.fold_in(jax.random.key(seed), done)))
            if player.remembers:
                own = partial(forget, made.observation_space, made.action_space)
                part = part._replace(obs=own(part.obs), final_obs=own(part.final_obs))
            found.append(select(part, range(min(part.episodes, episodes - done))))
            done += found[-1].episodes
            tell(done, episodes)
    finally:
        if ours:
            made.close()
    dataset = join(found)._replace(about=about(run, env, made, deterministic, seed, max_episode_steps))
    if deterministic:
        densities = any(isinstance(part, spaces.Box) for part in parts(made.action_space))
        dataset = dataset._replace(log_mu=None if densities else np.zeros(dataset.rows, np.float32))
    check(dataset)
    if out is not None:
        write_dataset(out, dataset)
    return dataset


def require_free(out: str | os.PathLike) -> None:
    """A name that says a format, and that nothing has yet."""
    require_writable(out)
    text = os.fspath(out)
    if text.startswith(MINARI):
        from policygrad.storage import minari  # late: it needs a package that not all have

        minari.require_free(text.removeprefix(MINARI))
    elif Path(out).exists():
        raise RecipeError(f"{text} already exists: choose another name, or remove it first")


def stage(run: Run | None, env: Any, episodes: int, limit: int | None) -> tuple[Any, bool]:
    """``(environment, whether it is ours to close)``."""
    if env is None:
        if run is None:
            raise RecipeError("give an environment beside the policy: only a Run knows its own")
        if not registry.is_host(run.env):
            return run.env, False
        return run.program.make_env(min(episodes, MAX_HOST_ENVS), False), True  # type: ignore[union-attr]
    made = make_for(env, episodes, limit, {} if run is None else carried(run, env))
    return made, isinstance(env, str) and registry.is_host(made)


def about(run: Run | None, env: Any, made: Any, deterministic: bool, seed: int, limit: int | None) -> dict[str, Any]:
    """Where the episodes come from, in plain JSON."""
    recipe: Recipe | None = None if run is None else run.recipe
    name = recipe.env if env is None and recipe is not None else env
    told: dict[str, Any] = {
        "env": name if isinstance(name, str) else registry.env_id(made),
        "behaviour": "a policy" if recipe is None else recipe.algo,
        "deterministic": deterministic,
        "seed": seed,
    }
    if run is not None and run.path is not None:
        told["run"] = str(run.path)
    same = env is None or (recipe is not None and isinstance(env, str) and env == recipe.env)
    if run is not None and recipe is not None and (same or (carried(run, env) and registry.is_host(made))):
        told |= {"env_kwargs": recipe.env_options, "wrapper": recipe.wrapper}
    if limit is not None:
        told["max_episode_steps"] = limit
    return told


# Playing


def playing(
    policy: Policy, env: Any, episodes: int, limit: int | None, deterministic: bool
) -> Callable[[jax.Array], Trajectory]:
    """``key -> trajectory`` of whole episodes, side by side."""
    model = Greedy(policy.model) if deterministic else policy.model
    if registry.is_host(env):
        show = partial(with_memory, env.observation_space, env.action_space) if policy.remembers else plain
        collector = HostCollector(env, None, clock=Clock(), show=show)

        def play(key: jax.Array) -> Trajectory:
            return collector.collect(model, collector.init(model, key), key)[1]

        return play
    limit = limit or env.time_limit or getattr(env, "horizon", None) or NO_LIMIT
    stream = autoreset(remember(env) if policy.remembers else env, limit)
    pure = episode_collector(stream, min(episodes, max(1, ROWS // limit)))
    arrays, static = eqx.partition(model, eqx.is_array)
    return partial(jax.jit(lambda arrays, key: pure.collect(eqx.combine(arrays, static), None, key)[1]), arrays)


class Greedy(eqx.Module):
    """A model that always takes the mode."""

    model: Any

    def initial(self) -> Any:
        return self.model.initial()

    def __call__(self, input: Input, carry: Any) -> tuple[Output, Any]:
        output, carry = self.model(input, carry)
        return output._replace(distribution=Mode(output.distribution)), carry


class Mode(eqx.Module):
    """As much of a distribution as a collector asks for, every sample its mode."""

    of: AbstractDistribution

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> Any:
        return self.of.draw(key, shape)

    def sample(self, noise: Any) -> Any:
        return self.of.mode()

    def log_prob(self, action: Any) -> jax.Array:
        return self.of.log_prob(action)


# From trajectories to rows


def episodes_of(trajectory: Trajectory) -> Dataset:
    """The episodes of a padded trajectory ``[T, B]``, row after row."""
    t = jax.tree.map(np.asarray, trajectory)
    rows = lambda x: np.swapaxes(x, 0, 1)[t.mask.T]  # noqa: E731
    return Dataset(
        obs=jax.tree.map(rows, t.obs),
        action=jax.tree.map(rows, t.action),
        reward=rows(t.reward),
        log_mu=rows(t.log_mu),
        length=t.mask.sum(axis=0),
        terminated=(t.terminated & t.mask).any(axis=0),
        final_obs=jax.tree.map(lambda x: x[0], t.cut_obs),
        about={},
    )


def forget(observation_space: spaces.Space, action_space: spaces.Space, seen: Any) -> Any:
    """The environment's own observations, ``[N, ...]``, without the last action and reward: the inverse of
    :func:`policygrad.envs.memory.with_last`."""
    obs, mask = unmasked(seen)
    if not (is_plain(observation_space) and is_plain(action_space)):
        own = obs["obs"]
    elif isinstance(observation_space, spaces.Discrete):
        own = obs[:, : width(observation_space)].argmax(axis=1).astype(np.int32)
    else:
        own = obs[:, : width(observation_space)]
        dtype: Any = observation_space.dtype
        own = own.astype(dtype) if dtype.kind in "iu" else own
    return own if mask is None else MaskedObs(own, mask)
