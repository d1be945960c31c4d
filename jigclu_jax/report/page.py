"""One HTML page that stands alone: no script, no request, readable in light and dark and on paper."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from etils import epath
from PIL import Image

from jigclu_jax import atomic_file
from jigclu_jax.report import style

_LOSSLESS_BYTES = 400_000  # a larger picture is put in as JPEG
_UNBROKEN = 24  # a longer word, such as a path or a digest, may be broken anywhere
_ONE = r"-?\d[\d,]*(\.\d+)?(e[-+]\d+)?"
_NUMBER = re.compile(rf"{_ONE}(:\d\d)*( %)?( to {_ONE}( %)?)?")  # a number, a time, a share or the two ends of an interval


@dataclass(frozen=True)
class Text:
    """Paragraphs, parted by empty lines."""

    text: str


@dataclass(frozen=True)
class Share:
    """A fraction 0..1 in a table: percent with one decimal, and a bar where the table has room for it."""

    value: float
    bar: bool = True


Cell = str | int | float | Share | None


def interval_cell(ends: Sequence[float] | None) -> str | None:
    """A confidence interval of a fraction as a table shows it, "41.2 to 45.0 %"; None, which is shown as a dash, for None."""
    return None if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"


@dataclass(frozen=True)
class Table:
    """Rows of cells; None is shown as a dash, `best` marks the row of that number."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    best: int | None = None


@dataclass(frozen=True)
class Figure:
    """A picture with a caption: SVG text, encoded PNG or JPEG bytes, or a Pillow image; `alt` for who cannot see it."""

    image: str | bytes | Image.Image
    caption: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Gallery:
    """Small figures side by side, as many in a row as the window holds."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Config:
    """Nested fields, folded away until they are asked for."""

    title: str
    tree: Mapping[str, Any]


Block = Text | Table | Figure | Gallery | Config


@dataclass(frozen=True)
class Section:
    """A headed part of the page."""

    title: str
    blocks: Sequence[Block]


def write_page(path: epath.PathLike, title: str, sections: Sequence[Section], *, summary: str = "", footer: str = "") -> None:
    """Writes the page whole or not at all; sections without blocks are left out."""
    atomic_file.write_text(path, render_page(title, sections, summary=summary, footer=footer))


def render_page(title: str, sections: Sequence[Section], *, summary: str = "", footer: str = "") -> str:
    """The page as HTML; every text is escaped, every image lies inside as a data URI."""
    shown = [section for section in sections if section.blocks]
    contents = "".join(f'<li><a href="#s{number}">{escape(section.title)}</a></li>' for number, section in enumerate(shown))
    body = "\n".join(
        f'<section id="s{number}"><h2>{escape(section.title)}</h2>\n' + "\n".join(_block(block) for block in section.blocks) + "</section>"
        for number, section in enumerate(shown)
    )
    # the policy makes the promise of a page that fetches nothing one that the browser keeps
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{style.CSS}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>{f'<p class="summary">{escape(summary)}</p>' if summary else ""}
{f"<nav><ul>{contents}</ul></nav>" if len(shown) > 2 else ""}</header>
<main>
{body}
</main>
{f"<footer>{escape(footer)}</footer>" if footer else ""}
</body>
</html>
"""


def _block(block: Block) -> str:
    match block:
        case Text():
            return "".join(f"<p>{escape(part.strip())}</p>" for part in block.text.split("\n\n") if part.strip())
        case Table():
            return _table(block)
        case Figure():
            return _figure(block)
        case Gallery():
            return f'<div class="gallery">{"".join(_figure(figure) for figure in block.figures)}</div>'
        case Config():
            return f"<details><summary>{escape(block.title)}</summary>{_tree(block.tree)}</details>"


def _table(table: Table) -> str:
    numeric = [column > 0 and all(_is_number(row[column]) for row in table.rows) for column in range(len(table.header))]
    head = "".join(
        f'<th scope="col"{" class=n" if numeric[column] else ""}>{escape(name)}</th>' for column, name in enumerate(table.header)
    )
    lines = []
    for number, row in enumerate(table.rows):
        cells = "".join(_cell(cell, head=column == 0, numeric=numeric[column]) for column, cell in enumerate(row))
        lines.append(f"<tr{' class=best' if number == table.best else ''}>{cells}</tr>")
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    top = f"<thead><tr>{head}</tr></thead>" if any(table.header) else ""
    return f'<div class="wide"><table>{caption}{top}<tbody>{"".join(lines)}</tbody></table></div>'


def _is_number(cell: Cell) -> bool:
    return not isinstance(cell, str) or _NUMBER.fullmatch(cell) is not None


def _cell(cell: Cell, head: bool, numeric: bool) -> str:
    text = escape(format_cell(cell))
    if head:
        return f'<th scope="row">{text}</th>'
    if isinstance(cell, Share) and cell.bar:
        width = 100 * min(max(cell.value, 0.0), 1.0)
        return f'<td class="n share"><span>{text}</span><i><b style="width:{width:.1f}%"></b></i></td>'
    long = isinstance(cell, str) and any(len(word) > _UNBROKEN for word in cell.split())
    return f"<td{' class=n' if numeric else ' class=long' if long else ''}>{text}</td>"


def format_cell(cell: Cell) -> str:
    """A table's value as text: four significant digits, whole numbers whole, a fraction in percent, None a dash."""
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, Share):
        return f"{100 * cell.value:.1f} %"
    if isinstance(cell, float):
        return f"{cell:.4g}" if abs(cell) < 10_000 else f"{cell:,.0f}"
    return str(cell)


def _figure(figure: Figure) -> str:
    kind, data = _encoded(figure.image)
    uri = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    return f'<figure><div class="wide"><img src="{uri}" alt="{escape(figure.alt or figure.caption)}"></div>{caption}</figure>'


def _encoded(image: str | bytes | Image.Image) -> tuple[str, bytes]:
    if isinstance(image, str):
        return "image/svg+xml", image.encode()
    if isinstance(image, bytes):
        if len(image) <= _LOSSLESS_BYTES or not image.startswith(b"\x89PNG"):
            return ("image/png" if image.startswith(b"\x89PNG") else "image/jpeg"), image
        image = Image.open(io.BytesIO(image))
    lossless, lossy = io.BytesIO(), io.BytesIO()
    image.save(lossless, "PNG", optimize=True)
    if lossless.tell() <= _LOSSLESS_BYTES:
        return "image/png", lossless.getvalue()
    image.convert("RGB").save(lossy, "JPEG", quality=88, subsampling=0)  # full colour resolution: the outlines are thin
    return "image/jpeg", lossy.getvalue()


def _tree(tree: Mapping[str, Any]) -> str:
    items = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            items.append(f"<li>{escape(name)}{_tree(value)}</li>")
        else:
            items.append(f"<li>{escape(name)} <code>{escape(json.dumps(value, ensure_ascii=False))}</code></li>")
    return f'<ul class="tree">{"".join(items)}</ul>'


__all__ = ["Block", "Cell", "Config", "Figure", "Gallery", "Section", "Share", "Table", "Text", "format_cell", "render_page", "write_page"]
