"""Tables at rest: CSV and Parquet files as columns, name -> array with one entry a row."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from policygrad.storage.checkpoint import write_atomically

SUFFIXES = (".csv", ".parquet")


class TableError(ValueError):
    """A table that cannot be read or written; the message names the file and the fix."""


def read_table(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The columns of a .csv file (with a header) or a .parquet file, in the file's order.

    Whole numbers come as int64, other numbers as float64 (an empty cell as NaN), truths as bool, all else as str (an
    empty cell as ""). A Parquet column of lists of equal length comes as ``[rows, length]``.

    Raises:
        TableError: no such file, another suffix, no rows, two columns of one name, lists of unequal length.
        ImportError: pyarrow is missing.
    """
    path = Path(path)
    kind = suffix_of(path)
    if not path.is_file():
        raise TableError(f"there is no file {path}: check the name")
    arrow = pyarrow_for(path)
    try:
        table = arrow.csv.read_csv(path) if kind == ".csv" else arrow.parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise TableError(f"{path} is no readable {kind[1:]} table: {first_line(error)}") from error
    twice = [name for name in dict.fromkeys(table.column_names) if table.column_names.count(name) > 1]
    if twice:
        raise TableError(f"{path} has two columns called {twice[0]!r}: rename one")
    if not table.num_rows:
        raise TableError(f"{path} has no rows")
    return {name: as_array(path, name, table.column(name)) for name in table.column_names}


def write_table(path: str | os.PathLike, columns: Mapping[str, np.ndarray]) -> None:
    """Write columns ``[rows]`` (or, to Parquet, ``[rows, length]``) to a .csv or .parquet file, atomically."""
    path = Path(path)
    kind, arrow = suffix_of(path), pyarrow_for(path)
    wide = [name for name, column in columns.items() if np.ndim(column) != 1]
    if wide and kind == ".csv":
        raise TableError(f"column {wide[0]!r} holds more than one number a row, which CSV cannot: write .parquet")
    table = arrow.table({name: arrow.array(list(column)) for name, column in columns.items()})
    sink = arrow.BufferOutputStream()
    (arrow.csv.write_csv if kind == ".csv" else arrow.parquet.write_table)(table, sink)
    write_atomically(path, sink.getvalue().to_pybytes())


def as_array(path: Path, name: str, column: Any) -> np.ndarray:
    """One column; None among numbers becomes NaN."""
    if not column.null_count:
        plain = column.to_numpy()
        if plain.dtype.kind in "iufb":
            return plain
    cells = column.to_pylist()
    kinds = {type(cell) for cell in cells}
    if list in kinds:
        lengths = {len(cell) if isinstance(cell, list) else 0 for cell in cells}
        if len(lengths) != 1:
            raise TableError(f"{path}: the lists of column {name!r} have different lengths; give all the same")
        return np.asarray(cells)
    if kinds == {bool} or kinds == {int}:
        return np.asarray(cells)
    if kinds <= {int, float, type(None)} and kinds != {type(None)}:
        return np.asarray([np.nan if cell is None else cell for cell in cells], np.float64)
    return np.asarray(["" if cell is None else str(cell) for cell in cells])


def column(path: str | os.PathLike, columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """One column by name; a TableError lists the columns that there are."""
    if name not in columns:
        raise TableError(f"{path} has no column {name!r}; it has {', '.join(columns)}")
    return columns[name]


def suffix_of(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise TableError(f"{path} is no table: its name must end in .csv or .parquet")
    return kind


def pyarrow_for(path: Path) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"{path} needs pyarrow: pip install 'policygrad[data]'") from error
    return pyarrow


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["unknown"])[0]
