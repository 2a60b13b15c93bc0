"""One ``make`` for everything that is stepped on the host: Gymnasium, the Arcade Learning Environment, EnvPool.

Each has a file of its own, which is imported when it is needed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from policygrad.envs.own import HOST_PREFIX, Begun, call_own, is_own, own
from policygrad.envs.stateful import HostEnv, HostError, HostStep, did_you_mean

__all__ = ["HostEnv", "HostError", "HostStep", "did_you_mean", "is_gymnasium_object", "make", "make_single"]

PATIENCE = 60.0
"""Seconds that an environment that is only checked may take for a step or a reset."""
USED: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""Objects that are being stepped, by their ``id``: whoever asks for one of them again gets a copy."""


def make(
    env: Any,
    num_envs: int | None = None,
    *,
    training: bool = True,
    env_kwargs: dict[str, Any] | None = None,
    wrappers: Sequence[str | Callable] = (),
    vectorization: str = "auto",
    max_episode_steps: int | None = None,
    timeout: float | None = None,
    threads: int | None = None,
    seed: int | None = None,
    **kwargs: Any,
) -> HostEnv:
    """``num_envs`` copies of an environment, side by side.

    Args:
        env: an id (``LunarLander-v3``, ``gym:CartPole-v1``, ``module:Name-v0``, ``ALE/Breakout-v5``,
            ``envpool:Pong-v5``), a class or function of the user's own (``file.py:Class``, or itself; a function may
            make a vector environment too), a ``gymnasium.Env``, a ``gymnasium.vector.VectorEnv``, or a
            :class:`HostEnv`.
        training: for Atari, a lost life is an end; False: episodes are whole games (as they are with ``sync`` and
            ``async``).
        env_kwargs: options of the environment. More can be given by name.
        wrappers: functions ``env -> env`` or their names ``module:Class``, the innermost first.
        vectorization: ``auto``, ``sync``, ``async`` or ``vector``: see
            :class:`policygrad.envs.gymnasium.GymnasiumEnv`.
        max_episode_steps: steps after which an episode is truncated.
        timeout: seconds after which a process that does not answer is given up (``async`` only; default: 300).
        threads: of games in C++ (``ALE/...``, ``envpool:...``; their option ``num_threads`` goes first); None: as many
            as they like.
        seed: of the first reset, where that gets none.

    Raises:
        ValueError: the id is unknown, or these options do not go together.
        ImportError: a package is missing; the message names the extra.
        HostError: the environment could not be made.
    """
    options = {**(env_kwargs or {}), **kwargs}
    if not isinstance(env, str | type) and isinstance(env, HostEnv):
        return used_or_cloned(env, num_envs, training)
    name = env.removeprefix(HOST_PREFIX) if isinstance(env, str) else ""
    games = name.startswith(("ALE/", "envpool:")) and vectorization not in ("sync", "async")
    if games and wrappers:
        raise ValueError(f"{name} is stepped in C++ and takes no wrappers. Drop them.")
    if games:
        options = options if threads is None else {"num_threads": threads, **options}
        limit = {"max_episode_steps": max_episode_steps}
        return games_of(name)(num_envs=num_envs, training=training, seed=seed, **limit, **options)
    from policygrad.envs.gymnasium import TIMEOUT, GymnasiumEnv

    if name.startswith("ALE/"):
        from policygrad.envs.atari import single_game

        env, options = partial(single_game, name, **options), {}
    elif isinstance(env, str) and is_own(name):
        env, options = maker_of(name, options)
    elif isinstance(env, str):
        env = name
    given = None if isinstance(env, str | type) or not is_gymnasium_object(env) else env
    if given is not None:
        env, num_envs = used_or_copied(env, num_envs, training)
    elif is_function(env) and vectorization != "async":
        env, options = partial(env, **options) if options else env, {}
        env, num_envs = batch_or_function(env, num_envs, training)
    made = GymnasiumEnv(
        env,
        num_envs,
        vectorization=vectorization,
        wrappers=tuple(wrappers),
        max_episode_steps=max_episode_steps,
        env_kwargs=options,
        timeout=TIMEOUT if timeout is None else timeout,
        seed=seed,
    )
    made.id = id_of(made.id, name)
    if env is given and given is not None:
        made.given_back = partial(USED.pop, id(given), None)
    return made


def make_single(env: Any, *, env_kwargs: dict[str, Any] | None = None, wrappers: Sequence[str | Callable] = ()) -> Any:
    """One ``gymnasium.Env`` with its options and wrappers: to be drawn, or checked. ``max_episode_steps`` may be among
    the options."""
    from policygrad.envs.worker import Watched, make_one

    options = dict(env_kwargs or {})
    limit = options.pop("max_episode_steps", None)
    name = env.removeprefix(HOST_PREFIX) if isinstance(env, str) else ""
    if name.startswith("ALE/"):
        from policygrad.envs.atari import single_game

        return Watched(make_one(partial(single_game, name, **options), {}, tuple(wrappers), limit))
    if name.startswith("envpool:"):
        raise ValueError(f"{name} has no single environment that could be drawn. Choose ALE/... or Gymnasium's.")
    if is_own(name):
        env, options = maker_of(name, options)
    return Watched(make_one(name if isinstance(env, str) else env, options, tuple(wrappers), limit))


