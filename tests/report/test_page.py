"""The page: well formed, escaped, without any address to fetch, written whole."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from jigclu_jax.report import page

ParseHtml = Callable[[str], Any]

NASTY = """<script>alert("x")</script> & 'quoted' </section> {{ page }} {% raw %}"""


def test_every_text_is_escaped(parse_html: ParseHtml) -> None:
    blocks = [
        page.Text(NASTY),
        page.Text(NASTY, command=True),
        page.Table((NASTY, "b"), [(NASTY, NASTY)]),
        page.Figure("<svg/>", NASTY, NASTY),
        page.Gallery([page.Figure("<svg/>", NASTY)]),
        page.Tree(NASTY, {NASTY: {NASTY: NASTY}}),
    ]
    html = page.render(page.Page(NASTY, [(NASTY, blocks)] * 3, summary=NASTY, notices=[NASTY], footer=NASTY))
    parsed = parse_html(html)
    assert parsed.sections == [NASTY] * 3 and parsed.notices == [NASTY]
    assert parsed.alts == [NASTY] * 6
    assert not {"script", "raw"} & set(parsed.tags)
    # title to footer, contents, then a section's heading and blocks; JSON has its own quotes
    assert sum(NASTY in text or NASTY.replace('"', '\\"') in text for text in parsed.text) == 5 + 3 + 3 * (1 + 2 + 3 + 1 + 1 + 4)


def test_table_shows_all_figures(parse_html: ParseHtml) -> None:
    rows = [("JigClu", page.Fraction(0.7184), 12345.6), ("random", page.Fraction(1.2), 3), ("none", None, 0.031234)]
    html = page.render(page.Page("t", [("s", [page.Table(("features", "top-1", "seconds"), rows, best=0)])]))
    parsed = parse_html(html)
    assert parsed.rows == [
        ["features", "top-1", "seconds"],
        ["JigClu", "71.8 %", "12,346"],
        ["random", "120.0 %", "3"],
        ["none", "–", "0.03123"],  # noqa: RUF001
    ]
    assert [value for name, value in parsed.attributes if name == "style"] == ["width:71.8%", "width:100.0%"], "bars stay in their frame"
    assert parsed.attributes.count(("class", "best")) == 1


def test_columns_of_numbers_stand_to_the_right_and_long_words_may_break() -> None:
    rows = [("a", "15.0 %", "-2.3 to 32.4", "3:41", "3.11.7", "f" * 40), ("b", None, "1 to 2 %", "12", "x", "")]
    html = page.render(page.Page("t", [("s", [page.Table(("",) * 6, rows)])]))
    right = 'class="n"'
    assert re.findall(r"<td ?([^>]*)>", html) == [right, right, right, "", 'class="long"', right, right, right, "", ""]
    assert "<thead>" not in html, "a head without a name is none"


def test_pictures_lie_inside(parse_html: ParseHtml) -> None:
    parsed = parse_html(page.render(page.Page("t", [("s", [page.Figure("<svg>é</svg>", alt="a"), page.Figure(b"\x89PNG...", "b")])])))
    assert parsed.images == [("image/svg+xml", "<svg>é</svg>".encode()), ("image/png", b"\x89PNG...")]
    assert parsed.alts == ["a", "b"]


def test_config_is_folded_and_whole(parse_html: ParseHtml) -> None:
    tree = {"seed": 0, "data": {"path": "a/b", "crop": [0.2, 1.0], "none": None}, "flag": True}
    parsed = parse_html(page.render(page.Page("t", [("s", [page.Tree("Configuration", tree)])])))
    assert "details" in parsed.tags and ("open", "") not in parsed.attributes
    assert parsed.text[-11:] == ["seed", "0", "data", "path", '"a/b"', "crop", "[0.2, 1.0]", "none", "null", "flag", "true"]


def test_empty_sections_are_left_out_and_contents_point_at_the_rest(parse_html: ParseHtml) -> None:
    sections = [(name, [page.Text("one\n\ntwo\n\n\n")] if name != "empty" else []) for name in ("a", "empty", "b", "c")]
    parsed = parse_html(page.render(page.Page("t", sections)))
    assert parsed.sections == ["a", "b", "c"] and parsed.tags.count("p") == 6
    links = [value[1:] for name, value in parsed.attributes if name == "href"]
    assert links == [value for name, value in parsed.attributes if name == "id"] and len(links) == 3


def test_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run" / "report.html"
    assert page.write(epath.Path(path), page.Page("first", [])) == path
    assert "<title>first</title>" in path.read_text(encoding="utf-8")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        page.write(epath.Path(path), page.Page("second", []))
    assert "<title>first</title>" in path.read_text(encoding="utf-8")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_browser_is_told_to_fetch_nothing_and_to_follow_the_colour_scheme() -> None:
    html = page.render(page.Page("t", []))
    policy = dict(re.findall(r"([a-z-]+-src) ([^;\"]+)", html))
    assert policy == {"default-src": "'none'", "img-src": "data:", "style-src": "'unsafe-inline'"}
    assert "@media(prefers-color-scheme:dark)" in html and 'name="color-scheme" content="light dark"' in html
