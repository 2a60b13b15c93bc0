import pytest


@pytest.fixture(autouse=True, scope="module")
def exact(x64):
    """Every test here is one of float64."""
