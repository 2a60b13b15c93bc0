"""``check_env``: what is wrong with an environment, in one sentence, before a training run says it in a hundred."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from policygrad.envs.core import StreamStep, autoreset, split_keys
from policygrad.envs.registry import is_host
from policygrad.envs.stateful import EnvError
from policygrad.envs.worker import first_line
from policygrad.spaces import FIXES, SUPPORTED, parts, per_part, unmasked

SIGNATURES = {
    "reset": "reset(noise) -> (state, obs)",
    "step": "step(noise, state, action) -> (state, obs, reward, terminated)",
}


def check_env(env: Any, *, steps: int = 1000, seed: int = 0) -> list[str]:
    """Run ``env`` a little, eagerly and traced, and raise an :class:`EnvError` at what would break training.

    An environment that is stepped on the host (Gymnasium's too) is played for a while: see
    :func:`policygrad.envs.host_checker.check_host`.

    Args:
        steps: how many random steps are taken.
        seed: of the noise and the actions.

    Returns:
        Warnings: things that may be meant, but seldom are.
    """
    if is_host(env):
        from policygrad.envs.host_checker import check_host

        return check_host(env, steps=steps, seed=seed)
    noise_key, action_key, roll_key = jax.random.split(jax.random.key(seed), 3)
    name = env.__name__ if isinstance(env, type) else type(env).__name__
    try:
        check_members(env)
        check_spaces(env)
        noise = check_draw(env, noise_key)
        action = random_actions(env.action_space, action_key, ())
        state = check_reset(env, noise)
        check_step(env, noise, state, action)
        check_traceable(env, noise, state, action)
        return [f"{name}: {warning}" for warning in roll(env, roll_key, steps)]
    except EnvError as error:
        raise EnvError(f"{name}: {error}") from error.__cause__


def check_named(
    name: str,
    *,
    env_kwargs: dict[str, Any] | None = None,
    wrappers: tuple[str, ...] = (),
    max_episode_steps: int | None = None,
    steps: int = 1000,
    seed: int = 0,
) -> list[str]:
    """:func:`check_env` of an id with its options. What is stepped on the host is stepped in a process of its own."""
    from policygrad.envs import host, registry
    from policygrad.envs.vector import VectorHost

    made = None if is_host(name) else registry.make(name, **(env_kwargs or {}))
    if made is not None and not isinstance(made, VectorHost):
        return check_env(made, steps=steps, seed=seed)
    if made is not None:  # a user's function makes an environment for the host
        made.close()
    apart = host.make_apart(name, env_kwargs=env_kwargs, wrappers=wrappers, max_episode_steps=max_episode_steps)
    try:
        return check_env(apart, steps=steps, seed=seed)
    finally:
        apart.close()


# What it has


def check_members(env: Any) -> None:
    if isinstance(env, type):
        raise EnvError("this is a class, not an environment. Call it first.")
    for name in ("observation_space", "action_space"):
        if not hasattr(env, name):
            raise EnvError(f"it has no {name}. Give it one of gymnasium.spaces.")
    if not hasattr(env, "time_limit"):
        raise EnvError("it has no time_limit. Give it the number of steps after which an episode is cut, or None.")
    for name, signature in SIGNATURES.items():
        if not callable(getattr(env, name, None)):
            raise EnvError(f"it has no method {name}. Write {signature}.")
    limit = env.time_limit
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1):
        raise EnvError(f"time_limit is {limit!r}. Give a positive whole number of steps, or None.")


def check_spaces(env: Any) -> None:
    for name in ("observation_space", "action_space"):
        space = getattr(env, name)
        if not isinstance(space, spaces.Space):
            given = type(space).__name__
            raise EnvError(f"{name} is of type {given}, not a Gymnasium space. Use gymnasium.spaces.Box or Discrete.")
        for part in parts(space):
            check_part(name, part, pictures=name == "observation_space")


def check_part(name: str, space: spaces.Space, *, pictures: bool) -> None:
    """A space that is made of no others."""
    if not isinstance(space, SUPPORTED):
        kind = type(space).__name__
        fix = FIXES.get(kind, "use Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple")
        raise EnvError(f"{name} holds a {kind}, which is not supported: {fix}.")
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and np.any(space.start != 0):
        raise EnvError(f"{name} counts from {space.start}. Use a space that counts from 0.")
    if isinstance(space, spaces.Box):
        bytes_fit = pictures and space.dtype == np.uint8
        if not space.shape or not (np.issubdtype(space.dtype, np.floating) or bytes_fit):
            raise EnvError(
                f"{name} is {space}. Use a Box of floats (or, for pictures, of uint8) with at least one axis: "
                "Box(low, high, (1,))."
            )


# What it answers


def check_draw(env: Any, key: Any) -> Any:
    """Noise for one call, after checking that ``draw`` makes it for many."""
    draw = getattr(env, "draw", split_keys)
    for leaf in jax.tree.leaves(draw(key, (3, 2))):
        if leaf.shape[:2] != (3, 2):
            raise EnvError(f"draw(key, (3, 2)) gave an array of shape {leaf.shape}. Its shape must begin with (3, 2).")
    return draw(key, ())


def check_reset(env: Any, noise: Any) -> Any:
    """Reset twice, eagerly; return the state."""
    state, obs = first = call(env, "reset", 2, noise)
    check_obs(env.observation_space, "reset", obs)
    for leaf in jax.tree.leaves(state):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float):
            raise EnvError(
                f"the state holds something of type {type(leaf).__name__}. Keep only arrays and numbers there."
            )
    check_same_answer("reset", first, call(env, "reset", 2, noise))
    return state


def check_step(env: Any, noise: Any, state: Any, action: Any) -> None:
    """Step twice from the same state, eagerly."""
    after, obs, reward, terminated = first = call(env, "step", 4, noise, state, action)
    check_obs(env.observation_space, "step", obs)
    check_same_structure(state, after)
    if not is_scalar(reward, jnp.floating):
        raise EnvError(f"the reward is {show(reward)}, but must be one float: shape (), dtype float32.")
    if not np.isfinite(reward):
        raise EnvError(f"the reward is {float(reward)}. Rewards must be finite.")
    if not is_scalar(terminated, jnp.bool):
        raise EnvError(f"terminated is {show(terminated)}, but must be one bool: shape (), dtype bool.")
    check_same_answer("step", first, call(env, "step", 4, noise, state, action))


def call(env: Any, method: str, outputs: int, *args: Any) -> tuple[Any, ...]:
    """Call a method, and check how many things come back."""
    try:
        result = getattr(env, method)(*args)
    except Exception as error:
        raise EnvError(f"{SIGNATURES[method]} raised {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(result, tuple) or len(result) != outputs:
        given = f"{len(result)} values" if isinstance(result, tuple) else f"one {type(result).__name__}"
        raise EnvError(f"{method} returned {given}. Write {SIGNATURES[method]}.")
    return result


def check_obs(space: Any, method: str, obs: Any) -> None:
    """An observation has the structure, shapes and dtypes of its space; a mask beside it is of bools."""
    what = f"{method} returned an observation"
    obs, mask = unmasked(obs)
    if mask is not None and not jnp.issubdtype(jnp.result_type(mask), jnp.bool):
        raise EnvError(f"{what} with a mask of dtype {jnp.result_type(mask)}. Return a mask of bools.")
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, Mapping) or set(obs) != set(space.spaces):
            keys = sorted(obs) if isinstance(obs, Mapping) else f"a {type(obs).__name__}"
            raise EnvError(f"{what} with the keys {keys}, but observation_space has {sorted(space.spaces)}.")
        for key, part in space.spaces.items():
            check_obs(part, method, obs[key])
    elif isinstance(space, spaces.Tuple):
        if not isinstance(obs, tuple) or len(obs) != len(space.spaces):
            raise EnvError(f"{what} of type {type(obs).__name__}. Return a tuple of {len(space.spaces)}.")
        for part, x in zip(space.spaces, obs):
            check_obs(part, method, x)
    else:
        check_array(space, what, obs)


def check_array(space: Any, what: str, obs: Any) -> None:
    if not is_array(obs):
        raise EnvError(f"{what} of type {type(obs).__name__}. Return one array.")
    if jnp.shape(obs) != space.shape:
        raise EnvError(f"{what} of shape {jnp.shape(obs)}, but observation_space has {space.shape}. Make them agree.")
    dtype = jnp.result_type(obs)
    if not isinstance(space, spaces.Box) and not jnp.issubdtype(dtype, jnp.integer):
        raise EnvError(f"{what} of dtype {dtype}, but observation_space is {space}. Return an int32.")
    if isinstance(space, spaces.Box) and dtype not in (space.dtype, jnp.result_type(float)):
        raise EnvError(f"{what} of dtype {dtype}, but observation_space has {space.dtype}. Convert it with astype.")


def check_same_structure(before: Any, after: Any) -> None:
    """``lax.scan`` needs a state that never changes its structure, shapes or dtypes."""
    old_tree, new_tree = str(jax.tree.structure(before)), str(jax.tree.structure(after))
    if old_tree != new_tree:
        raise EnvError(f"the state is {old_tree} after reset, but {new_tree} after step. Return the same structure.")
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if show(old) != show(new):
            where = f"state{jax.tree_util.keystr(path)}"
            raise EnvError(
                f"{where} is {show(old)} after reset, but {show(new)} after step. Return the same from both."
            )


def check_same_answer(method: str, first: Any, second: Any) -> None:
    """The same arguments must give the same answer, NaN included."""
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        a, b = plain(a), plain(b)
        if not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            raise EnvError(
                f"{method} gave two answers to the same arguments. Use no randomness but noise, and no self.x = ..."
            )


def check_traceable(env: Any, noise: Any, state: Any, action: Any) -> None:
    """Both methods must be accepted by ``vmap`` and ``jit``."""
    for method, args in (("reset", (noise,)), ("step", (noise, state, action))):
        batch = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), args)
        try:
            jax.eval_shape(jax.vmap(getattr(env, method)), *batch)
        except Exception as error:
            cause = f"{type(error).__name__}: {first_line(error)}"
            advice = "Use jnp instead of NumPy and Python numbers, and jnp.where or jax.lax.cond instead of `if`."
            raise EnvError(f"{method} cannot be traced by JAX. {advice} ({cause})") from error


# What it does over time


def roll(env: Any, key: Any, steps: int) -> list[str]:
    """Take random steps with resets; raise where a number is not finite, and return warnings."""
    stream = autoreset(env)
    start_key, noise_key, action_key = jax.random.split(key, 3)

    @jax.jit
    def run() -> tuple[Any, StreamStep]:
        first = stream.reset(stream.draw(start_key, ())[1])
        xs = (stream.draw(noise_key, (steps,)), random_actions(env.action_space, action_key, (steps,)))
        return first.obs, jax.lax.scan(lambda state, x: stream.step(x[0], state, x[1]), first, xs)[1]

    first, rows = run()
    whole = jax.tree.map(lambda x, *more: np.concatenate([x[None], *more]), first, rows.successor, rows.obs)
    obs = unmasked(whole)[0]
    for name, values in (("an observation", jax.tree.leaves(obs)), ("a reward", [np.asarray(rows.reward)])):
        if not all(np.isfinite(x).all() for x in values):
            raise EnvError(f"{name} was not finite within {steps} random steps. Look for a division by zero.")
    return [*outside(env.observation_space, obs), *endless(env, rows, steps)]


def outside(space: Any, obs: Any) -> list[str]:
    """A warning for every part that left its bounds by more than rounding."""
    found: list[str] = []

    def look(space: spaces.Space, x: np.ndarray) -> None:
        low, high = bounds(space)
        slack = 1e-5 * np.maximum(1, np.abs(x)) if isinstance(space, spaces.Box) else 0
        if not np.all((x >= low - slack) & (x <= high + slack)):
            reach = f"{np.min(x):g} to {np.max(x):g}"
            found.append(f"observations went from {reach}, outside observation_space. Widen its bounds.")

    per_part(look, space, obs)
    return found


def bounds(space: Any) -> tuple[Any, Any]:
    """The least and the greatest values of a space that is made of no others; Discrete from 0."""
    if isinstance(space, spaces.Box):
        return space.low.astype(float), space.high.astype(float)
    if isinstance(space, spaces.MultiBinary):
        return 0, 1
    return 0, (space.nvec if isinstance(space, spaces.MultiDiscrete) else int(space.n)) - 1


def endless(env: Any, rows: StreamStep, steps: int) -> list[str]:
    """A warning if nothing ends an episode."""
    if env.time_limit is not None or np.asarray(rows.terminated).any():
        return []
    return [f"no episode ended within {steps} random steps, and there is no time_limit. Set one."]


# Small helpers


def random_actions(space: Any, key: Any, shape: tuple[int, ...]) -> Any:
    """Uniform actions ``[*shape, ...]``; standard normal ones, clipped to the bounds, where a Box is unbounded."""
    keys = iter(jax.random.split(key, len(parts(space))))

    def draw(space: Any) -> Any:
        key, size = next(keys), (*shape, *space.shape)
        if not isinstance(space, spaces.Box):
            return jax.random.randint(key, size, 0, np.asarray(bounds(space)[1]) + 1)
        if space.is_bounded():
            return jax.random.uniform(key, size, minval=space.low, maxval=space.high)
        return jnp.clip(jax.random.normal(key, size), space.low, space.high)

    return per_part(draw, space)


def is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic | bool | int | float)


def is_scalar(x: Any, kind: Any) -> bool:
    return is_array(x) and jnp.shape(x) == () and jnp.issubdtype(jnp.result_type(x), kind)


def show(x: Any) -> str:
    """``float32[4]``."""
    return f"{jnp.result_type(x)}{list(jnp.shape(x))}" if is_array(x) else f"a {type(x).__name__}"


def plain(x: Any) -> np.ndarray:
    """A NumPy array, also of random keys."""
    is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)
