"""``check_host``: what is wrong with an environment that is stepped on the host, in words."""

from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from policygrad.envs import host
from policygrad.envs.gymnasium import Processes
from policygrad.envs.own import HOST_PREFIX, call_own, is_own, own
from policygrad.envs.stateful import EnvError, HostEnv, HostError
from policygrad.envs.vector import VectorHost
from policygrad.envs.worker import Watched
from policygrad.spaces import from_env, per_part, unmasked
from policygrad.types import MaskedObs


def check_host(env: Any, *, steps: int = 1000, seed: int = 0) -> list[str]:
    """Play ``env`` for a while with random valid actions, and raise an :class:`EnvError` at what would break training.
    A single Gymnasium environment is then shown to Gymnasium's own checker.

    Args:
        env: whatever :func:`policygrad.envs.host.make` takes. An object is left open.
        steps: how many random steps are taken.
        seed: of the environment and of the actions.

    Returns:
        Warnings: things that may be meant, but seldom are.
    """
    given = not isinstance(env, str | type) and isinstance(env, HostEnv | gymnasium.Env | VectorEnv)
    try:
        made = env if isinstance(env, HostEnv) else host.make(env)
        if given:
            host.USED.pop(id(env), None)  # it was only looked at
        name = getattr(made, "id", type(made).__name__)
        try:
            found = [*same_beginning(made, seed), *play(made, steps, seed)]
        finally:
            if not given:
                made.close()
        found += gymnasiums_own(env, made)
    except HostError as error:
        raise EnvError(str(error)) from error
    return [f"{name}: {warning}" for warning in found]


def same_beginning(env: HostEnv, seed: int) -> list[str]:
    """A warning if one seed begins two different episodes."""
    once, again = (jax.tree.leaves(env.reset(seed)) for _ in range(2))
    if all(np.array_equal(a, b) for a, b in zip(once, again, strict=True)):
        return []
    return ["reset(seed) gave two different observations for one seed. Draw with self.np_random, after super().reset."]


def play(env: HostEnv, steps: int, seed: int) -> list[str]:
    """Warnings about observations outside their bounds, and about episodes that do not end."""
    actions = batch_space(env.action_space, env.num_envs)
    actions.seed(seed)
    rng, obs, over, outside = np.random.default_rng(seed), env.reset(seed), False, False
    for _ in range(steps):
        action = from_env(env.action_space, actions.sample())
        step = env.step(valid(env.action_space, action, obs, rng))
        obs, over = step.obs, over or bool(step.over.any())
        outside = outside or not inside(env.observation_space, unmasked(step.successor)[0])
    return [
        *(["observations left observation_space. Widen its bounds."] if outside else []),
        *([] if over else [f"no episode ended within {steps} random steps. Set max_episode_steps."]),
    ]


def valid(space: Any, action: Any, obs: Any, rng: np.random.Generator) -> Any:
    """The action itself; random valid ones where the observation has a mask."""
    if not isinstance(obs, MaskedObs):
        return action
    scores = np.where(obs.mask, rng.random(obs.mask.shape), -1.0)
    if isinstance(space, spaces.Discrete):
        return scores.argmax(axis=-1)
    ends = np.cumsum(kinds(space).reshape(-1))[:-1]
    chosen = [part.argmax(axis=-1) for part in np.split(scores, ends, axis=-1)]
    return np.stack(chosen, axis=-1).reshape(len(scores), *space.shape)


def inside(space: spaces.Space, obs: Any) -> bool:
    """Whether every number is inside its bounds, up to rounding."""

    def one(space: Any, x: np.ndarray) -> bool:
        if not isinstance(space, spaces.Box):
            return bool(np.all((x >= 0) & (x < kinds(space))))
        slack = 1e-5 * np.maximum(1, np.abs(x)) if space.dtype.kind == "f" else 0
        return bool(np.all((x >= space.low - slack) & (x <= space.high + slack)))

    return all(jax.tree.leaves(per_part(one, space, obs)))


def kinds(space: Any) -> Any:
    """How many values an element may take, from 0."""
    if isinstance(space, spaces.MultiBinary):
        return 2
    return space.nvec if isinstance(space, spaces.MultiDiscrete) else space.n


def gymnasiums_own(env: Any, made: HostEnv) -> list[str]:
    """What Gymnasium's checker says about a single environment, in one line each; in its process, where it has one."""
    if isinstance(made, VectorHost) and isinstance(made._vector, Processes):
        return list(made._vector.call("gymnasium_says")[0])
    single = single_of(env)
    return [] if single is None else Watched(single).gymnasium_says()


def single_of(env: Any) -> Any:
    """One Gymnasium environment, fresh where there is a way to make one; None where there is no such thing."""
    if isinstance(env, gymnasium.Env):
        return env
    if isinstance(env, str):
        name = env.removeprefix(HOST_PREFIX)
        if name.startswith(("ALE/", "envpool:")):
            return None
        if is_own(name) and not callable(own(name)):
            return own(name) if isinstance(own(name), gymnasium.Env) else None
        return call_own(name, {}) if is_own(name) else host.make_single(name)
    return env() if callable(env) else None
