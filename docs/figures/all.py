"""Draw every figure: ``python docs/figures/all.py``, or some of them: ``python docs/figures/all.py gae ppo``."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HELPERS = {"all", "style", "worlds"}
wanted = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.py") if path.stem not in HELPERS)
failed = [name for name in wanted if subprocess.run([sys.executable, HERE / f"{name}.py"]).returncode]
sys.exit(f"not drawn: {', '.join(failed)}" if failed else 0)
