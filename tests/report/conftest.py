"""A strict reader of the report's pages: their structure as data."""

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Checked(HTMLParser):
    """Parses strictly, every element is closed in order; gathers sections, rows of tables, images, notices and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.images: list[tuple[str, bytes]] = []
        self.alts: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.sections: list[str] = []
        self.rows: list[list[str]] = []
        self.notices: list[str] = []
        self._notice = False
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = {name: value or "" for name, value in attrs}
        self.attributes += found.items()
        self._notice = found.get("class") == "notice"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "img":
            source = re.fullmatch(r"data:(image/[a-z+]+);base64,(.*)", found["src"])
            assert source
            self.images.append((source[1], base64.b64decode(source[2], validate=True)))
            self.alts.append(found["alt"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["style"] or not data.strip():
            return
        self.text.append(data.strip())
        if self.open[-1] == "h2":
            self.sections.append(data)
        if "tr" in self.open:
            self.rows[-1][-1] += data
        if self._notice:
            self.notices.append(data)

    def row(self, name: str) -> list[str]:
        """The one row that begins with this cell, without it."""
        (found,) = [row[1:] for row in self.rows if row and row[0] == name]
        return found


def assert_alone(html: str, parsed: Checked) -> None:
    assert "script" not in parsed.tags and "link" not in parsed.tags and "iframe" not in parsed.tags
    for name, value in parsed.attributes:
        assert not re.match(r"(https?:)?//", value), (name, value)
        assert not name.startswith("on")
        if name == "href":
            assert value.startswith("#")
    assert "@import" not in html and "url(" not in html
    assert not re.search(r"https?://", html)
    for kind, data in parsed.images:
        if kind == "image/svg+xml":  # the namespaces' names are all that looks like an address
            addresses = set(re.findall(r"https?://[^\"'\s<)]+", data.decode()))
            assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.fixture
def parse_html() -> Callable[[str], Checked]:
    """Parses a page that must be well formed and must fetch nothing."""

    def parse(html: str) -> Checked:
        parsed = Checked(html)
        assert_alone(html, parsed)
        return parsed

    return parse
