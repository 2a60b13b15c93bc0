"""One Gymnasium environment as it is stepped, in this process or in a worker's. Workers import this file: no JAX."""

import os
import re
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import env_checker
from gymnasium.wrappers import TimeLimit

from policygrad.envs.own import import_own, own
from policygrad.envs.stateful import HostError, did_you_mean, misfit, missing

LOOKED_AT = 3
"""Steps whose answers are looked at in full, and as many resets. Later ones get a quick look."""
NUMBERS, FLAGS = (float, int, bool, np.float64, np.float32, np.int64), (bool, np.bool)
"""The usual types of a reward, and of ``terminated`` and ``truncated``."""
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
    require_spaces(made)
    for wrapper in wrappers:
        made = wrapped(made, wrapper)
    return made


def require_spaces(env: Any) -> None:
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(env, name, None), gymnasium.Space):
            kind = type(env.unwrapped).__name__
            raise ValueError(f"{kind} has no {name}. Set it to one of gymnasium.spaces, in the class or in __init__.")


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


def undisturbed(main: int, maker: Callable[[], Any]) -> Any:
    """What ``maker`` makes. In a process other than ``main`` Ctrl-C is ignored from then on: a terminal sends it to all
    processes, and the main one decides."""
    if os.getpid() != main:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return maker()


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


def of_function(function: Callable[[], Any], batch: bool = False) -> Any:
    """What the function makes: one environment, or, with ``batch``, a vector environment too."""
    try:
        made = function()
    except (ValueError, ImportError):
        raise
    except (Exception, SystemExit) as error:
        raise HostError(f"the environment could not be made: {reason(error)}. Run the function that makes it.") from (
            error
        )
    if not isinstance(made, gymnasium.Env) and not (batch and isinstance(made, gymnasium.vector.VectorEnv)):
        fix = "Let it return one gymnasium.Env"
        fix += (
            "; a batch is for Python and vectorization=auto." if isinstance(made, gymnasium.vector.VectorEnv) else "."
        )
        raise ValueError(f"The function made a {type(made).__name__}. {fix}")
    return made


class Watched(gymnasium.Wrapper):
    """Says which environment raised, and when; looks at what it answers; and shows a mask in ``info["action_mask"]``,
    also where the environment or a wrapper has a method ``action_masks()``."""

    def __init__(self, env: Any, index: int = 0) -> None:
        super().__init__(env)
        self.index, self.steps, self.resets = index, 0, 0
        self.masks = env.get_wrapper_attr("action_masks") if env.has_wrapper_attr("action_masks") else None
        self.shape = env.observation_space.shape or ()
        self.last: Any = None
        """The last observation: whoever cannot use it asks what is wrong with it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        try:
            answer = self.env.reset(seed=seed, options=options)
        except (Exception, SystemExit) as error:
            raise self.failed("reset", f"raised {reason(error)}") from error
        self.resets += 1
        if self.resets <= LOOKED_AT or not self.usual(answer, 2):
            self.look("reset", answer, "(obs, info)")
        self.last = answer[0]
        return answer[0], self.mask_of(answer[1])

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict]:
        self.steps += 1
        try:
            answer = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self.failed("step", f"raised {reason(error)}") from error
        if self.steps <= LOOKED_AT or not self.usual(answer, 5):
            self.look("step", answer, "(obs, reward, terminated, truncated, info)")
        self.last = answer[0]
        return (*answer[:4], self.mask_of(answer[4]))

    def usual(self, answer: Any, n: int) -> bool:
        """A quick look: whether an answer is of the types that most are of."""
        return (
            type(answer) is tuple
            and len(answer) == n
            and getattr(answer[0], "shape", ()) == self.shape
            and type(answer[-1]) is dict
            and (n == 2 or (type(answer[1]) in NUMBERS and type(answer[2]) in FLAGS and type(answer[3]) in FLAGS))
        )

    def look(self, method: str, answer: Any, expected: str) -> None:
        if not isinstance(answer, tuple) or len(answer) != expected.count(",") + 1:
            given = f"{len(answer)} values" if isinstance(answer, tuple) else f"one {type(answer).__name__}"
            raise self.failed(method, f"returned {given}, not {expected}")
        problem = misfit(self.observation_space, answer[0])
        if problem:
            raise self.failed(method, f"is wrong: {problem}")
        names = expected.strip("()").split(", ")
        for name, value in zip(names[1:-1], answer[1:-1]):
            x, kinds = np.asarray(value), "fiub" if name == "reward" else "iub"
            if x.dtype.kind not in kinds:
                wanted = "a number" if name == "reward" else "True or False"
                raise self.failed(method, f"returned {name}={repr(value)[:40]}, not {wanted}")
            if x.ndim:
                raise self.failed(method, f"returned a {name} of shape {x.shape}, not one number")
        if not isinstance(answer[-1], Mapping):
            raise self.failed(method, f"returned a {type(answer[-1]).__name__} as info, not a dict")

    def mask_of(self, info: dict[str, Any]) -> dict[str, Any]:
        """The mask of all parts of an action in one vector of bools. Nobody reads the rest of ``info``, and stacking or
        sending it takes time."""
        try:
            mask = self.masks() if self.masks is not None else info.get("action_mask")
        except (Exception, SystemExit) as error:
            raise self.failed("action_masks", f"raised {reason(error)}") from error
        return {} if mask is None else {"action_mask": joined(mask)}

    def gymnasium_says(self) -> list[str]:
        """What Gymnasium's own checker finds, in one line each. The environment is stepped for that."""
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                env_checker.check_env(self.env.unwrapped, skip_render_check=True, skip_close_check=True)
            except (Exception, SystemExit) as error:
                raise HostError(f"Gymnasium's checker: {reason(error)}") from error
        lines = dict.fromkeys(plain(str(warning.message)) for warning in heard if "WARN" in str(warning.message))
        return [f"Gymnasium's checker: {line}" for line in lines if "infinity" not in line]  # unbounded is usual

    def failed(self, method: str, what: str) -> HostError:
        when = f"step {self.steps}" if self.steps else "its first reset"
        return HostError(f"environment {self.index}, {when}: {method} {what}. Fix its {method}, or wrap it.")


def joined(mask: Any) -> np.ndarray:
    """The mask of all parts of an action in one vector of bools."""
    parts = mask if isinstance(mask, tuple | list) and np.ndim(mask[0]) else [mask]
    return np.concatenate([np.asarray(part, bool).reshape(-1) for part in parts])


def plain(text: str) -> str:
    """Without colours, and without Gymnasium's ``WARN:``."""
    return re.sub(r"\x1b\[[\d;]*m", "", text).removeprefix("WARN: ").strip().splitlines()[0]


def reason(error: BaseException) -> str:
    """``ZeroDivisionError: division by zero``."""
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """Of its message."""
    return next(iter(str(error).splitlines()), "no message")
