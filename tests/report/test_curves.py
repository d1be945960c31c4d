"""Curves: which metrics share a drawing, levels of guessing, gaps, smoothing, names as they are written."""

import html
import math
import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest

from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.report import curves
from jigclu_jax.report.matrices import draw_confusion, draw_map

ROWS = [{"step": 10 * n, "epoch": n / 2, "loss": 7.0 - n, "accuracy_location": n / 10, "learning_rate": 0.03} for n in range(1, 7)]
SPECS = [
    loss_spec("loss", "loss", 9.5),
    accuracy_spec("accuracy_top1", "top-1, training batches", 0.1),
    accuracy_spec("probe_top1", "top-1, validation", 0.1),
    accuracy_spec("probe_top5", "top-5, validation", 1.0),
    MetricSpec("rank", "effective rank", about="Directions that are used."),
    accuracy_spec("knn", "kNN"),
]


def test_metrics_whose_titles_agree_share_a_drawing_with_the_level_of_guessing() -> None:
    panels = {panel.title: panel for panel in curves.panels(SPECS, {"probe_top1": {"random weights": 0.2}})}
    assert list(panels) == ["Loss", "Top-1", "Effective rank", "kNN"], "where guessing is always right, nothing is drawn"
    assert panels["Top-1"].series == {"accuracy_top1": "training batches", "probe_top1": "validation"}
    assert panels["Top-1"].reference == {"chance": 0.1, "random weights": 0.2} and panels["Top-1"].percent
    assert panels["Loss"].reference == {"nothing learned": 9.5} and not panels["Loss"].percent
    assert panels["Effective rank"].about == "Directions that are used."


def test_panel_draws_the_rows_and_the_reference() -> None:
    figure = curves.draw_panel(ROWS, curves.Panel("Location", {"accuracy_location": "location"}, {"chance": 0.25}, percent=True))
    assert figure is not None
    (axes,) = figure.axes
    curve, chance = axes.get_lines()
    np.testing.assert_allclose(curve.get_xdata(), [0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    np.testing.assert_allclose(curve.get_ydata(), [10, 20, 30, 40, 50, 60])
    np.testing.assert_allclose(chance.get_ydata(), [25, 25])
    assert axes.get_ylim() == (0, 100) and axes.get_xlabel() == "epoch"
    drawn = curves.svg(figure)
    assert "chance, 25 %" in drawn and "Location" in drawn


def test_metrics_that_are_missing_or_null() -> None:
    rows = [{"step": 1, "loss": None}, {"step": 2, "loss": 3.0}, {"step": 3}, {"step": 4, "loss": 2.0}]
    figure = curves.draw_panel(rows, curves.Panel("Loss", {"loss": "loss"}))
    assert figure is not None and figure.axes[0].get_xlabel() == "step"
    (curve,) = figure.axes[0].get_lines()
    np.testing.assert_array_equal(curve.get_xdata(), [1, 2, 4])
    np.testing.assert_array_equal(curve.get_ydata(), [math.nan, 3, 2])
    assert curves.draw_panel(rows, curves.Panel("Other", {"other": "other"})) is None
    assert curves.draw_panel(rows[:1], curves.Panel("Loss", {"loss": "loss"})) is None
    assert curves.draw_curves([], curves.panels(SPECS)) == []


def test_running_mean() -> None:
    values = np.array([1.0, 2, 6, 3, math.nan, 5])
    np.testing.assert_allclose(curves.running_mean(values, 1), [1.5, 3, 11 / 3, 4.5, math.nan, 5])
    np.testing.assert_array_equal(curves.running_mean(values, 0), values)


def test_many_points_are_smoothed_with_the_single_values_behind() -> None:
    rows = [{"step": n, "loss": float(n % 2)} for n in range(400)]
    figure = curves.draw_panel(rows, curves.Panel("Loss", {"loss": "loss"}))
    assert figure is not None
    single, smooth = figure.axes[0].get_lines()
    assert set(single.get_ydata()) == {0, 1}
    assert np.all(np.abs(np.asarray(smooth.get_ydata()) - 0.5) < 0.1)


def test_svg_stands_alone_follows_light_and_dark_and_is_the_same_each_time() -> None:
    drawn = curves.draw_curves(ROWS, curves.panels(SPECS))
    assert [panel.title for panel, _ in drawn] == ["Loss"] and drawn == curves.draw_curves(ROWS, curves.panels(SPECS))
    for _, text in drawn:
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "prefers-color-scheme:dark" in text and "currentColor" in text and "#010203" not in text
        assert set(re.findall(r"https?://[^\"'\s<)]+", text)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_no_global_state_of_matplotlib_is_used() -> None:
    import sys

    curves.draw_curves(ROWS, curves.panels(SPECS))
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.parametrize("values", [(-0.4, -0.3), (0.5, 0.5), (5.0, 6.5), (1.0, 1.0, 1.0, 400.0), (2.0,)])
def test_every_value_is_within_the_axes_and_a_few_large_ones_hide_nothing(values: tuple[float, ...]) -> None:
    rows = [{"step": n + 1, "y": value} for n, value in enumerate(values)]
    figure = curves.draw_panel(rows, curves.Panel("Y", {"y": "y"}))
    assert figure is not None
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    assert low < min(values) and max(values) < high and axes.get_xlim()[0] == 0 and axes.get_xlim()[1] >= len(values)
    assert (axes.get_yscale() == "log") == (max(values) > 100)


def test_a_run_has_its_colour_in_every_panel_and_its_name() -> None:
    rows = [{"step": n, "loss 0": 1.0, "loss 1": 2.0, "other 1": 3.0} for n in (1, 2)]
    panels = [curves.Panel(name, {f"{name} {run}": f"run {run}" for run in (0, 1)}, named=True) for name in ("loss", "other")]
    both, single = (curves.draw_panel(rows, panel) for panel in panels)
    assert both is not None and single is not None
    assert single.axes[0].get_lines()[0].get_color() == both.axes[0].get_lines()[1].get_color()
    legend = single.axes[0].get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == ["run 1"]


NAMES = ("5$_{$ bill", "US$ and A$", "_background_noise_", "\N{CJK UNIFIED IDEOGRAPH-732B}", "a&b<c>")


def test_names_of_classes_and_runs_are_shown_as_they_are_written() -> None:
    labels = np.arange(20) % len(NAMES)
    points = np.random.default_rng(0).normal(size=(20, 2))
    rows = [{"epoch": epoch, "step": epoch, **{name: epoch / 4 for name in NAMES}} for epoch in range(4)]
    panel = curves.Panel("US$ and A$", {name: name for name in NAMES}, {"chance": 0.1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = curves.draw_panel(rows, panel)
        assert figure is not None
        confusion = html.unescape(curves.svg(draw_confusion(np.eye(len(NAMES), dtype=np.int64), NAMES)))
        drawn = [html.unescape(curves.svg(one)) for one in (figure, draw_map(points, labels, NAMES, along=("first", "second")))]
    for name in NAMES:
        assert confusion.count(f">{name}<") == 2, "beside the rows and below the columns"
        assert all(f">{name}<" in text or f"> {name}<" in text for text in drawn)


def test_long_names_leave_room_for_the_drawing() -> None:
    names = ["x" * 200, "short"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = curves.svg(draw_confusion(np.eye(2, dtype=np.int64), names))
    assert ">short<" in drawn and "x" * 100 not in drawn and "xxxx…" in drawn
