"""Text in columns, for a terminal."""

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Cells in columns: the first ``left`` of them to the left, the others, numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    put = [str.ljust if i < left else str.rjust for i in range(len(widths))]
    return ["  ".join(f(cell, width) for f, cell, width in zip(put, line, widths)).rstrip() for line in lines]
