"""The Arcade Learning Environment's own vector environment: many Atari games in C++ threads.

Machado et al. 2018, "Revisiting the Arcade Learning Environment", and the preprocessing of Mnih et al. 2015.
"""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from policygrad.envs.stateful import did_you_mean, missing
from policygrad.envs.vector import VectorHost

FRAME_SKIP = 4
MAX_FRAMES = 108_000
"""Half an hour of play."""


class AtariEnv(VectorHost):
    """Atari games: grey 84×84 uint8 pictures, the last 4 stacked, frame skip 4 with the maximum of the last two frames,
    up to 30 no-ops at the start, no sticky actions, rewards as the game counts.

    Args:
        name: ``ALE/Breakout-v5``.
        training: a lost life is an end (``terminated``), after which the game goes on; ``over`` is true at the end of
            the game alone. False: episodes are whole games.
        max_episode_steps: steps of 4 frames after which a game is truncated (default: 27 000).
        seed: of the first reset, where that gets none.
        options: those of ``ale_py.vector_env.AtariVectorEnv`` (``repeat_action_probability=0.25``, ``stack_num=1``).
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
        n = 1 if num_envs is None else num_envs
        self._recipe = {"name": name, "training": training, "max_episode_steps": max_episode_steps, **options}
        skip = options.get("frameskip", FRAME_SKIP)
        frames = MAX_FRAMES if max_episode_steps is None else max_episode_steps * skip
        settings = {"noop_max": 30, "reward_clipping": False, "max_num_frames_per_episode": frames, **options}
        self._skip, self._frames = skip, np.zeros(max(n, 1), int)
        vector = make_games(name, n, life_loss_info=training, **settings)
        super().__init__(vector, id=name, time_limit=frames // skip, seed=seed)

    def reset(self, seed: int | None = None) -> Any:
        self._frames = np.zeros(self.num_envs, int)
        return super().reset(seed)

    def clone(self, num_envs: int | None = None, *, training: bool | None = None) -> "AtariEnv":
        training = self._recipe["training"] if training is None else training
        return AtariEnv(**{**self._recipe, "num_envs": num_envs or self.num_envs, "training": training})

    def _games_over(self, terminated: np.ndarray, truncated: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """A lost life goes on with the next frames. A new game counts its frames anew: exact where ``lives`` is not,
        for some games are played on without a life."""
        passed = info["episode_frame_number"] - self._frames
        self._frames = info["episode_frame_number"].copy()
        goes_on = (passed > 0) & (passed <= self._skip)
        return truncated | (terminated & ~goes_on)


def make_games(name: str, num_envs: int, **options: Any) -> Any:
    """``ALE/MsPacman-v5`` is the game ``ms_pacman``."""
    try:
        from ale_py import roms
        from ale_py.vector_env import AtariVectorEnv
    except ImportError as error:
        raise missing(name, "ale-py", "atari") from error
    if num_envs < 1:
        raise ValueError(f"num_envs is {num_envs}; give at least 1.")
    games = {f"ALE/{rom.title().replace('_', '')}-v5": rom for rom in roms.get_all_rom_ids()}
    if name not in games:
        raise ValueError(f"The Arcade Learning Environment has no game {name!r}.{did_you_mean(name, games)}")
    AtariVectorEnv.metadata = {}  # it writes its mode into this dict, which is all vector environments' otherwise
    try:
        return AtariVectorEnv(games[name], num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **options)
    except TypeError as error:
        raise ValueError(f"{name} does not take these options: {error}") from error


def single_game(name: str, **options: Any) -> Any:
    """One game as a ``gymnasium.Env`` that shows the same and can be drawn: Gymnasium's preprocessing."""
    try:
        import ale_py  # noqa: F401
        import cv2  # noqa: F401
    except ImportError as error:
        raise missing(name, error.name or "ale-py", "atari") from error
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    env = gymnasium.make(name, frameskip=1, repeat_action_probability=0.0, **options)
    return FrameStackObservation(AtariPreprocessing(env, frame_skip=FRAME_SKIP), 4)
