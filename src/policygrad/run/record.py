"""A run's folder, and the numbers it logs.

    runs/CartPole-v1/a2c-1/
        recipe.json                  everything that built the run
        metrics.csv                  one row per log point and seed
        tensorboard/                 the same numbers for TensorBoard
        checkpoints/last.safetensors, best.safetensors
        curve.png

``metrics.csv`` is the record; TensorBoard's files are a view of it. Its columns are ``time/total_timesteps``
(environment steps), ``seed``, and the keys as they first appeared, named as in Stable-Baselines3. An empty cell is NaN:
not measured.
"""

import csv
import hashlib
import io
import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from policygrad.storage.checkpoint import write_atomically

STEP, SEED = "time/total_timesteps", "seed"
MAX_SEED_EVENTS = 32
"""With more seeds than this TensorBoard gets their mean alone: a file per seed would exhaust the open files."""
FLUSH_SECONDS = 1.0
RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{i}" for port in ("com", "lpt") for i in range(10)}
"""Names that Windows keeps for devices."""


class RunError(ValueError):
    """A run directory that cannot be made or used."""


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run. Make it with :meth:`create`, :meth:`create_at` or :meth:`open`."""

    path: Path

    @classmethod
    def create(cls, env_id: str, algo: str, root: str | os.PathLike = "runs") -> "RunDirectory":
        """A new folder ``<root>/<env>/<algo>-<n>``, n being one more than the highest there.

        Making a folder is atomic, so two processes that start together get two numbers.
        """
        parent, stem = Path(root) / slug(env_id), slug(algo)
        _make_parents(parent)
        while True:
            path = parent / f"{stem}-{1 + _highest(parent, stem)}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return cls(path)._furnish()

    @classmethod
    def create_at(cls, path: str | os.PathLike) -> "RunDirectory":
        """A new folder exactly here."""
        path = Path(path)
        _make_parents(path.parent)
        try:
            path.mkdir()
        except FileExistsError as error:
            raise RunError(
                f"{path} already exists; continue it with --resume {path}, or choose another path"
            ) from error
        return cls(path)._furnish()

    @classmethod
    def create_for(cls, env_id: str, algo: str, *, out: Any, path: Any) -> "RunDirectory | None":
        """A new folder as a user asks for it: exactly at ``path``, else inside ``out``, else none."""
        if path is not None:
            return cls.create_at(path)
        return None if out is None else cls.create(env_id, algo, out)

    @classmethod
    def open(cls, path: str | os.PathLike) -> "RunDirectory":
        """The run that is here already."""
        run = cls(Path(path))
        if not run.path.exists():
            raise RunError(f"there is no run {path}; check the path")
        if not run.path.is_dir():
            raise RunError(f"{path} is a file; name the run's folder, the one that holds recipe.json")
        if not run.recipe.is_file():
            inside = [recipe for depth in (1, 2, 3) for recipe in run.path.glob("*/" * depth + "recipe.json")]
            newest = max(inside, default=None, key=lambda recipe: recipe.stat().st_mtime)
            example = "runs/CartPole-v1/a2c-1" if newest is None else f"{newest.parent}, the newest in it"
            raise RunError(f"{path} is no run: it holds no recipe.json; name a folder such as {example}")
        return run._furnish()

    def _furnish(self) -> "RunDirectory":
        self.checkpoints.mkdir(exist_ok=True)
        return self

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.safetensors"

    @property
    def curve(self) -> Path:
        return self.path / "curve.png"

    def write_recipe(self, recipe: dict) -> None:
        """Write ``recipe.json``, whole or not at all."""
        write_atomically(self.recipe, (json.dumps(recipe, indent=2) + "\n").encode())

    def read_recipe(self) -> dict:
        try:
            recipe = json.loads(self.recipe.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise RunError(
                f"{self.recipe} is not valid JSON ({error}); restore it from a checkpoint's recipe"
            ) from error
        if not isinstance(recipe, dict):
            raise RunError(f"{self.recipe} is no JSON object; restore it from a checkpoint's recipe")
        return recipe


def slug(name: str) -> str:
    """``name`` as a folder's name that is legal on every system: ``ALE/Pong-v5`` becomes ``ALE-Pong-v5``."""
    legal = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:100].strip(".-") or "unnamed"
    return f"{legal}_" if legal.split(".")[0].lower() in RESERVED else legal


def _make_parents(parent: Path) -> None:
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {parent} cannot be made: {error.strerror}; choose another path") from error


def _highest(parent: Path, stem: str) -> int:
    """The highest n of an existing ``<stem>-<n>``, in any case: some file systems do not tell A2C-1 from a2c-1."""
    numbered = re.compile(re.escape(stem) + r"-(\d+)", re.IGNORECASE | re.ASCII)
    return max((int(match[1]) for entry in parent.iterdir() if (match := numbered.fullmatch(entry.name))), default=0)


