"""One way to read and to write every kind of dataset: its name says which.

read_dataset("cartpole.safetensors")            # our own, which holds everything
read_dataset("log.csv")                         # transitions: .csv or .parquet
read_dataset("minari:cartpole/expert-v0")       # Minari's, on this machine
"""

import os
from collections.abc import Sequence
from pathlib import Path

from policygrad.storage import datasets
from policygrad.storage.datasets import Dataset, DatasetError, check
from policygrad.storage.tables import SUFFIXES

MINARI = "minari:"
OWN = ".safetensors"
KINDS = "a dataset is a .safetensors, .csv or .parquet file, or minari: with an id, such as minari:cartpole/demo-v0"


def read_dataset(name: str | os.PathLike, *, ignore_columns: Sequence[str] = ()) -> Dataset:
    """The whole episodes of a dataset, checked.

    Args:
        name: a file, or ``minari:`` and an id or a folder of Minari's.
        ignore_columns: of a table, which would be refused otherwise.

    Raises:
        DatasetError, TableError: no such dataset, or a bad one; one clear sentence.
        ImportError: a package is missing; the message names the extra.
    """
    text, suffix = os.fspath(name), Path(name).suffix.lower()
    if ignore_columns and suffix not in SUFFIXES:
        raise DatasetError(f"{text} is no table, and only tables have columns to ignore: drop ignore_columns")
    if text.startswith(MINARI):
        from policygrad.storage import minari  # late: it needs a package that not all have

        return minari.read(text.removeprefix(MINARI))
    if suffix == OWN:
        return datasets.load(text)
    if suffix in SUFFIXES:
        from policygrad.storage import transitions

        return transitions.read(text, ignore_columns=ignore_columns)
    raise DatasetError(f"{text} is no dataset: {KINDS}")


def write_dataset(name: str | os.PathLike, dataset: Dataset) -> None:
    """Write whole episodes in the format that the name says. A file is replaced, whole or not at all; a dataset of
    Minari's must be new.

    Raises:
        DatasetError, TableError: a dataset that does not fit together, or that this format cannot hold.
        ImportError: a package is missing; the message names the extra.
    """
    require_writable(name)
    text, suffix = os.fspath(name), Path(name).suffix.lower()
    check(dataset)
    if text.startswith(MINARI):
        from policygrad.storage import minari

        minari.write(text.removeprefix(MINARI), dataset)
    elif suffix == OWN:
        datasets.save(text, dataset)
    else:
        from policygrad.storage import transitions

        transitions.write(text, dataset)


def require_writable(name: str | os.PathLike) -> None:
    """A DatasetError for a name that says no format: before hours are spent on the episodes."""
    text = os.fspath(name)
    if not text.startswith(MINARI) and Path(name).suffix.lower() not in (OWN, *SUFFIXES):
        raise DatasetError(f"{text} is no dataset's name: {KINDS}")
