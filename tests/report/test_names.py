"""Names of classes and runs in drawings: shown as they are written, whatever is in them."""

import html
import warnings

import numpy as np

from jigclu_jax.report import curves
from jigclu_jax.report.matrices import draw_confusion, draw_map

NAMES = ("5$_{$ bill", "US$ and A$", "_background_noise_", "\N{CJK UNIFIED IDEOGRAPH-732B}", "a&b<c>")


def written(svg: str) -> str:
    return html.unescape(svg)


def test_drawings_show_names_as_they_are_written() -> None:
    labels = np.arange(20) % len(NAMES)
    points = np.random.default_rng(0).normal(size=(20, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confusion = written(curves.svg(draw_confusion(np.eye(len(NAMES), dtype=np.int64), NAMES)))
        plane = written(curves.svg(draw_map(points, labels, NAMES, along=("first", "second"))))
        curves.png(draw_confusion(np.eye(len(NAMES), dtype=np.int64), NAMES, title=NAMES[0]))
    for name in NAMES:
        assert confusion.count(f">{name}<") == 2, "beside the rows and below the columns"
        assert f">{name}<" in plane or f"> {name}<" in plane


def test_curves_show_names_as_they_are_written() -> None:
    rows = [{"epoch": epoch, "step": epoch, **{name: epoch / 4 for name in NAMES}} for epoch in range(4)]
    panel = curves.Panel("US$ and A$", {name: name for name in NAMES}, {"chance": 0.1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = curves.draw_panel(rows, panel)
        assert figure is not None
        drawing = written(curves.svg(figure))
    for name in NAMES:
        assert f">{name}<" in drawing or f"> {name}<" in drawing
