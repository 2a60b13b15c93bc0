"""Named features -> vectors: columns of a table, or one row as a mapping. The last entry is always 1, the intercept.

Numbers are standardised by the columns that the encoder was fitted on, words become indicators. With ``bits`` every
feature is hashed into one of 2^bits slots instead (Weinberger et al. 2009), so that words never seen before have a
place too. The hash is BLAKE2: the same on every machine and in every process.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np

MOST_BITS = 24


@dataclass(frozen=True)
class Encoder:
    """How columns become features; plain data, so that it is saved as JSON."""

    numbers: tuple[tuple[str, float, float], ...]
    """Name, mean and standard deviation of each column of numbers."""
    words: tuple[tuple[str, tuple[str, ...]], ...]
    """Name and known values of each column of words; hashed ones need no known values."""
    bits: int | None = None

    @property
    def n_features(self) -> int:
        """d, the intercept included."""
        slots = len(self.numbers) + sum(len(values) for _, values in self.words)
        return (slots if self.bits is None else 2**self.bits) + 1

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are looked at."""
        return tuple(name for name, *_ in (*self.numbers, *self.words))

    def __call__(self, columns: Mapping[str, Any]) -> np.ndarray:
        """``[T, d]`` in float32 of columns ``[T]``, or ``[d]`` of one row's values.

        Raises:
            ValueError: a column is missing, or a number is none or not finite.
        """
        missing = [name for name in self.names if name not in columns]
        if missing:
            raise ValueError(f"column {missing[0]!r} is missing; the bandit was made for {', '.join(self.names)}")
        one_row = np.ndim(columns[self.names[0]]) == 0
        table = {name: np.atleast_1d(columns[name]) for name in self.names}
        features = np.zeros((len(table[self.names[0]]), self.n_features), np.float32)
        place = self.one_by_one() if self.bits is None else self.hashed
        for name, mean, scale in self.numbers:
            slot, sign = place(name, None)
            features[:, slot] += sign * (finite(name, table[name]) - mean) / scale
        for name, known in self.words:
            values, which = np.unique(table[name].astype(str), return_inverse=True)
            for number, value in enumerate(values):
                if self.bits is not None or value in known:
                    slot, sign = place(name, value)
                    features[which == number, slot] += sign
        features[:, -1] = 1
        return features[0] if one_row else features

    def one_by_one(self) -> Any:
        """A slot for each number and for each known word, in order."""
        order = [(name, None) for name, *_ in self.numbers]
        order += [(name, value) for name, known in self.words for value in known]
        slots = {feature: slot for slot, feature in enumerate(order)}
        return lambda name, value: (slots[name, value], 1)

    def hashed(self, name: str, value: str | None) -> tuple[int, int]:
        return slot_of(name if value is None else f"{name}={value}", self.bits)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> "Encoder":
        numbers = tuple((name, mean, scale) for name, mean, scale in plain["numbers"])
        return Encoder(numbers, tuple((name, tuple(known)) for name, known in plain["words"]), plain["bits"])


def fit_encoder(columns: Mapping[str, np.ndarray], bits: int | None = None) -> Encoder:
    """The encoder of these columns ``[T]``: numbers and truths by mean and standard deviation, words by their values.

    Raises:
        ValueError: no column, a number that is not finite, or ``bits`` outside 1 to 24.
    """
    if bits is not None and not 1 <= bits <= MOST_BITS:
        raise ValueError(f"bits is {bits}; choose 1 to {MOST_BITS}: features go into 2^bits slots")
    if not columns:
        raise ValueError("there is no column of features; give a table with at least one beside the label")
    numbers, words = [], []
    for name, column in columns.items():
        if column.dtype.kind in "biuf":
            deviation = float(np.std(finite(name, column)))
            numbers.append((name, float(np.mean(column)), deviation if deviation > 0 else 1.0))
        else:
            words.append((name, () if bits is not None else tuple(np.unique(column.astype(str)).tolist())))
    return Encoder(tuple(numbers), tuple(words), bits)


def hash_features(named: Mapping[str, float | str], bits: int) -> np.ndarray:
    """``[2^bits + 1]`` of one row: a number goes, times ±1, to the slot of its name, a word to that of ``name=word``;
    the last entry is 1. Features that share a slot are added, and their signs make that right on average."""
    features = np.zeros(2**bits + 1, np.float32)
    for name, value in named.items():
        word = isinstance(value, str)
        slot, sign = slot_of(f"{name}={value}" if word else name, bits)
        features[slot] += sign if word else sign * value
    features[-1] = 1
    return features


@lru_cache(maxsize=2**16)
def slot_of(feature: str, bits: int) -> tuple[int, int]:
    """The slot and the sign of a feature's name."""
    number = int.from_bytes(blake2b(feature.encode(), digest_size=8).digest(), "little")
    return number % 2**bits, 1 if number >> 63 else -1


def finite(name: str, column: np.ndarray) -> np.ndarray:
    """The column as float64."""
    try:
        numbers = np.asarray(column, np.float64)
    except ValueError:
        raise ValueError(f"column {name!r} holds words where the bandit was made for numbers") from None
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise ValueError(f"column {name!r} has no finite number in row {bad[0]}: fill it, or leave the row out")
    return numbers
