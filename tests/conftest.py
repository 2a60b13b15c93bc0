"""Shared by all tests: programs are compiled quickly, and kept between sessions and between processes."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of many small matrices: threads would only wait for each other
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_backend_optimization_level=0",
        *(  # XLA ends the process over a flag that it does not know
            ["--xla_cpu_use_fusion_emitters=false", "--xla_llvm_disable_expensive_passes=true"]
            if version("jaxlib").startswith("0.10.")
            else []
        ),
        os.environ.get("XLA_FLAGS", ""),
    ]
)

import jax
import pytest
from jaxtyping import install_import_hook

from policygrad.cli.main import RARELY

gc.set_threshold(*RARELY)

LADDER = [f"policygrad.ladder.{name}" for name in ("recursion", "targets", "baselines", "corrections")]
install_import_hook([*LADDER, "policygrad.learn.gradient"], "beartype.beartype")  # shapes are checked in tests alone

jax.config.update("jax_num_cpu_devices", 2)  # several seeds are shared out, on a machine with one core too

CACHE = os.environ.setdefault("POLICYGRAD_CACHE", str(Path(__file__).parents[1] / ".jax_cache"))

if CACHE != "off":
    jax.config.update("jax_compilation_cache_dir", CACHE)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="module")
def x64():
    """Exactness is a matter of float64, and compiling is what such tests wait for. Both settings end with the
    module."""
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", False)