def make_apart(name: str, *, wrappers: Sequence[str | Callable] = (), **options: Any) -> HostEnv:
    """One copy in a process of its own, where it can neither end nor stop this one: to be checked. What is stepped by
    a fast version, or is an object already, is as :func:`make` has it."""
    from policygrad.envs.gymnasium import has_fast_version

    plain = name.removeprefix(HOST_PREFIX)
    if plain.startswith(("ALE/", "envpool:")):
        alone = False
    elif is_own(plain):
        alone = callable(own(plain))
    else:
        alone = not has_fast_version(plain, "auto", ({}, tuple(wrappers), None))
    if not alone:
        return make(name, wrappers=wrappers, **options)
    return make(name, 1, vectorization="async", wrappers=wrappers, timeout=PATIENCE, **options)


def games_of(name: str) -> Callable[..., HostEnv]:
    """What makes games in C++: the Arcade Learning Environment, or EnvPool."""
    if name.startswith("ALE/"):
        from policygrad.envs.atari import AtariEnv

        return partial(AtariEnv, name)
    from policygrad.envs.envpool import EnvpoolEnv

    return partial(EnvpoolEnv, name.removeprefix("envpool:"))


def maker_of(name: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A user's class or function as a function of no arguments, which processes can import; their object as it is."""
    found = own(name)
    return (partial(call_own, name, options), {}) if callable(found) else (found, options)


def id_of(given: str, name: str) -> str:
    """The name that the user gave, where that says more."""
    return name if is_own(name) or name.startswith("ALE/") else given


# Functions


def is_function(env: Any) -> bool:
    """Whether it makes environments: no id, no class, no environment."""
    return callable(env) and not isinstance(env, type) and not isinstance(env, HostEnv) and not is_gymnasium_object(env)


def begun(function: Callable[[], Any]) -> Begun:
    """The function, called once."""
    from policygrad.envs.worker import of_function

    return Begun(function, of_function(function, batch=True))


def batch_or_function(function: Callable[[], Any], num_envs: int | None, training: bool) -> tuple[Any, int | None]:
    """``(env, num_envs)``: the vector environment that the function makes, or the function that makes one environment.
    An evaluation takes a batch of any size."""
    from gymnasium.vector import VectorEnv

    first = begun(function)
    if not isinstance(first.made, VectorEnv):
        return first, num_envs
    made = first()
    if training and num_envs not in (None, made.num_envs):
        made.close()
        raise ValueError(
            f"The function makes {made.num_envs} environments at once, not {num_envs}. "
            f"Set n_envs={made.num_envs}, or leave it out."
        )
    return made, None


# Objects


def is_gymnasium_object(env: Any) -> bool:
    """Gymnasium's environments and vector environments, and classes of the former."""
    from gymnasium import Env
    from gymnasium.vector import VectorEnv

    return issubclass(env, Env) if isinstance(env, type) else isinstance(env, Env | VectorEnv)


def used_or_cloned(env: HostEnv, num_envs: int | None, training: bool) -> HostEnv:
    """The batch itself the first time; a copy where another size is needed, or it is in use."""
    if id(env) not in USED and num_envs in (None, env.num_envs) and training:
        USED[id(env)] = env
        return env
    copy = env.clone(num_envs, training=training)
    if copy is None:
        raise ValueError(f"Another {type(env).__name__} is needed, and its clone() gives none. Write clone(num_envs).")
    return copy


def used_or_copied(env: Any, num_envs: int | None, training: bool) -> tuple[Any, int | None]:
    """``(env, num_envs)``: Gymnasium's object itself where it fits and is not in use, or else something that makes
    copies of it. In training it is in use from then on."""
    from gymnasium.vector import VectorEnv

    from policygrad.envs.gymnasium import clone_vector, copier

    own_size = env.num_envs if isinstance(env, VectorEnv) else 1
    if id(env) not in USED and (num_envs or own_size) == own_size:
        if training:
            USED[id(env)] = env
        return env, num_envs
    if not isinstance(env, VectorEnv):
        return copier(env), num_envs
    copy = clone_vector(env, num_envs or own_size)
    if copy is None and id(env) not in USED and not training:
        return env, None
    if copy is None:
        raise ValueError(
            f"{num_envs or own_size} more environments like {type(env).__name__} are needed, and it cannot be copied. "
            f"Give a function that makes one environment, or set n_envs={own_size} and eval_every=0."
        )
    return copy, num_envs
