"""What XLA gets of the processor: threads, and one device for each core among which seeds are shared out.

Decided before XLA starts. The groups of seeds that are computed together are part of a run's checkpoints: a resumed run
keeps them, on however many devices, and computes as before.
"""

import json
import os
from pathlib import Path

from policygrad.run.recipes import Recipe

PICTURES = ("ALE/", "envpool:")
"""Environments that show pictures, so that a convolution is most of the work."""
SMALL = 4096
"""Rows of a window, over all seeds, up to which one thread is the faster choice (benchmarks/throughput.py)."""


def is_small(recipe: Recipe) -> bool:
    """Whether handing a window's work around between threads costs more than it saves. Pictures are never small, and
    workers have a core each."""
    if recipe.workers > 0:
        return True
    if recipe.env.startswith(PICTURES):
        return False
    rows = recipe.n_envs * recipe.n_steps * recipe.seeds
    return recipe.collect == "window" and rows <= SMALL and max(recipe.net, default=0) <= 128


def spare_threads(recipe: Recipe) -> None:
    """One XLA thread for a small window, to be called before JAX is imported. ``PJRT_NPROC`` in the environment
    wins."""
    if is_small(recipe):
        os.environ.setdefault("PJRT_NPROC", "1")


def spare_threads_of(run: str) -> None:
    """The same for a run's folder; one that cannot be read is left for others to complain about."""
    try:
        recipe = Recipe.from_dict(json.loads((Path(run) / "recipe.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return
    spare_threads(recipe)


def one_device_per_core() -> None:
    """A CPU device for each core, unless XLA has started or ``JAX_NUM_CPU_DEVICES`` says otherwise. One seed uses one
    of them."""
    import jax

    if getattr(jax.config, "jax_num_cpu_devices", -1) > 0:
        return
    try:
        jax.config.update("jax_num_cpu_devices", cores())
    except RuntimeError:
        return


def answer_at_once() -> None:
    """Calls are computed where they are made: handing a small one to another thread takes longer than the call itself.
    A host environment waits for every action. Without effect once XLA has started."""
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shares(seeds: int, devices: int) -> int:
    """The most devices, up to ``devices``, that get equally many seeds."""
    return max(n for n in range(1, devices + 1) if seeds % n == 0)
