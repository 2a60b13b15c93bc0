"""The Arcade Learning Environment's own vector environment: many Atari games in C++ threads.

Machado et al. 2018, "Revisiting the Arcade Learning Environment", and the preprocessing of Mnih et al. 2015.
"""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from policygrad.envs.stateful import did_you_mean, missing
from policygrad.envs.vector import VectorHost

FRAME_SKIP = 4
OF_THE_GAME = ("repeat_action_probability", "full_action_space", "continuous", "mode", "difficulty", "render_mode")
"""Options that Gymnasium's single game has too, under the same names."""
OF_THE_SIGHT = ("frameskip", "stack_num", "noop_max", "img_height", "img_width", "grayscale", "use_fire_reset")
"""Options that Gymnasium's preprocessing has, under other names."""
OF_THE_SPEED = ("num_threads", "thread_affinity_offset")
"""Options that change nothing of what is seen."""
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
    """One game as a ``gymnasium.Env`` that shows the same and can be drawn: Gymnasium's preprocessing, and the button
    FIRE pressed after the no-ops where the game has one. Options are those of the vector environment."""
    try:
        import ale_py  # noqa: F401
        import cv2  # noqa: F401
    except ImportError as error:
        raise missing(name, error.name or "ale-py", "atari") from error
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    known = (*OF_THE_GAME, *OF_THE_SIGHT, *OF_THE_SPEED)
    refused = [option for option in options if option not in known]
    if refused:
        raise ValueError(f"{name}, one game at a time, has no option {', '.join(refused)}. It has: {', '.join(known)}.")
    game = {"repeat_action_probability": 0.0} | {key: options[key] for key in OF_THE_GAME if key in options}
    env: Any = AtariPreprocessing(
        gymnasium.make(name, frameskip=1, disable_env_checker=True, **game),
        noop_max=options.get("noop_max", 30),
        frame_skip=options.get("frameskip", FRAME_SKIP),
        screen_size=(options.get("img_width", 84), options.get("img_height", 84)),
        grayscale_obs=options.get("grayscale", True),
    )
    if options.get("use_fire_reset", True) and "FIRE" in env.unwrapped.get_action_meanings():
        env = fire_at_first(env)
    return FrameStackObservation(env, options.get("stack_num", 4))


def fire_at_first(env: Any) -> Any:
    """A wrapper that presses FIRE at the beginning of a game: many wait for it."""
    import gymnasium

    class FireReset(gymnasium.Wrapper):
        def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
            self.env.reset(**how)
            game: Any = self.unwrapped
            obs, _, terminated, truncated, info = self.env.step(game.get_action_meanings().index("FIRE"))
            return self.env.reset(**how) if terminated or truncated else (obs, info)

    return FireReset(env)
