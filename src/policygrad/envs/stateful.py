"""What a batch of stateful environments is, in NumPy, with resets of its own. Nothing here imports JAX.

Vector environments differ in *when* they reset. Some return the first observation of the next episode on the step that
ends the last one (same step), others return the final observation and spend the next step on the reset (next step),
others leave the reset to whoever steps them (disabled). :class:`HostStep` says the same thing for all.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float


class HostError(RuntimeError):
    """A host environment failed: it raised, died, hung, or returned what nobody can learn from. One sentence."""


class EnvError(ValueError):
    """An environment breaks the rules of :class:`policygrad.envs.core.Env`, of :class:`HostEnv`, or of Gymnasium. The
    message says which one, and the fix."""


class HostFields(NamedTuple):
    """The fields of :class:`HostStep`."""

    obs: Any
    """What the policy sees next, a tree of arrays ``[num_envs, ...]``; a ``MaskedObs`` where the environment says which
    actions are valid."""
    successor: Any
    """The true s_{t+1}, also where the episode ended."""
    reward: Float[np.ndarray, "num_envs"]
    """On the environment's own scale."""
    terminated: Bool[np.ndarray, "num_envs"]
    truncated: Bool[np.ndarray, "num_envs"]
    valid: Bool[np.ndarray, "num_envs"]
    """False on a reset row: the action was ignored, nothing was paid, and ``obs`` is the first of a new episode."""
    over: Bool[np.ndarray, "num_envs"]
    """A game is over: its return counts. With episodic life, a lost life is ``terminated`` and not ``over``."""


class HostStep(HostFields):
    """What one step of all environments shows; leaves ``[num_envs, ...]``. ``over`` may be left out: it is then every
    end and every truncation of a valid row."""

    __slots__ = ()

    def __new__(
        cls, obs: Any, successor: Any, reward: Any, terminated: Any, truncated: Any, valid: Any, over: Any = None
    ) -> "HostStep":
        over = (terminated | truncated) & valid if over is None else over
        return super().__new__(cls, obs, successor, reward, terminated, truncated, valid, over)


@runtime_checkable
class HostEnv(Protocol):
    """A batch of stateful environments. The spaces are those of a *single* one.

    Observations and actions are trees of arrays, as :mod:`policygrad.spaces` has them: Discrete counts from 0.
    """

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

    def clone(self, num_envs: int | None = None, *, training: bool | None = None) -> "HostEnv | None":
        """A new batch of the same environment, which shares nothing with this one; None if that cannot be had.

        ``training``: whether lives or whole games are episodes, where the environment tells them apart.
        """
        ...

    def render(self) -> Any:
        """Pictures, one per environment, or None."""
        ...


def misfit(space: spaces.Space, x: Any, batch: tuple[int, ...] = (), what: str = "the observation") -> str | None:
    """What is wrong with an element of ``space``, or with a batch of them: its structure, shape or dtype. None: nothing
    is."""
    if isinstance(space, spaces.Dict):
        if not isinstance(x, Mapping) or set(x) != set(space.spaces):
            keys = sorted(x) if isinstance(x, Mapping) else f"a {type(x).__name__}"
            return f"{what} has the keys {keys}, but its space has {sorted(space.spaces)}"
        return first(misfit(part, x[key], batch, f"{what}[{key!r}]") for key, part in space.spaces.items())
    if isinstance(space, spaces.Tuple):
        if not isinstance(x, tuple | list) or len(x) != len(space.spaces):
            return f"{what} is a {type(x).__name__}, but its space is a Tuple of {len(space.spaces)}"
        return first(misfit(part, x[i], batch, f"{what}[{i}]") for i, part in enumerate(space.spaces))
    if space.shape is None or space.dtype is None:
        return None
    x = np.asarray(x)
    if x.shape != (*batch, *space.shape):
        return f"{what} has shape {x.shape}, but its space says {(*batch, *space.shape)}"
    if not np.can_cast(x.dtype, space.dtype, "same_kind"):
        return f"{what} has dtype {x.dtype}, but its space says {space.dtype}"
    return None


def first(problems: Any) -> str | None:
    return next((problem for problem in problems if problem), None)


def missing(name: str, package: str, extra: str) -> ImportError:
    """The package that ``name`` needs is not there; this says how to get it."""
    return ImportError(f"{name} needs the package {package}, which is not installed: pip install 'policygrad[{extra}]'")


def did_you_mean(name: str, known: Any, prefix: str = "") -> str:
    """`` Did you mean A, B?`` with the known names nearest to ``name``, as one types them; empty if none is near."""
    by_lower = {other.lower(): other for other in known}
    near = [prefix + by_lower[other] for other in get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)]
    return f" Did you mean {', '.join(near)}?" if near else ""
