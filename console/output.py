"""Print results: as tables that fit the terminal for people, or as JSON for programs.

If a table is too wide for the terminal, each row is printed as a block of lines, so that ids are never cut.
"""

import json
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from runtime.errors import CommandError
from runtime.escape import escape_unprintable

LEAST_LAST_COLUMN = 16
GAP = "  "
EMPTY = {"quarantine": "the quarantine is empty"}

Row = Mapping[str, Any]


def show(
    rows: Sequence[Row],
    name: str,
    *,
    as_json: bool,
    people: Callable[[Row], Row] | None = None,
    away: Sequence[Any] | None = None,
) -> None:
    """Print the rows: as ``{name: [...]}`` with ``as_json``, else the columns that ``people`` returns for each row.

    ``away`` are the shards that the rows lack, for JSON.
    """
    if as_json:
        print_json({name: rows} if away is None else {name: rows, "away": away})
    elif rows:
        print_rows([people(row) if people else row for row in rows])
    else:
        print_line(EMPTY.get(name, f"no {name}"))


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:  # a lone surrogate, from an argument that is not UTF-8
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")


def print_line(text: str) -> None:
    """Print a sentence, folded to the terminal's width."""
    sys.stdout.writelines(f"{line}\n" for line in _fold(escape_unprintable(text, keep="\n"), _width()))


def confirm(question: str) -> None:
    """Ask on standard error; standard output is the command's result. Raises CommandError unless the user agrees."""
    sys.stderr.writelines(f"{line}\n" for line in _fold(f"{question} [y/N]", _width()))
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing is done: answer y, or add --yes")


def print_pairs(pairs: Row) -> None:
    """Print a line for each pair that has a value."""
    present = {name: value for name, value in pairs.items() if value is not None}
    name_width = max((_columns(escape_unprintable(name)) for name in present), default=0)
    for name, value in present.items():
        lines = _fold(_text(value), max(_width() - name_width - len(GAP), LEAST_LAST_COLUMN))
        first, rest = _pad(escape_unprintable(name), name_width), " " * name_width
        sys.stdout.writelines(
            f"{rest if place else first}{GAP}{line}".rstrip() + "\n" for place, line in enumerate(lines)
        )


def print_rows(rows: Sequence[Row]) -> None:
    """Print a table; nothing without rows. If the terminal is too narrow, the last column is folded.

    Numbers are aligned to the right. If a folded table is too wide, each row is a block of lines.
    """
    if not rows:
        return
    names = list(rows[0])
    cells = [[_text(row[name]) for name in names] for row in rows]
    columns = list(zip(*cells, strict=True))
    widths = [max(_columns(name), *map(_columns, column)) for name, column in zip(names, columns, strict=True)]
    before_last = sum(widths[:-1]) + len(GAP) * (len(names) - 1)
    room = _width() - before_last
    if room < min(widths[-1], LEAST_LAST_COLUMN):
        for place, row in enumerate(rows):
            if place:
                sys.stdout.write("\n")
            print_pairs({name: None if value == "" else value for name, value in row.items()})
        return
    right = [all(isinstance(row[name], int | float | None) for row in rows) for name in names]
    widths[-1] = min(widths[-1], room)
    for line in [names, ["-" * width for width in widths], *cells]:
        _print_row(line, widths, right)


def _print_row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> None:
    *firsts, last = cells
    padded = [_pad(cell, width, right=to_right) for cell, width, to_right in zip(firsts, widths, right, strict=False)]
    margin = " " * sum(width + len(GAP) for width in widths[:-1])
    for place, part in enumerate(_fold(last, widths[-1])):
        start = margin if place else "".join(cell + GAP for cell in padded)
        sys.stdout.write((start + _pad(part, widths[-1], right=right[-1])).rstrip() + "\n")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape_unprintable(str(value), keep="\n")


def _width() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def _columns(text: str) -> int:
    """Return the width of the widest line in terminal columns."""
    return max(sum(map(_character_columns, line)) for line in text.split("\n"))


def _character_columns(character: str) -> int:
    if character.isascii():
        return 1
    return 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")


def _pad(text: str, width: int, *, right: bool = False) -> str:
    blanks = " " * (width - _columns(text))
    return blanks + text if right else text + blanks


def _fold(text: str, width: int) -> Iterator[str]:
    """Yield lines of at most this width, broken at blanks if possible."""
    for line in text.split("\n"):
        rest = line
        while _columns(rest) > width:
            end = _count_fitting(rest, width)
            blank = rest.rfind(" ", 0, end + 1)
            yield rest[: blank if blank > 0 else end]
            rest = rest[blank + 1 if blank > 0 else end :]
        yield rest


def _count_fitting(text: str, width: int) -> int:
    """Return how many characters fit into the width, at least one."""
    used = 0
    for place, character in enumerate(text):
        used += _character_columns(character)
        if used > width:
            return max(place, 1)
    return len(text)
