"""Gymnasium environments side by side: one after another, in processes, or by a fast vector version of their own."""

import copy
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState
from gymnasium.wrappers import TimeLimit

from policygrad.envs.own import Begun, call_own
from policygrad.envs.stateful import HostError
from policygrad.envs.vector import VectorHost
from policygrad.envs.worker import make_watched, reason, spec_of, undisturbed

VECTORIZATIONS = ("auto", "sync", "async", "vector")
TIMEOUT = 300.0
"""Seconds after which a process that does not answer is given up."""


class GymnasiumEnv(VectorHost):
    """Gymnasium environments as a :class:`policygrad.envs.host.HostEnv`.

    Args:
        env: a Gymnasium id (``module:Name-v0`` too), a function that makes one environment, an environment, or a
            ``gymnasium.vector.VectorEnv``.
        num_envs: how many run side by side (default: 1, or those of the vector environment).
        vectorization: ``sync``: one after another in this process; ``async``: each in a process of its own, which
            pays for environments that need more than about a tenth of a millisecond per step; ``vector``: the
            environment's own fast vector version; ``auto``: that if there is one, otherwise ``sync``.
        wrappers: functions ``env -> env`` or their names ``module:Class``, the innermost first.
        max_episode_steps: steps after which an episode is truncated; for an id, in place of its own.
        env_kwargs: options of the environment (``render_mode``, for one), where it is made here: of an id, or of a
            function. More can be given by name.
        timeout: seconds after which a process that does not answer is given up (``async`` only).
        seed: of the first reset, where that gets none.
    """

    def __init__(
        self,
        env: Any,
        num_envs: int | None = None,
        *,
        vectorization: str = "auto",
        wrappers: Sequence[str | Callable] = (),
        max_episode_steps: int | None = None,
        env_kwargs: dict[str, Any] | None = None,
        timeout: float = TIMEOUT,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs = {**(env_kwargs or {}), **kwargs}
        self._env = env
        each = (kwargs, tuple(wrappers), max_episode_steps)
        self._recipe: dict[str, Any] = {"vectorization": vectorization, "timeout": timeout}
        self._recipe |= {"env_kwargs": kwargs, "wrappers": wrappers, "max_episode_steps": max_episode_steps}
        vector = make_vector(env, num_envs, vectorization, each, timeout)
        super().__init__(vector, id=name_of(env), time_limit=max_episode_steps or limit_of(env, vector), seed=seed)

    def clone(self, num_envs: int | None = None, *, training: bool | None = None) -> "GymnasiumEnv | None":
        num_envs = num_envs or self.num_envs
        if not isinstance(self._env, VectorEnv):
            env = copier(self._env) if isinstance(self._env, gymnasium.Env) else self._env
            made = GymnasiumEnv(env, num_envs, **self._recipe)
        else:
            vector = clone_vector(self._env, num_envs)
            if vector is None:
                return None
            made = GymnasiumEnv(vector)
        made.id = self.id
        return made


Each = tuple[dict[str, Any], tuple, int | None]
"""What one environment is made with: its options, its wrappers and its time limit."""


def make_vector(env: Any, num_envs: int | None, vectorization: str, each: Each, timeout: float) -> VectorEnv:
    """A Gymnasium vector environment that resets in the same step if it may choose."""
    n = 1 if num_envs is None else num_envs
    if vectorization not in VECTORIZATIONS:
        raise ValueError(f"vectorization is {vectorization!r}; choose one of {', '.join(VECTORIZATIONS)}.")
    if isinstance(env, VectorEnv):
        return own_vector(env, num_envs, vectorization, each)
    if n < 1:
        raise ValueError(f"num_envs is {n}; give at least 1.")
    if isinstance(env, str) and vectorization in ("auto", "vector") and has_fast_version(env, vectorization, each):
        return fast_version(env, n, each)
    if vectorization == "vector":
        raise ValueError(f"{name_of(env)} has no vector version of its own. Use vectorization='sync' or 'async'.")
    if isinstance(env, gymnasium.Env) and each[0]:
        raise ValueError(f"{name_of(env)} is made already and takes no options ({', '.join(each[0])}). Drop them.")
    if isinstance(env, gymnasium.Env):
        env = partial(itself, env) if n == 1 and vectorization != "async" else copier(env)
    if not isinstance(env, str) and each[0]:
        env, each = partial(env, **each[0]), ({}, *each[1:])
    makers = [partial(make_watched, index, env, *each) for index in range(n)]
    if vectorization == "async":
        return Processes(makers, timeout)
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


def own_vector(env: VectorEnv, num_envs: int | None, vectorization: str, each: Each) -> VectorEnv:
    """A vector environment that is made already: there is nothing left to choose."""
    if num_envs not in (None, env.num_envs):
        raise ValueError(f"The vector environment has {env.num_envs} environments, not {num_envs}. Leave num_envs out.")
    if any(each) or vectorization not in ("auto", "vector"):
        raise ValueError(
            "A vector environment is made already: give it its options, wrappers and time limit where it is made."
        )
    return env


def has_fast_version(env: str, vectorization: str, each: Each) -> bool:
    """Whether there is a fast vector version, and, for ``auto``, nothing that it could not do."""
    spec, wrappers = spec_of(env), each[1]
    if spec.vector_entry_point is None:
        return False
    if vectorization == "vector" and wrappers:
        raise ValueError(f"{env}'s own vector version takes no wrappers. Use vectorization='sync' or 'async'.")
    return spec.entry_point is None or not (wrappers or spec.additional_wrappers)


def fast_version(env: str, num_envs: int, each: Each) -> VectorEnv:
    kwargs = each[0] if each[2] is None else {**each[0], "max_episode_steps": each[2]}
    try:
        return gymnasium.make_vec(env, num_envs, vectorization_mode="vector_entry_point", **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(f"{env} needs a package that is not installed. {error}") from error
    except TypeError as error:
        raise ValueError(f"{env} does not take these options ({', '.join(kwargs) or 'none'}): {error}") from error


# Environments and vector environments that are made already


def itself(env: Any) -> Any:
    return env


def copier(env: gymnasium.Env) -> Callable[[], Any]:
    """A function that makes another environment like this one: from its ``spec``, or by a deep copy."""
    if env.spec is not None:
        try:
            gymnasium.make(env.spec).close()
            return partial(gymnasium.make, copy.deepcopy(env.spec))
        except Exception:  # a wrapper that does not remember its options
            pass
    try:
        copy.deepcopy(env)
    except Exception as error:
        kind = type(env.unwrapped).__name__
        raise ValueError(
            f"More than one {kind} is needed, and this one can be neither made anew from its spec nor copied. "
            f"Give a function that makes one: lambda: {kind}(...)."
        ) from error
    return partial(copy.deepcopy, env)


def clone_vector(vector: VectorEnv, num_envs: int) -> VectorEnv | None:
    """The same again, from its functions or its spec; None if it has been wrapped, or has neither."""
    if isinstance(vector, SyncVectorEnv | AsyncVectorEnv):
        how: dict[str, Any] = {"context": vector.context} if isinstance(vector, AsyncVectorEnv) else {}
        makers = [vector.env_fns[i % vector.num_envs] for i in range(num_envs)]
        return type(vector)(makers, autoreset_mode=vector.autoreset_mode, **how)
    if vector.unwrapped is not vector or vector.spec is None:
        return None
    spec = copy.deepcopy(vector.spec)
    spec.kwargs["num_envs"] = num_envs
    return gymnasium.make_vec(spec)


def name_of(env: Any) -> str:
    """What the environment is called in messages."""
    if isinstance(env, str):
        return f"gym:{env}"
    if isinstance(env, gymnasium.Env | VectorEnv):
        return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    if isinstance(env, Begun):
        return name_of(env.function)
    if isinstance(env, partial):
        return str(env.args[0]) if env.func is call_own else name_of(env.func)
    return getattr(env, "__name__", type(env).__name__)


def limit_of(env: Any, vector: VectorEnv) -> int | None:
    """Steps after which an episode is truncated, where that is known."""
    made = vector.envs[0] if isinstance(vector, SyncVectorEnv) else None
    while isinstance(made, gymnasium.Wrapper):
        if isinstance(made, TimeLimit):
            return made._max_episode_steps
        made = made.env
    spec = spec_of(env) if isinstance(env, str) else getattr(env, "spec", None)
    return getattr(spec, "max_episode_steps", None)


# Processes


class Processes(AsyncVectorEnv):
    """Each environment in a process of its own, with observations in shared memory. One that dies or does not answer
    within ``timeout`` seconds ends all of them, with one sentence."""

    def __init__(self, makers: Sequence[Callable[[], Any]], timeout: float) -> None:
        self.timeout, self.processes, self.parent_pipes = timeout, [], []
        with self.guarded("while it was made"):
            deaf = [partial(undisturbed, os.getpid(), maker) for maker in makers]
            super().__init__(deaf, context=start_method(), autoreset_mode=AutoresetMode.SAME_STEP)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict]:
        with self.guarded("in reset"):
            self.reset_async(seed, options)
            return self.reset_wait(self.timeout)

    def step(self, actions: Any) -> tuple:
        with self.guarded("in step"):
            self.step_async(actions)
            return self.step_wait(self.timeout)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple:
        with self.guarded(f"in {name}"):
            self.call_async(name, *args, **kwargs)
            return self.call_wait(self.timeout)

    @contextmanager
    def guarded(self, when: str) -> Iterator[None]:
        try:
            yield
        except HostError:
            self.stop()
            raise
        except multiprocessing.TimeoutError as error:
            silent = [i for i, pipe in enumerate(self.parent_pipes) if not pipe.poll()]
            self.stop()
            raise HostError(
                f"environment {listed(silent)} did not answer within {self.timeout:g} seconds {when}. "
                "Look for what it waits for, or give it more time (env_timeout of a run)."
            ) from error
        except (EOFError, OSError) as error:
            self.died(when, error)

    def died(self, when: str, error: Exception) -> NoReturn:
        for process in self.processes:
            process.join(0.2)
        codes = {i: process.exitcode for i, process in enumerate(self.processes) if process.exitcode is not None}
        self.stop()
        code = f" (exit code {next(iter(codes.values()))})" if codes else ""
        raise HostError(
            f"the process of environment {listed(list(codes))} died {when}{code}. Its own message is above, if it left "
            "one; try vectorization='sync'; a script that starts processes needs `if __name__ == '__main__':`."
        ) from error

    def _raise_if_errors(self, successes: Any) -> None:
        """A worker's exception, in place of Gymnasium's printed tracebacks."""
        if not all(successes):
            index, kind, value, _ = self.error_queue.get()
            raise HostError(str(value) if issubclass(kind, HostError) else f"environment {index}: {reason(value)}")

    def stop(self) -> None:
        """End every process at once."""
        for process in self.processes:
            process.kill()
        self._state = AsyncState.DEFAULT
        self.close(terminate=True)


def start_method() -> str:
    """A fork of a process with JAX's threads may hang; a fork server has none."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(["__main__", "policygrad.envs.worker"])
    return "forkserver"


def listed(indices: Sequence[int]) -> str:
    return ", ".join(map(str, np.unique(indices).tolist())) or "?"
