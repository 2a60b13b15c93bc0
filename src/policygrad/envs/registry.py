"""One ``make(id)`` for every environment.

``CartPole-v1`` is the pure-JAX twin, ``gym:CartPole-v1`` Gymnasium's own; ``probe:...`` are the probes; ``chain``,
``corridor``, ``grid``, ``cliff``, ``random`` and ``lqr`` are small worlds whose answers can be computed.
"""

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from policygrad.envs import control, tabular
from policygrad.envs.core import Env
from policygrad.envs.host import GymnasiumEnv, HostEnv, did_you_mean
from policygrad.envs.lqr import double_integrator
from policygrad.envs.probes import PROBES


class Entry(NamedTuple):
    make: Callable[..., Env]
    description: str


TWINS: dict[str, type[Env]] = {
    "CartPole-v1": control.CartPole,
    "Acrobot-v1": control.Acrobot,
    "MountainCar-v0": control.MountainCar,
    "MountainCarContinuous-v0": control.MountainCarContinuous,
    "Pendulum-v1": control.Pendulum,
}

WORLDS: dict[str, Entry] = {
    "chain": Entry(partial(tabular.chain, time_limit=100), "a row of states; walking right to the end pays 1"),
    "corridor": Entry(partial(tabular.short_corridor, time_limit=1000), "three states that look alike; be stochastic"),
    "grid": Entry(partial(tabular.grid, time_limit=200), "corner to corner on a grid, −1 per step"),
    "cliff": Entry(partial(tabular.cliff, time_limit=500), "cliff walking, −1 per step and −100 for a fall"),
    "random": Entry(partial(tabular.random_mdp, horizon=10), "a random MDP with random rewards, 10 steps long"),
    "lqr": Entry(double_integrator, "a linear-quadratic regulator: the double integrator, 20 steps long"),
}

ENTRIES: dict[str, Entry] = {
    **{name: Entry(cls, f"pure-JAX twin of Gymnasium's (gym:{name} forces Gymnasium)") for name, cls in TWINS.items()},
    **{f"probe:{name}": Entry(cls, f"probe: {cls.about}") for name, cls in PROBES.items()},
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
    if env.startswith(HOST_PREFIX):
        return GymnasiumEnv(env.removeprefix(HOST_PREFIX), **kwargs)
    entry = find(env)
    refused = [name for name in kwargs if name not in inspect.signature(entry.make).parameters]
    if refused:
        takes = ", ".join(inspect.signature(entry.make).parameters) or "none"
        raise ValueError(f"{env} has no option {', '.join(refused)}. Its options: {takes}.")
    return entry.make(**kwargs)


def find(name: str) -> Entry:
    """The entry of an id; a ValueError says what is near, or that only Gymnasium has it."""
    if name in ENTRIES:
        return ENTRIES[name]
    if gymnasium_has(name):
        raise ValueError(f"{name} has no pure-JAX twin, so it cannot be trained on. gym:{name} can be evaluated on.")
    near = did_you_mean(name, [*ENTRIES, *gymnasium_ids()])
    raise ValueError(f"There is no environment {name!r}.{near} `policygrad list` shows all names.")


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
    return (
        env.startswith(HOST_PREFIX) if isinstance(env, str) else not isinstance(env, type) and isinstance(env, HostEnv)
    )


def describe(name: str) -> str:
    """The one line that a user is told about an id."""
    if name.startswith(HOST_PREFIX):
        return f"{name}: Gymnasium's own environment, stepped on the host"
    return f"{name}: {find(name).description}"


def names() -> dict[str, str]:
    """Every id with its one-line description."""
    return {name: entry.description for name, entry in ENTRIES.items()}


def env_id(env: Any) -> str:
    """The id as it is; for an object its own ``id``, or else the name of its class."""
    if isinstance(env, str):
        return env
    return env.id if isinstance(env, GymnasiumEnv) else env.__name__ if isinstance(env, type) else type(env).__name__


def slug(name: str) -> str:
    """A file name made of the id, legal on every system: only letters, digits, ``.``, ``_`` and ``-``, and no name that
    Windows reserves."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-. ") or "env"
    reserved = re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", clean, flags=re.IGNORECASE)
    return f"env-{clean}" if reserved else clean


def gymnasium_has(name: str) -> bool:
    """Gymnasium lists the ALE's ids only where ``ale_py`` was imported, so the prefix has to do."""
    return name in gymnasium_ids() or name.startswith("ALE/")


def gymnasium_ids() -> list[str]:
    import gymnasium

    return list(gymnasium.registry)
