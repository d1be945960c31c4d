"""A strict reader of the report's pages."""

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Checked(HTMLParser):
    """Parses strictly: every element is closed in order; gathers texts, images and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.images: list[tuple[str, bytes]] = []
        self.attributes: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "img":
            found = re.fullmatch(r"data:(image/[a-z+]+);base64,(.*)", dict(attrs)["src"] or "")
            assert found
            self.images.append((found[1], base64.b64decode(found[2], validate=True)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"] and data.strip():
            self.text.append(data.strip())


def assert_alone(html: str, parsed: Checked) -> None:
    assert "script" not in parsed.tags and "link" not in parsed.tags and "iframe" not in parsed.tags
    for name, value in parsed.attributes:
        assert not re.match(r"(https?:)?//", value), (name, value)
        assert not name.startswith("on")
        if name == "href":
            assert value.startswith("#")
    assert "@import" not in html and "url(" not in html
    assert not re.search(r"https?://", html)


@pytest.fixture
def parse_html() -> Callable[[str], Checked]:
    """Parses a page that must be well formed and must fetch nothing."""

    def parse(html: str) -> Checked:
        parsed = Checked(html)
        assert_alone(html, parsed)
        return parsed

    return parse
