"""Pictures of a policy at play: frames from Gymnasium's ``render``, written as GIF or MP4."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from policygrad.envs import registry
from policygrad.run.policy import Policy
from policygrad.run.recipes import Recipe, RecipeError

KINDS = (".gif", ".mp4")
FPS = 30
MAX_FRAMES = 20_000
"""An episode is cut here, whatever its own limit."""


def drawable(recipe: Recipe, mode: str) -> Any:
    """One Gymnasium environment that can be drawn, with the recipe's options, wrappers and time limit.

    Args:
        mode: Gymnasium's render mode: ``rgb_array`` or ``human``.

    Raises:
        RecipeError: an environment that Gymnasium does not have, or that cannot be drawn.
    """
    from policygrad.envs.host import make_single

    name = recipe.env.removeprefix(registry.HOST_PREFIX)
    if recipe.env in registry.ENTRIES and recipe.env not in registry.TWINS:
        raise RecipeError(f"{recipe.env} has no pictures: only Gymnasium's environments can be drawn")
    limit = {} if recipe.max_episode_steps is None else {"max_episode_steps": recipe.max_episode_steps}
    env = make_single(name, env_kwargs=recipe.env_options | {"render_mode": mode} | limit, wrappers=recipe.wrappers)
    if env.render_mode != mode:
        env.close()
        raise RecipeError(f"{recipe.env} cannot be drawn: its render modes are {env.metadata.get('render_modes')}")
    return env


def play(policy: Policy, env: Any, *, seed: int, deterministic: bool) -> Iterator[tuple[Any, float]]:
    """One whole episode: ``(frame, return so far)`` before every action and after the last one. In a window the frame
    is None."""
    policy.seed(seed)
    obs, info = env.reset(seed=seed)
    state, ret, reward = None, 0.0, 0.0
    yield env.render(), ret
    for t in range(MAX_FRAMES):
        action, state = policy.predict(
            obs,
            deterministic=deterministic,
            state=state,
            episode_start=np.array([t == 0]),
            reward=np.array([reward]),
            action_mask=mask_of(env, info),
        )
        obs, reward, terminated, truncated, info = env.step(action)
        ret += float(reward)
        yield env.render(), ret
        if terminated or truncated:
            return


def mask_of(env: Any, info: dict[str, Any]) -> Any:
    """The valid actions, where the environment says so."""
    if "action_mask" in info:
        return np.asarray(info["action_mask"], bool)
    method = getattr(env.unwrapped, "action_masks", None)
    return None if method is None else np.asarray(method(), bool)


def film(policy: Policy, recipe: Recipe, out: Path, *, episodes: int, seed: int, deterministic: bool) -> list[float]:
    """Record episodes as one GIF or MP4; the returns of the episodes.

    The file appears whole or not at all.
    """
    if out.suffix not in KINDS:
        raise RecipeError(f"{out} is neither a .gif nor a .mp4: choose one of the two")
    env = drawable(recipe, "rgb_array")
    frames: list[np.ndarray] = []
    returns = watch(policy, env, frames.append, episodes=episodes, seed=seed, deterministic=deterministic)
    write(frames, out, int(env.metadata.get("render_fps", FPS)))
    return returns


def watch(
    policy: Policy, env: Any, show: Callable[[Any], Any], *, episodes: int, seed: int, deterministic: bool
) -> list[float]:
    """Play episodes, ``show`` every frame, close the environment; the returns of the episodes."""
    returns = []
    try:
        for i in range(episodes):
            episode = play(policy, env, seed=seed + i, deterministic=deterministic)
            ret = 0.0
            for frame, so_far in episode:
                show(frame)
                ret = so_far
            returns.append(ret)
    finally:
        env.close()
    return returns


def write(frames: list[np.ndarray], out: Path, fps: int) -> None:
    """Frames ``[h, w, 3]`` of bytes as a GIF (Pillow) or an MP4 (ffmpeg, from the extra ``video``)."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        part = Path(folder) / out.name
        if out.suffix == ".gif":
            write_gif(frames, part, fps)
        else:
            write_mp4(frames, part, fps)
        os.replace(part, out)


def write_gif(frames: list[np.ndarray], out: Path, fps: int) -> None:
    """Players show a GIF at 50 frames a second at most: of quicker ones every second or third frame is kept."""
    from PIL import Image

    stride = max(1, round(fps / 25))
    pictures = [Image.fromarray(frame) for frame in frames[::stride]]
    duration = 1000 * stride / fps
    pictures[0].save(out, save_all=True, append_images=pictures[1:], duration=duration, loop=0)


def write_mp4(frames: list[np.ndarray], out: Path, fps: int) -> None:
    import subprocess

    height, width = (side - side % 2 for side in frames[0].shape[:2])  # the codec wants even sides
    pixels = b"".join(np.ascontiguousarray(frame[:height, :width, :3]).tobytes() for frame in frames)
    command = [
        *(ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", str(fps), "-i", "-"),
        *("-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", str(out)),
    ]
    done = subprocess.run(command, input=pixels, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"ffmpeg could not write {out.name}: {done.stderr.decode(errors='replace').strip()[-200:]}")


def ffmpeg() -> str:
    """The program that writes MP4."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise ImportError("an .mp4 needs ffmpeg: pip install 'policygrad[video]', or choose a .gif") from error
    return imageio_ffmpeg.get_ffmpeg_exe()
