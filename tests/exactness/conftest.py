import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def x64():
    """Exactness is a matter of float64, and compiling is what these tests wait for. Both settings end with the
    module."""
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", False)
