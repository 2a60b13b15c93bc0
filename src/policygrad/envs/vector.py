"""A Gymnasium vector environment as a :class:`HostEnv`: whichever way it resets, the same truth."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from jaxtyping import Bool

from policygrad.envs.stateful import HostError, HostStep, misfit
from policygrad.envs.worker import LOOKED_AT, Watched, joined, reason
from policygrad.spaces import MASK_KEY, from_env, has_mask, masked, per_part, require_supported, to_env, width, without
from policygrad.types import MaskedObs


class VectorHost:
    """Speaks our elements, says the true successor, and refuses what is not finite.

    In the modes *same step* and *disabled* (we reset it) every row is valid; in the mode *next step* the row after an
    end is a reset row. A step costs the same few array operations for any number of environments where none ended.

    Args:
        vector: follows ``gymnasium.vector.VectorEnv``; its ``metadata["autoreset_mode"]`` says when it resets (default:
            next step).
        id: its name in messages.
        time_limit: steps after which it truncates, where that is known.
        seed: of the first reset, where that gets none.
    """

    def __init__(self, vector: Any, *, id: str, time_limit: int | None = None, seed: int | None = None) -> None:
        self.id, self.num_envs, self.time_limit = id, int(vector.num_envs), time_limit
        self._vector, self._seed = vector, seed
        self.given_back: Callable[[], Any] | None = None
        """Of a user's own object, which stays open: what is told that it is free again."""
        self._mode = AutoresetMode(vector.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self._full_space = vector.single_observation_space
        self.observation_space = without(self._full_space)
        self.action_space = vector.single_action_space
        self._resetting, self._everyone = np.zeros(self.num_envs, bool), np.ones(self.num_envs, bool)
        self._steps = self._looks = 0
        self._shows_masks = False
        self._has_method = not has_mask(self._full_space) and has_mask_method(vector)
        try:
            require_supported(id, self.observation_space, self.action_space)
            if has_mask(self._full_space):
                self._require_maskable(self._full_space[MASK_KEY])
        except ValueError:
            self.close()
            raise

    def reset(self, seed: int | None = None) -> Any:
        """The first observations ``[num_envs, ...]`` of new episodes; environment i is seeded with seed + i."""
        seed, self._seed = self._seed if seed is None else seed, None
        try:
            raw, info = self._vector.reset(seed=None if seed is None else int(seed))
        except HostError as error:
            raise HostError(f"{self.id}: {error}") from error
        except Exception as error:
            raise HostError(f"{self.id}: reset raised {reason(error)}. Fix its reset.") from error
        self._resetting = np.zeros(self.num_envs, bool)
        self._shows_masks = MASK_KEY in info or self._has_method
        if self._shows_masks:
            self._require_maskable()
        self._look(raw)
        obs = self._shown(raw, self._mask(info, self._everyone))
        self._require_finite("an observation", obs)
        self._require_choice(obs)
        return obs

    def step(self, action: Any) -> HostStep:
        self._steps += 1
        raw, reward, terminated, truncated, info = self._call_step(action)
        self._look(raw)
        reward = np.array(reward, np.float64)
        terminated, truncated = np.array(terminated, bool), np.array(truncated, bool)
        valid, ended = ~self._resetting, terminated | truncated
        over = self._games_over(terminated, truncated, info)
        self._require_finite("a reward", reward)
        plays_on = self._everyone if self._mode is AutoresetMode.SAME_STEP else ~ended
        successor = obs = self._shown(raw, self._mask(info, plays_on))
        if self._mode is AutoresetMode.NEXT_STEP:
            self._resetting = ended
        elif ended.any():
            obs, successor = self._new_episodes(obs, ended, over, info)
        self._require_finite("an observation", successor)
        if obs is not successor:
            self._require_finite("an observation", obs)
        self._require_choice(obs)
        return HostStep(obs, successor, reward, terminated, truncated, valid, over & valid)

    def close(self) -> None:
        if self.given_back is None:
            self._vector.close()
        else:
            self.given_back()

    def clone(self, num_envs: int | None = None, *, training: bool | None = None) -> "VectorHost | None":
        return None

    def render(self) -> Any:
        return None if getattr(self._vector, "render_mode", None) is None else self._vector.render()

    # What it shows

    def _games_over(
        self, terminated: np.ndarray, truncated: np.ndarray, info: dict[str, Any]
    ) -> Bool[np.ndarray, "num_envs"]:
        return terminated | truncated

    def _new_episodes(self, obs: Any, ended: np.ndarray, over: np.ndarray, info: dict[str, Any]) -> tuple[Any, Any]:
        """``(obs, successor)`` of a step on which ``ended`` episodes ended and new ones begin."""
        if self._mode is AutoresetMode.DISABLED:
            raw, info = self._vector.reset(options={"reset_mask": ended})
            return put(obs, ended, take(self._shown(raw, self._mask(info, ended)), ended)), obs
        rows = np.asarray(info.get("_final_obs", over), bool)
        if not rows.any():
            return obs, obs
        if "final_obs" not in info:
            raise HostError(
                f"{self.id} resets in the same step but gives no info['final_obs']: the true successor is lost. "
                "Make it with autoreset_mode NEXT_STEP."
            )
        final = final_rows(self._full_space, info["final_obs"], rows)
        mask = self._mask(info.get("final_info", {}))
        return obs, put(obs, rows, self._shown(final, None if mask is None else mask[rows]))

    def _shown(self, raw: Any, mask: np.ndarray | None) -> Any:
        """Our elements of what the environment gave."""
        shown = masked(self._full_space, raw)
        if isinstance(shown, MaskedObs):
            return MaskedObs(from_env(self.observation_space, shown.obs), shown.mask)
        obs = from_env(self.observation_space, shown)
        return obs if mask is None else MaskedObs(obs, mask)

    def _mask(self, info: dict[str, Any], wanted: np.ndarray | bool = False) -> np.ndarray | None:
        """The valid actions ``[num_envs, k]``; all of them in rows that say nothing. The rows ``wanted`` must: there an
        action will be chosen."""
        if not self._shows_masks:
            if MASK_KEY in info and not has_mask(self._full_space):
                raise HostError(f"{self.id} gives an action_mask in step but not in reset. Give it in both.")
            return None
        mask = np.ones((self.num_envs, width(self.action_space)), bool)
        if self._has_method:
            given, shown = self._everyone, [joined(one) for one in self._vector.unwrapped.call("action_masks")]
        else:
            given = np.asarray(info.get(f"_{MASK_KEY}", self._everyone if MASK_KEY in info else ~self._everyone), bool)
            shown = list(info[MASK_KEY][given]) if given.any() else []
        silent = np.flatnonzero(wanted & ~given)
        if silent.size:
            raise HostError(
                f"{self.id}, environment {silent[0]}, step {self._steps}: reset gave an action_mask and step none. "
                "Give it in both, all true where every action is valid."
            )
        for index, one in zip(np.flatnonzero(given), shown):
            if np.shape(one) != mask.shape[1:]:
                raise HostError(
                    f"{self.id}, environment {index}, step {self._steps}: the action_mask has shape {np.shape(one)}, "
                    f"and the actions need {mask.shape[1:]}. Make them agree."
                )
        mask[given] = np.stack(shown) if shown else mask[given]
        return mask

    # What is refused

    def _call_step(self, action: Any) -> tuple:
        try:
            return self._vector.step(to_env(self.action_space, action))
        except HostError as error:
            raise HostError(f"{self.id}: {error}") from error
        except Exception as error:
            words = self._misfit() or f"step {self._steps} raised {reason(error)}"
            raise HostError(f"{self.id}: {words}. Fix its step.") from error

    def _misfit(self) -> str | None:
        """Which environment's last observation fits no batch, where they are at hand."""
        watched = (env for env in getattr(self._vector, "envs", ()) if isinstance(env, Watched))
        found = ((env, misfit(env.observation_space, env.last)) for env in watched)
        return next((f"environment {env.index}, step {env.steps}: {words}" for env, words in found if words), None)

    def _look(self, raw: Any) -> None:
        """Hold the first observations against their space."""
        self._looks += 1
        if self._looks <= 2 * LOOKED_AT:
            problem = misfit(self._full_space, raw, (self.num_envs,))
            if problem:
                raise HostError(f"{self.id}, step {self._steps}: {problem}. Make them agree.")

    def _require_finite(self, what: str, tree: Any) -> None:
        for leaf in [tree] if isinstance(tree, np.ndarray) else jax.tree.leaves(tree):
            if leaf.dtype.kind == "f" and not np.logical_and.reduce(np.isfinite(leaf), None):
                finite = np.isfinite(leaf.reshape(self.num_envs, -1)).all(axis=1)
                index = int(np.flatnonzero(~finite)[0])
                raise HostError(
                    f"{self.id}, environment {index}, step {self._steps}: {what} is not finite. "
                    "Look for a division by zero in it, or wrap it."
                )

    def _require_choice(self, obs: Any) -> None:
        """Wherever an action is about to be chosen, every part of it has a valid one."""
        if not isinstance(obs, MaskedObs):
            return
        space = self.action_space
        starts = [0, *np.cumsum(space.nvec.reshape(-1))[:-1]] if isinstance(space, spaces.MultiDiscrete) else [0]
        stuck = ~np.logical_or.reduceat(obs.mask, starts, axis=1).all(axis=1) & ~self._resetting
        if stuck.any():
            index = int(np.flatnonzero(stuck)[0])
            raise HostError(
                f"{self.id}, environment {index}, step {self._steps}: the action_mask leaves no valid action. "
                "Let one be valid, or end the episode there."
            )

    def _require_maskable(self, mask: spaces.Space | None = None) -> None:
        if not isinstance(self.action_space, spaces.Discrete | spaces.MultiDiscrete):
            kind = type(self.action_space).__name__
            raise ValueError(f"{self.id} gives action masks for a {kind}. They are for Discrete and MultiDiscrete.")
        if mask is not None and mask.shape != (width(self.action_space),):
            wanted = (width(self.action_space),)
            raise ValueError(f"{self.id}: the {MASK_KEY} has shape {mask.shape}, and the actions need {wanted}.")


def has_mask_method(vector: Any) -> bool:
    """Whether environments that someone else put side by side have ``action_masks()``. Those that we watch say it in
    ``info``."""
    if not isinstance(getattr(vector, "unwrapped", None), SyncVectorEnv | AsyncVectorEnv):
        return False
    has = lambda name: vector.unwrapped.call("has_wrapper_attr", name)[0]  # noqa: E731
    return has("action_masks") and not has("mask_of")


def final_rows(space: spaces.Space, final: Any, rows: np.ndarray) -> Any:
    """The final observations of those rows, stacked: Gymnasium gives an array of objects, others a batch."""
    if isinstance(final, np.ndarray) and final.dtype == object:
        return per_part(lambda part, *arrays: np.stack(arrays), space, *final[rows])
    return per_part(lambda part, array: array[rows], space, final)


def take(tree: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda x: x[rows], tree)


def put(tree: Any, rows: np.ndarray, new: Any) -> Any:
    """A copy with those rows replaced."""

    def one(x: np.ndarray, new: np.ndarray) -> np.ndarray:
        x = x.copy()
        x[rows] = new
        return x

    return jax.tree.map(one, tree, new)
