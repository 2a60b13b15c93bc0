"""``python -m policygrad``: the command line."""

import sys

from policygrad.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
