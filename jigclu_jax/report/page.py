"""One HTML page that stands alone: no script, no request, readable in light and dark and on paper. The template is `page.html.jinja`."""

import base64
import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from etils import epath

from jigclu_jax import atomic_file

_UNBROKEN = 24  # a longer word, such as a path or a digest, may be broken anywhere
_ONE = r"-?\d[\d,]*(\.\d+)?(e[-+]\d+)?"
_NUMBER = re.compile(rf"{_ONE}(:\d\d)*( %)?( to {_ONE}( %)?)?")  # a number, a time, a fraction or the two ends of an interval


@dataclass(frozen=True)
class Fraction:
    """A fraction 0..1 in a table: percent with one decimal, and a bar where the table has room for it."""

    value: float
    bar: bool = True

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} %"


Cell = str | int | float | Fraction | None
Row = tuple[Cell, ...]


class Block:
    """A part of a section; the template shows it by its `kind`."""

    @property
    def kind(self) -> str:
        return type(self).__name__


@dataclass(frozen=True)
class Text(Block):
    """Paragraphs, parted by empty lines; or a command line to be copied."""

    text: str
    command: bool = False


@dataclass(frozen=True)
class Table(Block):
    """Rows of cells; None is shown as a dash, `best` marks the row of that number."""

    header: Sequence[str]
    rows: Sequence[Row]
    best: int | None = None


@dataclass(frozen=True)
class Figure(Block):
    """A picture with a caption: SVG text or the bytes of a PNG; `alt` for who cannot see it."""

    image: str | bytes
    caption: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Gallery(Block):
    """Small figures side by side, as many in a row as the window holds."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Tree(Block):
    """Nested fields, folded away until they are asked for."""

    title: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Page:
    """What stands on a page: (heading, blocks) of its sections, left out without blocks; `notices` are what nobody may miss."""

    title: str
    sections: Sequence[tuple[str, Sequence[Block]]]
    summary: str = ""
    notices: Sequence[str] = ()
    footer: str = ""
    refresh: int = 0  # seconds after which a browser loads it anew; 0: never


def write(path: epath.Path, page: Page) -> epath.Path:
    """Writes the page whole or not at all; returns its path."""
    atomic_file.write_text(path, render(page))
    return path


def render(page: Page) -> str:
    """The page as HTML; every text is escaped, every image lies inside as a data URI."""
    return _environment().get_template("page.html.jinja").render(page=page)


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(loader=jinja2.PackageLoader("jigclu_jax", "report"), autoescape=True, undefined=jinja2.StrictUndefined)
    made.filters.update(cell=format_cell, data_uri=_data_uri, numeric_columns=_numeric_columns)
    made.filters.update(json=lambda value: json.dumps(value, ensure_ascii=False))
    made.tests.update(
        fraction=lambda cell: isinstance(cell, Fraction), long=lambda cell: any(len(word) > _UNBROKEN for word in str(cell).split())
    )
    return made


def format_cell(cell: Cell) -> str:
    """A table's value as text: four significant digits, whole numbers whole, None a dash."""
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, float):
        return f"{cell:.4g}" if abs(cell) < 10_000 else f"{cell:,.0f}"
    return str(cell)


def format_interval(ends: Sequence[float] | None) -> str | None:
    """A confidence interval of a fraction as a table shows it, "41.2 to 45.0 %"; None, which is shown as a dash, for None."""
    return None if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"


def _numeric_columns(table: Table) -> list[bool]:
    """Which columns stand to the right; the first names the rows."""
    return [
        column > 0 and all(not isinstance(row[column], str) or _NUMBER.fullmatch(str(row[column])) for row in table.rows)
        for column in range(len(table.header))
    ]


def _data_uri(image: str | bytes) -> str:
    kind, data = ("image/svg+xml", image.encode()) if isinstance(image, str) else ("image/png", image)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
