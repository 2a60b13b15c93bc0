"""Shared by all tests: compiled programs are kept between sessions and between processes."""

import os
from pathlib import Path

import jax

CACHE = os.environ.setdefault("POLICYGRAD_CACHE", str(Path(__file__).parents[1] / ".jax_cache"))

if CACHE != "off":
    jax.config.update("jax_compilation_cache_dir", CACHE)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
