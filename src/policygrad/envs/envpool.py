"""EnvPool (Weng et al. 2022): many environments in C++ threads."""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from policygrad.envs.stateful import did_you_mean, missing
from policygrad.envs.vector import VectorHost


class EnvpoolEnv(VectorHost):
    """EnvPool's environments, which reset in the next step.

    Args:
        name: EnvPool's id: ``Pong-v5``.
        training: for Atari, a lost life is an end. False: episodes are whole games.
        max_episode_steps: steps after which an episode is truncated.
        seed: EnvPool is seeded where it is made: a reset with a seed makes it anew.
        options: of the environment.
    """

    def __init__(
        self,
        name: str,
        num_envs: int | None = None,
        *,
        training: bool = True,
        max_episode_steps: int | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        if max_episode_steps is not None:
            options = {**options, "max_episode_steps": max_episode_steps}
        self._recipe = {"name": name, "training": training, **options}
        vector = Pool(name, 1 if num_envs is None else num_envs, training, options)
        super().__init__(vector, id=f"envpool:{name}", time_limit=vector.time_limit, seed=seed)

    def clone(self, num_envs: int | None = None, *, training: bool | None = None) -> "EnvpoolEnv":
        training = self._recipe["training"] if training is None else training
        return EnvpoolEnv(**{**self._recipe, "num_envs": num_envs or self.num_envs, "training": training})

    def _games_over(self, terminated: np.ndarray, truncated: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Atari's ``info["terminated"]`` is the game's own end; a lost life is EnvPool's alone."""
        return (np.asarray(info["terminated"], bool) if "terminated" in info else terminated) | truncated


class Pool:
    """EnvPool's Gymnasium interface, as a vector environment."""

    render_mode = None

    def __init__(self, name: str, num_envs: int, training: bool, options: dict[str, Any]) -> None:
        try:
            import envpool
        except ImportError as error:
            raise missing(f"envpool:{name}", "envpool", "envpool") from error
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; give at least 1.")
        known = envpool.list_all_envs()
        if name not in known:
            raise ValueError(f"EnvPool has no environment {name!r}.{did_you_mean(name, known, 'envpool:')}")
        self._module, self._name = envpool, name
        config = envpool.make_spec(name).config
        names = getattr(config, "_fields", None) or list(config)
        lives = {"episodic_life": training} if "episodic_life" in names else {}
        scale = {"reward_clip": False} if "reward_clip" in names else {}
        self._options = {"num_envs": num_envs, **lives, **scale, **options}
        self.num_envs, self.metadata = num_envs, {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self._make(None)
        self.single_observation_space = self._pool.observation_space
        self.single_action_space = self._pool.action_space
        self.time_limit = options.get("max_episode_steps", getattr(config, "max_episode_steps", None))

    def _make(self, seed: int | None) -> None:
        seeded = {} if seed is None else {"seed": seed % 2**31}
        self._pool = self._module.make(self._name, env_type="gymnasium", **self._options, **seeded)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        if seed is not None:
            self._pool.close()
            self._make(seed)
        return self._pool.reset()

    def step(self, action: Any) -> tuple:
        return self._pool.step(action)

    def close(self) -> None:
        self._pool.close()
