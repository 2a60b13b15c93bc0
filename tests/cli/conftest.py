import pytest

from policygrad.cli.main import main


@pytest.fixture
def cli(capsys):
    """``cli("list", "ppo") -> (exit code, stdout, stderr)``."""

    def run(*argv):
        code = main(argv)
        return code, *capsys.readouterr()

    return run
