"""Pictures of a policy at play: frames from Gymnasium's ``render``, written as GIF or MP4 while it plays."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
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
    pure = recipe.env in registry.ENTRIES or recipe.env.startswith(tuple(registry.PURE_ELSEWHERE))
    if pure and recipe.env not in registry.TWINS:
        raise RecipeError(f"{recipe.env} has no pictures: only Gymnasium's environments can be drawn")
    if name.isidentifier() and not registry.gymnasium_has(name):
        raise RecipeError(f"{name} is no id, and a film needs an environment of its own: give an id or file.py:Class")
    limit = {} if recipe.max_episode_steps is None else {"max_episode_steps": recipe.max_episode_steps}
    try:
        env = make_single(name, env_kwargs=recipe.env_options | {"render_mode": mode} | limit, wrappers=recipe.wrappers)
    except ValueError as error:
        raise RecipeError(f"{recipe.env} cannot be drawn: {error}") from error
    if env.render_mode != mode:
        env.close()
        raise RecipeError(f"{recipe.env} cannot be drawn: its render modes are {env.metadata.get('render_modes')}")
    return env


def require_drawable(recipe: Recipe) -> None:
    """Draw one picture, and refuse what gives none."""
    env = drawable(recipe, "rgb_array")
    try:
        env.reset(seed=recipe.seed)
        picture(env)
    finally:
        env.close()


def picture(env: Any) -> np.ndarray:
    """``[height, width, 3]`` bytes of an environment as it is."""
    frame = env.render()
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] < 3 or frame.dtype != np.uint8:
        given = f"{frame.dtype}{list(frame.shape)}" if isinstance(frame, np.ndarray) else f"a {type(frame).__name__}"
        kind = type(env.unwrapped).__name__
        raise RecipeError(f"{kind} cannot be drawn: render() gave {given}, not an array uint8[height, width, 3]")
    return frame[..., :3]


def play(policy: Policy, env: Any, *, seed: int, deterministic: bool) -> Iterator[float]:
    """One whole episode: the return so far, before every action and after the last one."""
    policy.seed(seed)
    obs, info = env.reset(seed=seed)
    state, ret, reward = None, 0.0, 0.0
    yield ret
    for t in range(MAX_FRAMES):
        action, state = policy.predict(
            obs,
            deterministic=deterministic,
            state=state,
            episode_start=np.array([t == 0]),
            reward=np.array([reward]),
            action_mask=info.get("action_mask"),
        )
        obs, reward, terminated, truncated, info = env.step(action)
        ret += float(reward)
        yield ret
        if terminated or truncated:
            return


def film(policy: Policy, recipe: Recipe, out: Path, *, episodes: int, seed: int, deterministic: bool) -> list[float]:
    """Record episodes as one GIF or MP4; the returns of the episodes.

    Frames are written as they are drawn. The file appears whole or not at all.
    """
    if out.suffix not in KINDS:
        raise RecipeError(f"{out} is neither a .gif nor a .mp4: choose one of the two")
    env, returns = drawable(recipe, "rgb_array"), [0.0] * episodes

    def frames() -> Iterator[np.ndarray]:
        for i in range(episodes):
            for ret in play(policy, env, seed=seed + i, deterministic=deterministic):
                returns[i] = ret
                yield picture(env)

    try:
        write(frames(), out, int(env.metadata.get("render_fps", FPS)))
    finally:
        env.close()
    return returns


def watch(policy: Policy, env: Any, *, episodes: int, seed: int, deterministic: bool) -> list[float]:
    """Play episodes in a window, and close it; the returns of the episodes."""
    returns = [0.0] * episodes
    try:
        for i in range(episodes):
            for ret in play(policy, env, seed=seed + i, deterministic=deterministic):
                returns[i] = ret
                env.render()
    finally:
        env.close()
    return returns


def write(frames: Iterator[np.ndarray], out: Path, fps: int) -> None:
    """Frames ``[h, w, 3]`` of bytes as a GIF (Pillow) or an MP4 (ffmpeg, from the extra ``video``)."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        part = Path(folder) / out.name
        if out.suffix == ".gif":
            write_gif(frames, part, fps)
        else:
            write_mp4(frames, part, fps)
        os.replace(part, out)


def write_gif(frames: Iterable[np.ndarray], out: Path, fps: int) -> None:
    """Players show a GIF at 50 frames a second at most: of quicker ones every second or third frame is kept. After the
    first frame only the rectangle that changes is written."""
    from PIL import Image, ImageChops
    from PIL.GifImagePlugin import getdata

    stride = max(1, round(fps / 25))
    pictures = (Image.fromarray(np.ascontiguousarray(frame)) for frame in islice(frames, None, None, stride))
    how: dict[str, Any] = {"duration": 1000 * stride / fps, "include_color_table": True}
    before = next(pictures)
    with open(out, "wb") as file:
        before.save(file, "GIF", loop=0, **how)
        file.seek(-1, os.SEEK_CUR)  # the trailer: more is to come
        for now in pictures:
            box = ImageChops.difference(before, now).getbbox() or (0, 0, 1, 1)
            file.writelines(getdata(now.crop(box).quantize(), box[:2], **how))
            before = now
        file.write(b";")


def write_mp4(frames: Iterator[np.ndarray], out: Path, fps: int) -> None:
    import subprocess

    first = next(frames)
    height, width = (side - side % 2 for side in first.shape[:2])  # the codec wants even sides
    command = [
        *(ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", str(fps), "-i", "-"),
        *("-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", str(out)),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        assert writer.stdin is not None and writer.stderr is not None
        try:
            for frame in chain([first], frames):
                writer.stdin.write(np.ascontiguousarray(frame[:height, :width]).tobytes())
        except BrokenPipeError:  # it says why
            pass
        with suppress(BrokenPipeError):
            writer.stdin.close()
        said = writer.stderr.read().decode(errors="replace").strip()[-200:]
    if writer.returncode:
        raise RuntimeError(f"ffmpeg could not write {out.name}: {said}")


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
