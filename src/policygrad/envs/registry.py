"""One ``make(id)`` for every environment.

``CartPole-v1`` is the pure-JAX twin, ``gym:CartPole-v1`` Gymnasium's own; ids without a twin, ``module:Name-v0`` and
``ALE/...`` are Gymnasium's too. ``probe:...`` are the probes; ``chain``, ``corridor``, ``grid``, ``cliff``, ``random``
and ``lqr`` are small worlds whose answers can be computed. ``gymnax:...`` and ``brax:...`` are those packages'
environments, pure as ours; ``envpool:...`` are EnvPool's. ``package.module:Class`` and ``file.py:Class`` are a user's
own, pure or Gymnasium's.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from policygrad.envs.own import HOST_PREFIX, call_own, is_module_path, is_own, own


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
    "fork": Entry("tabular:fork", "a narrow way that pays 1, a wide one that pays 0.9", {"time_limit": 100}),
    "walk": Entry("tabular:random_walk", "a row of 19 states; the ends pay −1 and 1", {"time_limit": 1000}),
    "climb": Entry("lessons:climb", "steps up, a wrong one leads back to the foot; resets help", {"time_limit": 32}),
    "near-far": Entry("lessons:near_far", "a small reward at once, or a large one behind it", {"time_limit": 10}),
    "orchard": Entry("lessons:orchard", "pick each year, or fell the tree; see the time to go"),
    "apprentice": Entry("lessons:apprentice", "odd jobs, or learn first; endless, seen 5 steps", {"time_limit": 5}),
    "ledge": Entry("lessons:ledge", "paid now, and may fall later; a small γ looks away", {"time_limit": 10}),
    "RockPaperScissors-v0": Entry("repeated:rock_paper_scissors", "ten rounds against an opponent that can be learned"),
    "random": Entry("tabular:random_mdp", "a random MDP with random rewards, 10 steps long", {"horizon": 10}),
    "lqr": Entry("lqr:double_integrator", "a linear-quadratic regulator: the double integrator, 20 steps long"),
}

PAGES: dict[str, Entry] = {
    "PageLayout-v0": Entry("page_layout:PageLayout", "one of three layouts for each user; paid for a click"),
    "PageLayoutSequential-v0": Entry(
        "page_layout:PageLayoutSequential", "the same, and users come back, unless they were annoyed"
    ),
}

ENTRIES: dict[str, Entry] = {
    **{
        name: Entry(home, f"pure-JAX twin of Gymnasium's (gym:{name} forces Gymnasium)") for name, home in TWINS.items()
    },
    **{f"probe:{name}": entry._replace(description=f"probe: {entry.description}") for name, entry in PROBES.items()},
    **WORLDS,
    **PAGES,
}

ELSEWHERE: dict[str, tuple[str, str, str]] = {
    "gymnax:": ("gymnax", "gymnax", "gymnax's, in pure JAX: gymnax:Breakout-MinAtar"),
    "brax:": ("brax", "brax", "Brax's physics, in pure JAX: brax:ant"),
    "envpool:": ("envpool", "envpool", "EnvPool's, in C++ threads: envpool:Pong-v5"),
    "ALE/": ("ale_py", "atari", "Atari games, in C++ threads: ALE/Breakout-v5"),
}
"""Prefixes of other packages' ids: the module, our extra, and what they are."""

PURE_ELSEWHERE = {"gymnax:": "functional:Gymnax", "brax:": "functional:Brax"}


def make(env: Any, **kwargs: Any) -> Any:
    """The environment of that id; an object that follows :class:`Env` or :class:`HostEnv` is returned as it is.

    Gymnasium's objects, and functions that make one, become a :class:`HostEnv`.

    Args:
        env: an id (:func:`names` lists ours), or an environment.
        kwargs: for a pure id, its options (``time_limit=100``); for what is stepped on the host, those of
            :func:`policygrad.envs.host.make` (``num_envs=8``).

    Raises:
        ValueError: the id is unknown, or does not take these options.
        TypeError: ``env`` is neither an id nor an environment.
        ImportError: a package is missing; the message names the extra.
    """
    if follows_env(env) or (is_host_env(env) and not kwargs):
        return require_no_options(env, kwargs)
    if is_host(env):
        from policygrad.envs import host

        return host.make(env, **kwargs)
    if not isinstance(env, str):
        raise TypeError(
            f"{env_id(env)} is no environment. Give an id such as 'CartPole-v1', a Gymnasium environment or a function "
            "that makes one, or an object with observation_space, action_space, time_limit, reset(noise) and "
            "step(noise, state, action)."
        )
    if is_own(env):
        return make_own(env, kwargs)
    prefix = next((prefix for prefix in PURE_ELSEWHERE if env.startswith(prefix)), None)
    if prefix is not None:
        return Entry(PURE_ELSEWHERE[prefix], "").make(env.removeprefix(prefix), **kwargs)
    maker = find(env).make
    takes = inspect.signature(maker).parameters
    refused = [name for name in kwargs if name not in takes]
    if refused:
        raise ValueError(f"{env} has no option {', '.join(refused)}. Its options: {', '.join(takes) or 'none'}.")
    return maker(**kwargs)


def find(name: str) -> Entry:
    """The entry of one of our own ids; a ValueError says what is near."""
    if name in ENTRIES:
        return ENTRIES[name]
    from policygrad.envs.stateful import did_you_mean

    near = did_you_mean(name, ENTRIES) or did_you_mean(name, gymnasium_ids())
    raise ValueError(f"There is no environment {name!r}.{near} `policygrad list` shows all names.")


