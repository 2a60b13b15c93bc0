"""Stateful environments on the host: batched, in NumPy, with resets of their own.

Vector environments differ in *when* they reset. Some return the first observation of the next episode on the step that
ends the last one (same step), others return the final observation and spend the next step on the reset (next step).
:class:`HostStep` says the same thing for both.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Shaped


class HostStep(NamedTuple):
    """What one step of all environments shows; leaves ``[num_envs, ...]``."""

    obs: Shaped[np.ndarray, "num_envs ..."]
    """What the policy sees next."""
    successor: Shaped[np.ndarray, "num_envs ..."]
    """The true s_{t+1}, also where the episode ended."""
    reward: Float[np.ndarray, "num_envs"]
    terminated: Bool[np.ndarray, "num_envs"]
    truncated: Bool[np.ndarray, "num_envs"]
    valid: Bool[np.ndarray, "num_envs"]
    """False on a reset row: the action was ignored, nothing was paid, and ``obs`` is the first of a new episode."""


@runtime_checkable
class HostEnv(Protocol):
    """A batch of stateful environments. The spaces are those of a *single* one."""

    num_envs: int
    observation_space: spaces.Space
    action_space: spaces.Space

    def reset(self, seed: int | None = None) -> Any:
        """``-> obs``: begin anew in every environment."""
        ...

    def step(self, action: Any) -> HostStep:
        """Act in every environment: ``[num_envs, ...]``."""
        ...

    def close(self) -> None: ...

    def clone(self, num_envs: int | None = None) -> "HostEnv | None":
        """A new batch of the same environment, which shares nothing with this one; None if that cannot be had."""
        ...

    def render(self) -> Any:
        """Pictures, one per environment, or None."""
        ...


class GymnasiumEnv:
    """Gymnasium environments, stepped one after another in this process.

    Actions are integers from 0 for Discrete spaces, and are clipped to the bounds of a Box.

    Args:
        env: a Gymnasium id, or a function that makes one environment.
        num_envs: how many run side by side.
        vectorization_mode: Gymnasium's. ``"vector_entry_point"`` picks an environment's own fast vector version.
        kwargs: handed to the environment (``render_mode``, for one).
    """

    def __init__(
        self, env: str | Callable[[], Any], num_envs: int = 1, *, vectorization_mode: str = "sync", **kwargs: Any
    ) -> None:
        self.id = f"gym:{env}" if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)
        self.num_envs = num_envs
        self._recipe = {"env": env, "num_envs": num_envs, "vectorization_mode": vectorization_mode, **kwargs}
        self._vector = make_vector(env, num_envs, vectorization_mode, kwargs)
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self._same_step = resets_in_same_step(self._vector)
        self._resetting = np.zeros(num_envs, bool)
        try:
            require_supported(self.id, self.observation_space, self.action_space)
        except ValueError:
            self.close()
            raise

    def reset(self, seed: int | None = None) -> Shaped[np.ndarray, "num_envs ..."]:
        obs, _ = self._vector.reset(seed=seed)
        self._resetting = np.zeros(self.num_envs, bool)
        return np.array(obs)

    def step(self, action: Any) -> HostStep:
        obs, reward, terminated, truncated, info = self._vector.step(self._to_space(action))
        obs, terminated, truncated = np.array(obs), np.array(terminated, bool), np.array(truncated, bool)
        valid = ~self._resetting
        if not self._same_step:
            self._resetting = terminated | truncated
        return HostStep(obs, true_successor(obs, info), np.array(reward, np.float64), terminated, truncated, valid)

    def close(self) -> None:
        self._vector.close()

    def clone(self, num_envs: int | None = None) -> "GymnasiumEnv":
        return GymnasiumEnv(**{**self._recipe, "num_envs": num_envs or self.num_envs})

    def render(self) -> Any:
        return self._vector.render()

    def _to_space(self, action: Any) -> np.ndarray:
        space, action = self.action_space, np.asarray(action)
        if isinstance(space, spaces.Box):
            return np.clip(action, space.low, space.high).astype(space.dtype)
        return (action + space.start).astype(space.dtype)


def make_vector(env: str | Callable[[], Any], num_envs: int, mode: str, kwargs: dict[str, Any]) -> Any:
    """A Gymnasium vector environment that resets in the same step if it may choose."""
    import gymnasium
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    if num_envs < 1:
        raise ValueError(f"num_envs is {num_envs}; give at least 1.")
    if not isinstance(env, str):
        if kwargs:
            raise ValueError(f"Options ({', '.join(kwargs)}) are for ids only. Set them in the function that makes it.")
        return SyncVectorEnv([env] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    register_ale(env)
    try:
        if gymnasium.spec(env).entry_point is None:
            mode = "vector_entry_point"
        own: dict[str, Any] = (
            {} if mode == "vector_entry_point" else {"vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}}
        )
        return gymnasium.make_vec(env, num_envs, vectorization_mode=mode, **own, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(f"{env} needs a package that is not installed. {error}") from error
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        near = did_you_mean(env, gymnasium.registry, prefix="gym:")
        raise ValueError(f"Gymnasium knows no environment {env!r}.{near}") from error


def resets_in_same_step(vector: Any) -> bool:
    """Read from the environment's own word; Gymnasium's default is the next step."""
    from gymnasium.vector import AutoresetMode

    mode = AutoresetMode(vector.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
    if mode is AutoresetMode.DISABLED:
        raise ValueError(f"{vector} never resets its episodes. Make it with autoreset_mode SAME_STEP or NEXT_STEP.")
    return mode is AutoresetMode.SAME_STEP


def true_successor(obs: np.ndarray, info: dict[str, Any]) -> np.ndarray:
    """``obs``, with the final observation where an episode ended and the row already shows the next one's first."""
    if "final_obs" not in info:
        return obs
    final, rows = info["final_obs"], np.asarray(info["_final_obs"], bool)
    successor = obs.copy()
    successor[rows] = np.stack(list(final[rows]))
    return successor


def require_supported(name: str, observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """Box and Discrete are supported; anything else raises a ValueError that names the space."""
    for what, space in (("observation", observation_space), ("action", action_space)):
        if not isinstance(space, spaces.Box | spaces.Discrete):
            raise ValueError(
                f"{name}: its {what} space is {space}; only Box and Discrete are supported. Flatten it first."
            )


def register_ale(name: str) -> None:
    """Gymnasium knows ``ALE/...`` only after ``ale_py`` was imported."""
    if not name.startswith("ALE/"):
        return
    try:
        import ale_py  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{name} needs the package ale-py, which is not installed: pip install ale-py") from error


def did_you_mean(name: str, known: Any, prefix: str = "") -> str:
    """`` Did you mean A, B?`` with the known names nearest to ``name``, as one types them; empty if none is near."""
    by_lower = {other.lower(): other for other in known}
    near = [prefix + by_lower[other] for other in get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)]
    return f" Did you mean {', '.join(near)}?" if near else ""