class MetricsWriter:
    """Writes a run's numbers to ``metrics.csv``, to TensorBoard and, where a project is named, to Weights & Biases, all
    under the same keys. Use it in a ``with`` statement.

    ``seeds`` is how many seeds train together, or their numbers. Every write reaches the operating system, so a killed
    run loses at most the row being written; a half-written last row is removed when the file is next opened here.
    """

    def __init__(
        self,
        directory: RunDirectory,
        seeds: int | Sequence[int] = 1,
        *,
        tensorboard: bool = True,
        wandb: str | None = None,
    ) -> None:
        self.directory = directory
        self._wandb = None if wandb is None else start_wandb(wandb, directory)
        self.seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
        self._tensorboard = tensorboard
        self._purge_step: int | None = None
        self._events: dict[Path, _EventFile] = {}
        if not directory.metrics.exists():
            write_atomically(directory.metrics, _to_csv([[STEP, SEED]]).encode())
        self._columns, lines = _read_lines(directory.metrics)
        self._replace(lines)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, row: Mapping[str, ArrayLike], step: ArrayLike) -> None:
        """Log ``row`` at ``step`` environment steps: for every key one number, or one number per seed, ``[seeds]``.

        ``step`` may be one per seed too.
        """
        values = {key: self._per_seed(key, value) for key, value in row.items()}
        steps = np.broadcast_to(np.asarray(step), len(self.seeds))
        self._add_columns(key for key in values if key not in self._columns)
        blank = [""] * len(self.seeds)
        cells = [values.get(key, blank) for key in self._columns[2:]]
        table = zip(steps, self.seeds, *cells)
        self._file.write(_to_csv([[int(step), seed, *numbers] for step, seed, *numbers in table]))
        self._file.flush()
        if self._tensorboard:
            self._write_events(values, int(steps.max()))
        if self._wandb is not None:
            self._wandb.log(self._by_seed(values), step=int(steps.max()))

    def truncate_after(self, step: ArrayLike) -> None:
        """Drop what lies beyond ``step`` (one number, or one per seed), as a run must that resumes from a checkpoint
        taken there.

        ``metrics.csv`` loses the rows at once. TensorBoard's old files stay, and a new one hides those points.
        """
        steps = np.broadcast_to(np.asarray(step), len(self.seeds))
        limit = {str(seed): int(step) for seed, step in zip(self.seeds, steps)}
        self._file.close()
        self._close_events()
        self._purge_step = int(steps.max()) + 1
        _, lines = _read_lines(self.directory.metrics)
        cells = [line.split(",", 2)[:2] for line in lines]
        self._replace([line for line, (at, seed) in zip(lines, cells) if int(at) <= limit.get(seed, int(steps.max()))])

    def close(self) -> None:
        self._file.close()
        self._close_events()
        if self._wandb is not None:
            self._wandb.finish()

    def _by_seed(self, values: Mapping[str, list[str]]) -> dict[str, float]:
        """The mean over seeds under the plain keys and, with several seeds, ``seed_7/key`` beside it."""
        flat: dict[str, float] = {}
        for key, cells in values.items():
            known = {seed: float(cell) for seed, cell in zip(self.seeds, cells) if cell}
            if known:
                flat[key] = sum(known.values()) / len(known)
            if len(self.seeds) > 1:
                flat |= {f"seed_{seed}/{key}": number for seed, number in known.items()}
        return flat

    def _per_seed(self, key: str, value: ArrayLike) -> list[str]:
        """One cell per seed, with the digits that the number's own precision needs."""
        if key in (STEP, SEED):
            raise ValueError(f"{key!r} is a column of its own; leave it out of the row")
        numbers = np.asarray(value)
        if numbers.dtype.kind in "OSUmMc":
            raise ValueError(f"{key!r} is a {type(value).__name__}; log real numbers only")
        if numbers.shape not in ((), (len(self.seeds),)):
            raise ValueError(
                f"{key!r} has shape {numbers.shape}; give one number, or one for each of {len(self.seeds)} seeds"
            )
        return [_to_cell(number) for number in np.broadcast_to(numbers, len(self.seeds))]

    def _add_columns(self, keys: Iterable[str]) -> None:
        """New columns join at the right; the rows so far are blank there."""
        new = list(keys)
        if new:
            self._file.close()
            _, lines = _read_lines(self.directory.metrics)
            self._columns += new
            self._replace([line + "," * len(new) for line in lines])

    def _replace(self, lines: list[str]) -> None:
        """Make these rows the file, atomically, and append from here on."""
        text = _to_csv([self._columns]) + "".join(line + "\n" for line in lines)
        if self.directory.metrics.read_bytes() != text.encode():
            write_atomically(self.directory.metrics, text.encode())
        self._file = open(self.directory.metrics, "a", encoding="utf-8", newline="")  # noqa: SIM115

    def _write_events(self, values: Mapping[str, list[str]], step: int) -> None:
        """The mean over seeds under the plain keys, and each seed in a folder beside it."""
        table = {key: np.array([float(cell or "nan") for cell in cells]) for key, cells in values.items()}
        known = {key: numbers[~np.isnan(numbers)] for key, numbers in table.items()}
        folder = self.directory.tensorboard
        self._event_file(folder).write({key: float(x.mean()) for key, x in known.items() if x.size}, step)
        if 1 < len(self.seeds) <= MAX_SEED_EVENTS:
            for i, seed in enumerate(self.seeds):
                own = {key: float(numbers[i]) for key, numbers in table.items() if not np.isnan(numbers[i])}
                self._event_file(folder / f"seed_{seed}").write(own, step)

    def _event_file(self, folder: Path) -> "_EventFile":
        if folder not in self._events:
            self._events[folder] = _EventFile(folder, self._purge_step)
        return self._events[folder]

    def _close_events(self) -> None:
        for events in self._events.values():
            events.close()
        self._events = {}