def require_trainable(name: str) -> None:
    """A ValueError if the id is unknown, an ImportError if its package is missing. Imports no JAX, and no user's
    module."""
    plain = name.removeprefix(HOST_PREFIX)
    for prefix, (module, extra, _) in ELSEWHERE.items():
        if plain.startswith(prefix):
            require_package(name, module, extra)
            return
    if is_own(plain) or is_gymnasium_import(plain):
        return
    if name.startswith(HOST_PREFIX):
        from policygrad.envs.worker import spec_of

        spec_of(plain)
    elif not gymnasium_has(name):
        find(name)


def require_package(name: str, module: str, extra: str) -> None:
    from policygrad.envs.stateful import missing

    try:
        found = importlib.util.find_spec(module)
    except ValueError:  # it was blocked
        found = None
    if found is None:
        raise missing(name, module.replace("_", "-"), extra)


def make_own(name: str, kwargs: dict[str, Any]) -> Any:
    """The environment that a user's class or function makes, or their object itself.

    Raises:
        ValueError: there is no such module, file or name, it cannot be imported, or it makes no environment.
    """
    env = own(name)
    if callable(env) and not follows_env(env):
        env = call_own(name, kwargs)
    elif kwargs:
        raise ValueError(f"{name} is made already and takes no options ({', '.join(kwargs)}).")
    if follows_env(env) or is_host_env(env):
        return env
    if is_host(env):
        from policygrad.envs import host

        return host.make(name, env_kwargs=kwargs)
    raise ValueError(
        f"{name} is no environment: it needs observation_space, action_space, time_limit, "
        "reset(noise) -> (state, obs) and step(noise, state, action) -> (state, obs, reward, terminated), "
        "or is a gymnasium.Env."
    )


# What an environment is


def require_no_options(env: Any, kwargs: dict[str, Any]) -> Any:
    if kwargs:
        raise ValueError(f"Options ({', '.join(kwargs)}) are for ids only. Give them to {env_id(env)} itself.")
    return env


def follows_env(env: Any) -> bool:
    """All of :class:`Env` but ``draw``, which has a default. A class is no environment: it wants to be called."""
    wanted = ("observation_space", "action_space", "time_limit", "reset", "step")
    pure = not isinstance(env, str | type) and all(hasattr(env, name) for name in wanted)
    return pure and not hasattr(env, "num_envs") and not is_gymnasium_object(env)


def is_host_env(env: Any) -> bool:
    """An object that follows :class:`HostEnv`."""
    from policygrad.envs.stateful import HostEnv

    return not isinstance(env, str | type) and isinstance(env, HostEnv)


def is_gymnasium_object(env: Any) -> bool:
    """Gymnasium's environments and vector environments, and classes of the former."""
    from policygrad.envs import host

    return host.is_gymnasium_object(env)


def is_host(env: Any) -> bool:
    """Whether ``env`` (an id, an environment, or a function that makes one) is stepped on the host.

    A user's own class is looked up for that. What a user's own *function* makes is seen only when it is called: under
    its name it counts as pure here, and :func:`make` returns what it is.
    """
    if not isinstance(env, str):
        makes_one = callable(env) and not isinstance(env, type) and not follows_env(env)
        return is_host_env(env) or is_gymnasium_object(env) or makes_one
    if env in ENTRIES or env.startswith(tuple(PURE_ELSEWHERE)):
        return False
    if env.startswith((HOST_PREFIX, *ELSEWHERE)) or is_gymnasium_import(env):
        return True
    if is_own(env):
        found = own(env)
        return is_host_env(found) or is_gymnasium_object(found)
    return gymnasium_has(env)


def describe(name: str) -> str:
    """The one line that a user is told about an id."""
    plain = name.removeprefix(HOST_PREFIX)
    for prefix, (_, _, words) in ELSEWHERE.items():
        if plain.startswith(prefix):
            return f"{name}: {words.split(':')[0]}"
    if is_own(name):
        return f"{name}: your own"
    if name.startswith(HOST_PREFIX) or is_gymnasium_import(name) or (name not in ENTRIES and gymnasium_has(name)):
        return f"{name}: Gymnasium's own environment, stepped on the host"
    return f"{name}: {find(name).description}"


def names() -> dict[str, str]:
    """Every id of ours with its one-line description."""
    return {name: entry.description for name, entry in ENTRIES.items()}


def env_id(env: Any) -> str:
    """The id as it is; for an object its own ``id``, or else the name of its class; for a function its name."""
    if isinstance(env, str):
        return env
    if isinstance(env, type):
        return env.__name__
    if is_host_env(env) and hasattr(env, "id"):
        return env.id
    name = getattr(env, "__name__", type(getattr(env, "unwrapped", env)).__name__)
    return name if name.isidentifier() else "env"


def is_gymnasium_import(name: str) -> bool:
    """Gymnasium's own syntax, ``module:Name-v0``: the module is imported first."""
    module, colon, rest = name.partition(":")
    return bool(colon) and is_module_path(module) and not rest.isidentifier() and "-v" in rest


def gymnasium_has(name: str) -> bool:
    """Gymnasium lists the ALE's ids only where ``ale_py`` was imported, so the prefix has to do."""
    return name in gymnasium_ids() or name.startswith("ALE/")


def gymnasium_ids() -> list[str]:
    import gymnasium

    return list(gymnasium.registry)
