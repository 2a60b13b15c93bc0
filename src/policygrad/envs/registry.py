"""One ``make(id)`` for every environment.

``CartPole-v1`` is the pure-JAX twin, ``gym:CartPole-v1`` Gymnasium's own; ``probe:...`` are the probes; ``chain``,
``corridor``, ``grid``, ``cliff``, ``random`` and ``lqr`` are small worlds whose answers can be computed.
``package.module:Class`` and ``file.py:Class`` are a user's own.
"""

import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """An environment by name. Nothing is imported before it is made, so that a list of names is quick."""

    home: str
    """``module:attribute`` in :mod:`policygrad.envs`."""
    description: str
    options: Mapping[str, Any] = {}
    """What it is made with, where the user says nothing else."""

    @property
    def make(self) -> Any:
        """The class or function that makes it."""
        module, name = self.home.split(":")
        return partial(getattr(importlib.import_module(f"policygrad.envs.{module}"), name), **self.options)


TWINS: dict[str, str] = {
    "CartPole-v1": "control:CartPole",
    "Acrobot-v1": "control:Acrobot",
    "MountainCar-v0": "control:MountainCar",
    "MountainCarContinuous-v0": "control:MountainCarContinuous",
    "Pendulum-v1": "control:Pendulum",
}

PROBES: dict[str, Entry] = {
    "constant": Entry("probes:ConstantReward", "one step, always paid 1"),
    "observation": Entry("probes:ObservationReward", "one step, paid the observation"),
    "discount": Entry("probes:DelayedReward", "two steps, paid 1 on the second"),
    "action": Entry("probes:ActionReward", "one step, paid for action 1"),
    "observation-action": Entry("probes:MatchingReward", "one step, paid for naming the observation"),
    "action-continuous": Entry("probes:ContinuousActionReward", "one step, paid for an action near 1/2"),
    "observation-action-continuous": Entry(
        "probes:ContinuousMatchingReward", "one step, paid for an action near half the observation"
    ),
    "memory": Entry("probes:Memory", "a cue at the first step, to be named later"),
}

WORLDS: dict[str, Entry] = {
    "chain": Entry("tabular:chain", "a row of states; walking right to the end pays 1", {"time_limit": 100}),
    "corridor": Entry("tabular:short_corridor", "three states that look alike; be stochastic", {"time_limit": 1000}),
    "grid": Entry("tabular:grid", "corner to corner on a grid, −1 per step", {"time_limit": 200}),
    "cliff": Entry("tabular:cliff", "cliff walking, −1 per step and −100 for a fall", {"time_limit": 500}),
    "random": Entry("tabular:random_mdp", "a random MDP with random rewards, 10 steps long", {"horizon": 10}),
    "lqr": Entry("lqr:double_integrator", "a linear-quadratic regulator: the double integrator, 20 steps long"),
}

ENTRIES: dict[str, Entry] = {
    **{
        name: Entry(home, f"pure-JAX twin of Gymnasium's (gym:{name} forces Gymnasium)") for name, home in TWINS.items()
    },
    **{f"probe:{name}": entry._replace(description=f"probe: {entry.description}") for name, entry in PROBES.items()},
    **WORLDS,
}

HOST_PREFIX = "gym:"


def make(env: Any, **kwargs: Any) -> Any:
    """The environment of that id; an object that follows :class:`Env` or :class:`HostEnv` is returned as it is.

    Args:
        env: an id (:func:`names` lists them), or an environment.
        kwargs: for an id, its options: ``time_limit=100``, or ``num_envs=8`` for a ``gym:`` id.

    Raises:
        ValueError: the id is unknown, or has no pure-JAX version, or does not take these options.
        TypeError: ``env`` is neither an id nor an environment.
    """
    if not isinstance(env, str):
        return require_env(env, kwargs)
    if is_own(env):
        return make_own(env, kwargs)
    if env.startswith(HOST_PREFIX):
        from policygrad.envs.host import GymnasiumEnv

        return GymnasiumEnv(env.removeprefix(HOST_PREFIX), **kwargs)
    maker = find(env).make
    takes = inspect.signature(maker).parameters
    refused = [name for name in kwargs if name not in takes]
    if refused:
        raise ValueError(f"{env} has no option {', '.join(refused)}. Its options: {', '.join(takes) or 'none'}.")
    return maker(**kwargs)


def find(name: str) -> Entry:
    """The entry of an id; a ValueError says what is near, or that only Gymnasium has it."""
    if name in ENTRIES:
        return ENTRIES[name]
    from policygrad.envs.host import did_you_mean

    if gymnasium_has(name):
        raise ValueError(f"{name} has no pure-JAX twin, so it cannot be trained on. gym:{name} can be evaluated on.")
    near = did_you_mean(name, ENTRIES) or did_you_mean(name, gymnasium_ids(), prefix=HOST_PREFIX)
    raise ValueError(f"There is no environment {name!r}.{near} `policygrad list` shows all names.")


