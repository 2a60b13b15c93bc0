"""Classification sets as bandit problems: the context is shown, an action names a class, and only that is paid.

The reward is 1 for the row's class and 0 for any other; the loss is 1 minus that. What the other actions would have
paid stays hidden from the learner.
"""

from typing import NamedTuple

import numpy as np

from policygrad.storage.tables import SUFFIXES, column, read_table

BUNDLED = ("breast_cancer", "digits", "iris", "wine")
"""The classification sets that come with scikit-learn."""


class Table(NamedTuple):
    """Features by name, and the class of every row."""

    columns: dict[str, np.ndarray]
    """``[T]`` each."""
    label: np.ndarray
    """``[T]``, 0 to K − 1."""
    classes: tuple[str, ...]
    """What the actions are called."""


def load_table(source: str, label: str | None = None, classes: tuple[str, ...] | None = None) -> Table:
    """A bundled set by name, or a .csv or .parquet file with its column of labels.

    Args:
        source: ``digits``, ``iris``, ``wine``, ``breast_cancer``, or a path.
        label: the column that holds the class, for a file.
        classes: the classes of an earlier table, where theirs must be the same.

    Raises:
        ValueError: no such set, file or column, no label, an empty label, a single class, or one that is not among
            ``classes``.
        ImportError: scikit-learn or pyarrow is missing.
    """
    if source.lower().endswith(SUFFIXES):
        columns = dict(read_table(source))
        if label is None:
            raise ValueError(f"which column of {source} is the label? Add --label NAME; it has {', '.join(columns)}")
        words = column(source, columns, label)
        del columns[label]
    elif source in BUNDLED:
        if label is not None:
            raise ValueError(f"{source} has its own label: leave --label out")
        columns, words = bundled(source)
    else:
        known = ", ".join(BUNDLED)
        raise ValueError(f"there is no data {source!r}: give a .csv or .parquet file, a pure environment, or {known}")
    return classified(source, columns, words, classes)


def rewards_of(label: np.ndarray, n_classes: int, *, losses: bool = False) -> np.ndarray:
    """``[T, K]`` of labels ``[T]``: 1 for the right class; ``losses``: 1 for every other one."""
    right = np.eye(n_classes, dtype=np.float32)[label]
    return 1 - right if losses else right


def bundled(name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(f"{name} comes with scikit-learn: pip install 'policygrad[bandit]'") from error
    found = getattr(datasets, f"load_{name}")()
    columns = dict(zip(map(str, found.feature_names), found.data.T))
    return columns, np.asarray(found.target_names).astype(str)[found.target]


def classified(
    source: str, columns: dict[str, np.ndarray], words: np.ndarray, classes: tuple[str, ...] | None
) -> Table:
    named = words_of(words)
    if named is None:
        raise ValueError(f"the label of {source} must be words, whole numbers or truths: it has other values")
    wide = [name for name, values in columns.items() if values.ndim != 1]
    if wide:
        raise ValueError(f"column {wide[0]!r} of {source} holds lists; give one number or word a row")
    empty = np.flatnonzero(named == "")
    if len(empty):
        raise ValueError(f"row {empty[0]} of {source} has no label: fill it, or leave the row out")
    found = in_order(named) if classes is None else classes
    if len(found) < 2:
        raise ValueError(f"all rows of {source} have the label {found[0]!r}: there is nothing to choose")
    numbers = {name: number for number, name in enumerate(found)}
    unknown = sorted(set(named.tolist()) - set(found))
    if unknown:
        raise ValueError(f"{source} has the label {unknown[0]!r}; the bandit's actions are {', '.join(found)}")
    return Table(columns, np.asarray([numbers[word] for word in named]), found)


def words_of(values: np.ndarray) -> np.ndarray | None:
    """Names ``[T]`` of classes or actions: words, truths and whole numbers (1.0 is ``1``). None: something else."""
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    return None if values.ndim != 1 or values.dtype.kind == "f" else values.astype(str)


def in_order(words: np.ndarray) -> tuple[str, ...]:
    """Every name once: numbers by their size (2 before 10), words by the alphabet."""
    names = np.unique(words).tolist()
    return tuple(sorted(names, key=int) if all(map(is_whole, names)) else names)


def is_whole(word: str) -> bool:
    return word.removeprefix("-").isdecimal() and word == str(int(word))
