"""The ledger: measured rows in a JSON file, one a line, written whole or not at all. What is there is not run again."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
NOT_RUN = "not run"


class Ledger:
    """The rows of one file.

    ``key`` names the fields that tell rows apart: a row takes the place of an earlier one with the same. Without a key
    every row is a new one. One command writes at a time.
    """

    def __init__(self, path: str | Path, key: Sequence[str] = ()) -> None:
        self.path, self.key = Path(path), tuple(key)

    @property
    def rows(self) -> list[Row]:
        """All rows, as the file holds them now."""
        if not self.path.exists():
            return []
        try:
            rows = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.path} is not valid JSON ({error}): restore it from version control") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{self.path} is no ledger: it must hold a list of rows; restore it from version control")
        return rows

    def select(self, **values: Any) -> list[Row]:
        """The rows that have all these values, in order."""
        return [row for row in self.rows if values.items() <= {name: row.get(name) for name in values}.items()]

    def missing(self, wanted: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """What of ``wanted`` no row has yet: where to go on."""
        known = {self.identity(row) for row in self.rows}
        return [row for row in wanted if self.identity(row) not in known]

    def add(self, rows: Iterable[Row]) -> None:
        """Write these rows, atomically."""
        from policygrad.storage.checkpoint import write_atomically  # late: reading needs no JAX

        new = list(rows)
        replaced = {self.identity(row) for row in new} if self.key else set()
        kept = [row for row in self.rows if not self.key or self.identity(row) not in replaced]
        lines = ",\n".join(json.dumps(finite(row), ensure_ascii=False) for row in kept + new)
        write_atomically(self.path, f"[\n{lines}\n]\n".encode())

    def identity(self, row: Mapping[str, Any]) -> tuple:
        absent = [name for name in self.key if name not in row]
        if absent:
            raise ValueError(f"a row of {self.path.name} needs {absent[0]!r}: add it to the row")
        return tuple(row[name] for name in self.key)


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def with_tables(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A page with these tables between ``<!-- name -->`` and ``<!-- end -->`` as they are now."""

    def table(match: re.Match) -> str:
        made = tables.get(match[1])
        return match[0] if made is None else f"<!-- {match[1]} -->\n\n{made()}\n\n<!-- end -->"

    return re.sub(r"<!-- ([\w-]+) -->\n.*?<!-- end -->", table, page, flags=re.DOTALL)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table. None reads "not run"."""
    cells = [[NOT_RUN if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(columns, *cells)]
    lines = [columns, ["-" * width for width in widths], *cells]
    return "\n".join(f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths))} |" for line in lines)


def verdict(value: float | None, passes: bool | None) -> str | None:
    """``pass`` or ``FAIL``; nothing where there is no bar; None where there is no value."""
    return None if value is None else "" if passes is None else "pass" if passes else "FAIL"
