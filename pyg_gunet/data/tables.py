"""Text tables by pandas: separators, headers, quotes, comments, the line that is wrong."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBERS = rf"{NUMBER}|[+-]?(?:nan|inf|infinity)"
_MAX_COLUMNS = 10_000
_ENDS = (
    ("source", "target"),
    ("src", "dst"),
    ("from", "to"),
    ("fromnodeid", "tonodeid"),
    ("node1", "node2"),
    ("u", "v"),
)


class Table(NamedTuple):
    """Cells as text, the line of the file that each row stands on, and whether columns have names
    of their own."""

    cells: pd.DataFrame
    lines: list[int]
    named: bool


def read_table(text: str, header: bool | None = None) -> Table:
    r"""Reads rows of one length, separated by tabs, commas, semicolons or white space, whichever
    the first row has (in this order).

    Lines that begin with ``#`` or ``%`` are comments; so is, between white space, what follows
    ``#``. Cells may stand in double quotes.

    Args:
        text (str): The file.
        header (bool, optional): Whether the first row names the columns. (default: whether it
            holds known names of an edge's ends, as ``source`` and ``target``, or words in both of
            the first two columns, or in a later one, where there are numbers below)

    Raises:
        ValueError: If a row is longer or shorter than the first: says which line.
    """
    import pandas as pd

    rows = re.sub(r"(?m)^[^\S\n]*[#%].*$", "", text).splitlines()  # a blank line keeps the count
    lines = [number for number, row in enumerate(rows, 1) if row.strip()]
    if not lines:
        return Table(pd.DataFrame(columns=["1", "2"]), [], False)
    start = "\n".join(rows[lines[0] - 1 : lines[0] + 99])
    first = re.sub(r'"[^"]*"', "", start).partition("\n")[0]
    separator = next((mark for mark in "\t,;" if mark in first), r"\s+")
    if separator == r"\s+":
        rows = [row.partition(" #")[0].partition("\t#")[0] for row in rows]
    if len(re.split(separator, first)) > _MAX_COLUMNS:
        raise ValueError(f"line {lines[0]} has more than {_MAX_COLUMNS} columns")
    try:
        cells = pd.read_csv(
            io.StringIO("\n".join(rows)),
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
        )
    except pd.errors.ParserError as error:
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if found is None:
            raise
        raise ValueError(
            f"line {found[2]} has {found[3]} columns, line {lines[0]} has {found[1]}"
        ) from error
    if separator != r"\s+":
        cells = cells.apply(lambda column: column.str.strip())
    if len(cells) < len(lines):  # a quoted cell goes over lines: only the first is sure
        lines = lines[:1] * len(cells)
    while cells.shape[1] > 2 and bool((cells.iloc[:, -1] == "").all()):
        cells = cells.iloc[:, :-1]  # a separator ends every line
    names = [str(i + 1) for i in range(cells.shape[1])]
    header = _has_header(cells) if header is None else header
    if header:
        names = [name or number for name, number in zip(cells.iloc[0], names)]
        if len(set(names)) < len(names):
            raise ValueError(f"line {lines[0]} names two columns alike (got {names})")
        cells, lines = cells.iloc[1:].reset_index(drop=True), lines[1:]
    return Table(cells.set_axis(names, axis=1), lines, header)


def _has_header(cells: pd.DataFrame) -> bool:
    first = [cell.lower() for cell in cells.iloc[0]]
    if any(source in first and target in first for source, target in _ENDS):
        return True
    rest = cells.iloc[1:]
    if not len(rest):
        return False
    numbers = [bool(rest[c].str.fullmatch(NUMBER).all()) for c in cells]
    odd = [not re.fullmatch(NUMBER, cell) and number for cell, number in zip(first, numbers)]
    return all(odd[:2]) or any(odd[2:])


def end_columns(cells: pd.DataFrame) -> tuple[str, str]:
    """The columns of an edge's ends: known names, or else the first two."""
    names = {str(name).lower(): name for name in cells.columns}
    pair = next((pair for pair in _ENDS if pair[0] in names and pair[1] in names), None)
    return (names[pair[0]], names[pair[1]]) if pair else tuple(cells.columns[:2])


def typed(column: pd.Series) -> pd.Series:
    """A column of text as float64, empty cells as NaN, where all others are numbers or truth
    values; else as it is, empty cells as None."""
    filled = column[column != ""].str.lower()
    if len(filled) and bool(filled.isin(("true", "false")).all()):
        return (filled == "true").astype(float).reindex(column.index)
    if len(filled) and bool(filled.str.fullmatch(_NUMBERS).all()):
        return filled.astype(float).reindex(column.index)
    return column.astype(object).where(column != "", None)