def require_trainable(name: str) -> None:
    """A ValueError if the id is unknown, or has no pure version to train on. Imports no JAX, and no user's module."""
    if name.startswith(HOST_PREFIX):
        twin = name.removeprefix(HOST_PREFIX)
        fix = (
            f"Train on its pure-JAX twin {twin}, and evaluate on {name}."
            if twin in TWINS
            else "Choose one of `policygrad list envs`, or write your own class with Env's methods."
        )
        raise ValueError(f"{name} is stepped on the host, and training needs a pure-JAX environment. {fix}")
    if not is_own(name):
        find(name)


# A user's own: package.module:Class or file.py:Class


def is_own(name: str) -> bool:
    """Whether the id names a user's own class: ``module:Class`` or ``file.py:Class``."""
    module, colon, attribute = name.rpartition(":")
    return bool(colon) and attribute.isidentifier() and (module.endswith(".py") or is_module_path(module))


def is_module_path(module: str) -> bool:
    """``a.b.c``, but neither of the prefixes that are ours."""
    return module not in ("gym", "probe") and all(part.isidentifier() for part in module.split("."))


def make_own(name: str, kwargs: dict[str, Any]) -> Any:
    """The environment that a user's class or function makes, or their object itself.

    Raises:
        ValueError: there is no such module, file or name, it cannot be imported, or it makes no environment.
    """
    home, _, attribute = name.rpartition(":")
    module = import_own(home)
    if not hasattr(module, attribute):
        near = get_close_matches(attribute, [own for own in vars(module) if not own.startswith("_")], n=1)
        raise ValueError(f"{home} has no {attribute!r}." + (f" Did you mean {home}:{near[0]}?" if near else ""))
    env = getattr(module, attribute)
    if callable(env) and not follows_env(env):
        try:
            env = env(**kwargs)
        except Exception as error:
            raise ValueError(f"{name} could not be made: {type(error).__name__}: {error}") from error
    elif kwargs:
        raise ValueError(f"{name} is made already and takes no options ({', '.join(kwargs)}).")
    if not (follows_env(env) or is_host(env)):
        raise ValueError(
            f"{name} is no environment: it needs observation_space, action_space, time_limit, "
            "reset(noise) -> (state, obs) and step(noise, state, action) -> (state, obs, reward, terminated)."
        )
    return env


def import_own(home: str) -> ModuleType:
    """A user's module, by its dotted name (the current folder is searched first) or by its file."""
    try:
        if home.endswith(".py"):
            return import_file(home)
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        return importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name is not None and (home == error.name or home.startswith(f"{error.name}.")):
            raise ValueError(f"There is no module {home!r} here or among the installed packages.") from error
        raise ValueError(f"{home} needs the module {error.name!r}, which is not installed.") from error
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{home} could not be imported: {type(error).__name__}: {error}") from error


def import_file(path: str) -> ModuleType:
    """A file as a module of its own; its folder becomes importable, as if Python ran it."""
    full = os.path.abspath(path)
    if not os.path.isfile(full):
        raise ValueError(f"There is no file {path}.")
    if os.path.dirname(full) not in sys.path:
        sys.path.insert(0, os.path.dirname(full))
    name = f"policygrad_own_{re.sub(r'[^A-Za-z0-9]', '_', full)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, full)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


# What an environment is


def require_env(env: Any, kwargs: dict[str, Any]) -> Any:
    """``env`` if it is an environment, else a TypeError."""
    if not (follows_env(env) or is_host(env)):
        raise TypeError(
            f"{env_id(env)} is no environment of ours. Give an id such as 'CartPole-v1', or an object with "
            "observation_space, action_space, time_limit, reset(noise) and step(noise, state, action); "
            "a Gymnasium environment goes into GymnasiumEnv(lambda: env)."
        )
    if kwargs:
        raise ValueError(f"Options ({', '.join(kwargs)}) are for ids only. Give them to {env_id(env)} itself.")
    return env


def follows_env(env: Any) -> bool:
    """All of :class:`Env` but ``draw``, which has a default. A class is no environment: it wants to be called."""
    wanted = ("observation_space", "action_space", "time_limit", "reset", "step")
    return not isinstance(env, type) and all(hasattr(env, name) for name in wanted)


def is_host(env: Any) -> bool:
    """Whether ``env`` (an id or an environment) is stepped on the host."""
    if isinstance(env, str):
        return env.startswith(HOST_PREFIX)
    from policygrad.envs.host import HostEnv

    return not isinstance(env, type) and isinstance(env, HostEnv)


def describe(name: str) -> str:
    """The one line that a user is told about an id."""
    if name.startswith(HOST_PREFIX):
        return f"{name}: Gymnasium's own environment, stepped on the host"
    if is_own(name):
        return f"{name}: your own"
    return f"{name}: {find(name).description}"


def names() -> dict[str, str]:
    """Every id with its one-line description."""
    return {name: entry.description for name, entry in ENTRIES.items()}


def env_id(env: Any) -> str:
    """The id as it is; for an object its own ``id``, or else the name of its class."""
    if isinstance(env, str):
        return env
    if isinstance(env, type):
        return env.__name__
    return env.id if is_host(env) and hasattr(env, "id") else type(env).__name__


def gymnasium_has(name: str) -> bool:
    """Gymnasium lists the ALE's ids only where ``ale_py`` was imported, so the prefix has to do."""
    return name in gymnasium_ids() or name.startswith("ALE/")


def gymnasium_ids() -> list[str]:
    import gymnasium

    return list(gymnasium.registry)