def start_wandb(project: str, directory: RunDirectory) -> Any:
    """A run of Weights & Biases for this folder; a resumed run goes on in the same one."""
    try:
        import wandb
    except ImportError as error:
        raise ImportError("--wandb needs the package wandb: pip install 'policygrad[wandb]'") from error
    path = directory.path.resolve()
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    config = directory.read_recipe() if directory.recipe.exists() else {}
    return wandb.init(project=project, id=name, name=path.name, dir=str(path), config=config, resume="allow")


class _EventFile:
    """One TensorBoard file, written without threads: one event holds all scalars of a step.

    It reaches the disk at least every ``FLUSH_SECONDS`` seconds of writing: tensorboardX syncs the disk at each flush.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        taken = {file.suffix for file in folder.iterdir()}
        suffix = next(f".{i}" for i in count() if f".{i}" not in taken)  # names carry seconds: two in one would collide
        self._writer = EventsWriter(str(folder / "events"), suffix)
        if purge_step is not None:
            self._writer.write_event(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))
        self._writer.flush()
        self._flushed = -FLUSH_SECONDS

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=key, simple_value=value) for key, value in scalars.items()]
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._writer.close()


def read_metrics(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The columns of ``metrics.csv`` (name the file or the run): float64 (an empty cell is NaN), step and seed int64.

    A run may still be writing it: a half-written last row is left out, and the file is not touched.
    """
    path = Path(path)
    columns, lines = _read_lines(path / "metrics.csv" if path.is_dir() else path)
    cells = [[cell or "nan" for cell in line.split(",")] for line in lines]
    table = np.array(cells, float).reshape(len(lines), len(columns))
    return {name: table[:, i].astype(np.int64 if name in (STEP, SEED) else float) for i, name in enumerate(columns)}


def seed_curves(metrics: Mapping[str, np.ndarray], key: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """``(steps, values)`` of every seed where ``key`` was measured: what :mod:`policygrad.run.plots` draws."""
    if key not in metrics:
        logged = ", ".join(name for name in metrics if name not in (STEP, SEED))
        raise RunError(f"{key!r} was not logged; choose one of {logged}")
    measured = ~np.isnan(metrics[key])
    chosen = [measured & (metrics[SEED] == seed) for seed in np.unique(metrics[SEED])]
    return [(metrics[STEP][rows], metrics[key][rows]) for rows in chosen if rows.any()]


def _read_lines(path: Path) -> tuple[list[str], list[str]]:
    """The columns and the whole rows as text. A row is whole once its line has ended."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}; name a run's folder or its metrics.csv") from error
    header, *lines = text.split("\n")[:-1] or [""]
    columns = next(csv.reader([header]), [])
    if columns[:2] != [STEP, SEED]:
        raise RunError(f"{path} is no metrics.csv of policygrad: its first columns are not {STEP},{SEED}")
    broken = [i for i, line in enumerate(lines) if line.count(",") != len(columns) - 1]
    if broken:
        raise RunError(
            f"{path} is damaged: line {broken[0] + 2} has not {len(columns)} cells; repair or remove that line"
        )
    return columns, lines


def _to_csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _to_cell(number: np.generic) -> str:
    if number.dtype == bool:
        return str(int(number))
    return "" if np.isnan(number) else str(number)


def json_ready(value: Any) -> Any:
    """Plain values, for JSON. It has no NaN and no infinity: they become None; NumPy's numbers become Python's, and
    named tuples become dicts."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
