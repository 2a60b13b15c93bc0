"""One Gymnasium environment as it is stepped, in this process or in a worker's. Workers import this file: no JAX."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

from policygrad.envs.own import import_own, own
from policygrad.envs.stateful import HostError, did_you_mean, misfit, missing

LOOKED_AT = 3
"""Steps whose observations are held against their space, and as many resets."""
PACKAGES = {"box2d": ("Box2D", "box2d"), "mujoco": ("mujoco", "mujoco"), "ale_py": ("ale-py", "atari")}
"""A word in an id's entry point: the package that it needs, and our extra."""


def make_one(
    env: str | Callable[[], Any],
    kwargs: dict[str, Any],
    wrappers: Sequence[str | Callable] = (),
    max_episode_steps: int | None = None,
) -> Any:
    """One environment with its time limit and its wrappers, the innermost first.

    Raises:
        ValueError: the id, an option or what the function made is wrong.
        ImportError: it needs a package that is not installed.
        HostError: making it failed.
    """
    if isinstance(env, str):
        limit = {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}
        made = of_id(env, {**kwargs, **limit})
    else:
        made = of_function(env)
        made = made if max_episode_steps is None else TimeLimit(made, max_episode_steps)
    for wrapper in wrappers:
        made = wrapped(made, wrapper)
    return made


def wrapped(env: Any, wrapper: str | Callable) -> Any:
    function = own(wrapper) if isinstance(wrapper, str) else wrapper
    try:
        return function(env)
    except Exception as error:
        name = wrapper if isinstance(wrapper, str) else getattr(wrapper, "__name__", repr(wrapper))
        fix = "Wrap it in a function that needs nothing but the environment."
        raise ValueError(f"The wrapper {name} could not be applied: {reason(error)}. {fix}") from error


def make_watched(index: int, *args: Any) -> "Watched":
    """:func:`make_one`, watched under its index."""
    return Watched(make_one(*args), index)


def of_id(name: str, kwargs: dict[str, Any]) -> Any:
    """Gymnasium's, without its own checks: :class:`Watched` has ours."""
    spec = spec_of(name)
    try:
        return gymnasium.make(name, disable_env_checker=True, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        entry = str(spec.entry_point).lower()
        for word, (package, extra) in PACKAGES.items():
            if word in entry:
                raise missing(name, package, extra) from error
        raise ImportError(f"{name} needs a package that is not installed. {error}") from error
    except TypeError as error:
        raise ValueError(f"{name} does not take these options ({', '.join(kwargs) or 'none'}): {error}") from error


def spec_of(name: str) -> Any:
    """Gymnasium's entry of an id, ``module:Name-v0`` too; a ValueError names what is near."""
    module, _, plain = name.rpartition(":")
    try:
        if module:
            import_own(module)
        return gymnasium.spec(plain)
    except gymnasium.error.Error as error:
        near = did_you_mean(plain, gymnasium.registry, prefix="gym:")
        raise ValueError(f"Gymnasium knows no environment {name!r}.{near}") from error


def of_function(function: Callable[[], Any]) -> Any:
    try:
        made = function()
    except (ValueError, ImportError):
        raise
    except Exception as error:
        raise HostError(f"the environment could not be made: {reason(error)}. Run the function that makes it.") from (
            error
        )
    if not isinstance(made, gymnasium.Env):
        raise ValueError(f"The function made a {type(made).__name__}. Let it return one gymnasium.Env.")
    return made


class Watched(gymnasium.Wrapper):
    """Says which environment raised, and when; looks at the first steps; and shows a mask in ``info["action_mask"]``,
    also where the environment has a method ``action_masks()``."""

    def __init__(self, env: Any, index: int = 0) -> None:
        super().__init__(env)
        self.index, self.steps, self.resets = index, 0, 0
        self.masks = getattr(env.unwrapped, "action_masks", None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        try:
            answer = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self.failed("reset", f"raised {reason(error)}") from error
        self.resets += 1
        if self.resets <= LOOKED_AT:
            self.look("reset", answer, "(obs, info)")
        return answer[0], self.with_mask(answer[1])

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict]:
        self.steps += 1
        try:
            answer = self.env.step(action)
        except Exception as error:
            raise self.failed("step", f"raised {reason(error)}") from error
        if self.steps <= LOOKED_AT:
            self.look("step", answer, "(obs, reward, terminated, truncated, info)")
            reward = np.asarray(answer[1])
            if reward.ndim:
                raise self.failed("step", f"returned a reward of shape {reward.shape}, not one number")
        return (*answer[:4], self.with_mask(answer[4]))

    def look(self, method: str, answer: Any, expected: str) -> None:
        if not isinstance(answer, tuple) or len(answer) != expected.count(",") + 1:
            given = f"{len(answer)} values" if isinstance(answer, tuple) else f"one {type(answer).__name__}"
            raise self.failed(method, f"returned {given}, not {expected}")
        problem = misfit(self.observation_space, answer[0])
        if problem:
            raise self.failed(method, f"is wrong: {problem}")

    def with_mask(self, info: dict[str, Any]) -> dict[str, Any]:
        """The mask of all parts of an action in one vector of bools."""
        mask = self.masks() if self.masks is not None else info.get("action_mask")
        if mask is None:
            return info
        parts = mask if isinstance(mask, tuple | list) and np.ndim(mask[0]) else [mask]
        return {**info, "action_mask": np.concatenate([np.asarray(part, bool).reshape(-1) for part in parts])}

    def failed(self, method: str, what: str) -> HostError:
        when = f"step {self.steps}" if self.steps else "its first reset"
        return HostError(f"environment {self.index}, {when}: {method} {what}. Fix its {method}, or wrap it.")


def reason(error: BaseException) -> str:
    """``ZeroDivisionError: division by zero``."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no message')}"
