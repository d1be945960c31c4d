"""The page: well formed, escaped, without any address to fetch, written whole."""

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jigclu_jax.report import page

ParseHtml = Callable[[str], Any]

NASTY = """<script>alert("x")</script> & 'quoted' </section>"""


def test_every_text_is_escaped(parse_html: ParseHtml) -> None:
    blocks = [
        page.Text(NASTY),
        page.Table((NASTY, "b"), [(NASTY, NASTY)], caption=NASTY),
        page.Figure("<svg/>", NASTY, NASTY),
        page.Gallery([page.Figure("<svg/>", NASTY)]),
        page.Config(NASTY, {NASTY: {NASTY: NASTY}}),
    ]
    html = page.render_page(NASTY, [page.Section(NASTY, blocks)] * 3, summary=NASTY, footer=NASTY)
    parsed = parse_html(html)
    assert parsed.text.count(NASTY) == 4 + 3 + 3 * (1 + 1 + 4 + 1 + 1 + 3)  # title to footer, contents, then a section's heading and blocks
    assert ("alt", NASTY) in parsed.attributes


def test_table_shows_all_figures(parse_html: ParseHtml) -> None:
    rows = [("JigClu", page.Share(0.7184), 12345.6), ("random", page.Share(1.2), 3), ("none", None, 0.031234)]
    html = page.render_page("t", [page.Section("s", [page.Table(("features", "top-1", "seconds"), rows, best=0)])])
    parsed = parse_html(html)
    assert parsed.text[-9:] == ["JigClu", "71.8 %", "12,346", "random", "120.0 %", "3", "none", "–", "0.03123"]  # noqa: RUF001
    widths = [value for name, value in parsed.attributes if name == "style"]
    assert widths == ["width:71.8%", "width:100.0%"]
    assert html.count("<tr class=best>") == 1 and '<tr class=best><th scope="row">JigClu' in html


def test_images_lie_inside(parse_html: ParseHtml) -> None:
    small = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8))
    large_png = io.BytesIO()
    large.save(large_png, "PNG")
    figures = [page.Figure(small, "small"), page.Figure(large), page.Figure(large_png.getvalue()), page.Figure("<svg>é</svg>")]
    parsed = parse_html(page.render_page("t", [page.Section("s", [*figures])]))
    kinds = [kind for kind, _ in parsed.images]
    assert kinds == ["image/png", "image/jpeg", "image/jpeg", "image/svg+xml"]
    assert (np.asarray(Image.open(io.BytesIO(parsed.images[0][1]))) == np.asarray(small)).all()
    assert Image.open(io.BytesIO(parsed.images[1][1])).size == (500, 500)
    assert parsed.images[3][1].decode() == "<svg>é</svg>"


def test_config_is_folded_and_whole(parse_html: ParseHtml) -> None:
    tree = {"seed": 0, "data": {"path": "a/b", "crop": [0.2, 1.0], "none": None}, "flag": True}
    parsed = parse_html(page.render_page("t", [page.Section("s", [page.Config("Configuration", tree)])]))
    assert "details" in parsed.tags and ("open", "") not in parsed.attributes
    assert parsed.text[-11:] == ["seed", "0", "data", "path", '"a/b"', "crop", "[0.2, 1.0]", "none", "null", "flag", "true"]


def test_empty_sections_are_left_out_and_contents_point_at_the_rest(parse_html: ParseHtml) -> None:
    sections = [page.Section(name, [page.Text("text")] if name != "empty" else []) for name in ("a", "empty", "b", "c")]
    parsed = parse_html(page.render_page("t", sections))
    assert "empty" not in parsed.text
    links = [value[1:] for name, value in parsed.attributes if name == "href"]
    assert links == [value for name, value in parsed.attributes if name == "id"] and len(links) == 3


def test_paragraphs(parse_html: ParseHtml) -> None:
    parsed = parse_html(page.render_page("t", [page.Section("s", [page.Text("one\n\ntwo\n\n\n")])]))
    assert parsed.tags.count("p") == 2


def test_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run" / "report.html"
    page.write_page(path, "first", [])
    assert "<title>first</title>" in path.read_text(encoding="utf-8")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        page.write_page(path, "second", [])
    assert "<title>first</title>" in path.read_text(encoding="utf-8")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_browser_is_told_to_fetch_nothing_and_to_follow_the_colour_scheme() -> None:
    html = page.render_page("t", [])
    policy = dict(re.findall(r"([a-z-]+-src) ([^;\"]+)", html))
    assert policy == {"default-src": "'none'", "img-src": "data:", "style-src": "'unsafe-inline'"}
    assert "@media(prefers-color-scheme:dark)" in html and html.count("--ground:") == 2


def test_columns_of_numbers_stand_to_the_right_and_long_words_may_break(parse_html: ParseHtml) -> None:
    rows = [
        ("a", "15.0 %", "-2.3 to 32.4", "3:41", "3.11.7", "f" * 40, page.Share(0.5, bar=False)),
        ("b", None, "1 to 2 %", "12", "x", "", 1e-7),
    ]
    html = page.render_page("t", [page.Section("s", [page.Table(("", "", "", "", "", "", ""), rows)])])
    cells = re.findall(r"<td([^>]*)>([^<]*)</td>", html)
    assert [kind for kind, _ in cells] == [" class=n", " class=n", " class=n", "", " class=long", " class=n"] + [" class=n"] * 3 + [
        "",
        "",
        " class=n",
    ]
    assert "<thead>" not in html, "a head without a name is none"
    assert ("style", "width:50.0%") not in parse_html(html).attributes
