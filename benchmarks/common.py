"""What the commands share: the machine, the versions, the peers, and fresh processes."""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
PEERS = ROOT / ".peers"
PACKAGES = ("jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium")


def stamp(date: str | None = None) -> dict[str, Any]:
    """What a reader needs to judge a row: the day, the machine, the versions. No names of hosts or people."""
    return {"date": date or today(), "machine": machine(), "versions": versions()}


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def machine() -> dict[str, Any]:
    """Processor, cores, system, and the load average of the last minute: call it before a measurement."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    system = f"{platform.system()} {platform.machine()}"
    return {"cpu": cpu_model(), "cores": os.cpu_count(), "system": system, "load": load}


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def versions() -> dict[str, str]:
    from policygrad import __version__

    ours = {"policygrad": __version__, "commit": commit(), "python": platform.python_version()}
    return ours | {name: found for name in PACKAGES if (found := installed(name))}


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str:
    """The commit that was measured, with a ``+`` where the package's source has changed since."""
    try:
        short = git("rev-parse", "--short", "HEAD")
        return short + ("+" if git("status", "--porcelain", "--", "src") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def git(*args: str) -> str:
    return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True, check=True).stdout.strip()


def run_json(command: list[str | os.PathLike], **environment: str) -> dict[str, Any]:
    """Run a command in a fresh process; its standard output is one JSON object."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env={**os.environ, **environment}, cwd=ROOT
    )
    if done.returncode:
        shown = " ".join(map(str, command))
        raise SystemExit(f"{shown}\nfailed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def ours(script: str, *options: Any) -> list[str]:
    """The command of a script of this folder."""
    return [sys.executable, str(HERE / script), *map(str, options)]


def peer_python(folder: Path, peer: str) -> Path | None:
    """The interpreter of a peer's environment; None, with a word on how to make it, where there is none."""
    python = folder / peer / "bin" / "python"
    if python.exists():
        return python
    print(f"{peer} is not run: {python} is missing; make it with benchmarks/peers/setup.sh", file=sys.stderr)
    return None


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every command has."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--date", help="the day of the rows, such as 2026-01-31 (default: today)")
    return made


def add_peers(made: argparse.ArgumentParser) -> None:
    words = "where the peers' environments are (default: .peers in the project)"
    made.add_argument("--peers", type=Path, default=PEERS, metavar="DIR", help=words)


def seeds_of(text: str) -> list[int]:
    """``100:108`` (the last one excluded), ``0,3,4`` or ``7``."""
    try:
        first, colon, stop = text.partition(":")
        return list(range(int(first), int(stop))) if colon else [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no seeds: write 100:108, or 0,3,4") from None


def progress(words: str) -> None:
    """A line for whoever waits; the tables go to standard output."""
    print(words, file=sys.stderr, flush=True)


def add_training(parser: argparse.ArgumentParser) -> None:
    """The options of a command that trains once."""
    add = parser.add_argument
    add("--algo", default="a2c")
    add("--n-envs", type=int, help="default: the preset's")
    add("--n-steps", type=int, help="default: the preset's")
    add("--threads", type=int, default=0, help="XLA's threads; 0: one for each core")


def set_threads(args: argparse.Namespace) -> None:
    """XLA reads this once, when it makes its thread pool: call it before JAX computes anything."""
    if args.threads:
        os.environ["PJRT_NPROC"] = str(args.threads)
