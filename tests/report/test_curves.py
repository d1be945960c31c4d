"""Curves: reference levels against their meaning, gaps, smoothing, and drawings that carry no address."""

import io
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from jigclu_jax.config import pretrain_config
from jigclu_jax.report import curves

ROWS = [{"step": 10 * n, "epoch": n / 2, "loss": 7.0 - n, "accuracy_location": n / 10, "learning_rate": 0.03} for n in range(1, 7)]


def clustering_loss(similarity: np.ndarray, clusters: np.ndarray, temperature: float, base: float) -> float:
    """The paper's loss, written out anchor by anchor."""
    total = 0.0
    for i in range(len(clusters)):
        others = [a for a in range(len(clusters)) if a != i]
        log_sum = math.log(sum(math.exp(similarity[i, a] / temperature) for a in others))
        positives = [a for a in others if clusters[a] == clusters[i]]
        total -= temperature / base * sum(similarity[i, p] / temperature - log_sum for p in positives) / len(positives)
    return total / len(clusters)


@pytest.mark.parametrize("similarity", ["collapsed", "orthogonal"])
def test_uninformed_losses_are_those_of_a_network_that_tells_nothing_apart(similarity: str) -> None:
    batch, grid = 5, 2
    clusters = np.repeat(np.arange(batch), grid * grid)
    matrix = np.ones((20, 20)) if similarity == "collapsed" else np.eye(20)
    cluster, location = curves.uninformed_losses(batch, grid, 0.3, 0.07)
    assert cluster == pytest.approx(clustering_loss(matrix, clusters, 0.3, 0.07), rel=1e-12)
    uniform = np.full(grid * grid, 1 / (grid * grid))
    assert location == pytest.approx(-math.log(uniform[0]))


def test_pretrain_panels_take_their_references_from_the_config() -> None:
    config = pretrain_config()
    config.method.grid, config.batch_size = 3, 64
    config.method.cluster_weight = 2.0
    panels = {panel.title: panel for panel in curves.pretrain_panels(config.to_dict())}
    assert panels["Location accuracy"].reference == {"chance": pytest.approx(1 / 9)}
    assert panels["Patch retrieval"].reference == {"chance": pytest.approx(8 / 575)}
    cluster, location = curves.uninformed_losses(64, 3, 0.3, 0.07)
    assert panels["Loss"].reference == {"nothing learned": pytest.approx(2 * cluster + location)}
    assert {"Learning rate", "Gradient norm", "Images per second"} <= set(panels)
    assert "Patch retrieval" not in {panel.title for panel in curves.pretrain_panels({})}


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
    assert curves.draw_curves([], curves.pretrain_panels({})) == []


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


def test_svg_stands_alone_and_follows_light_and_dark() -> None:
    for _, drawn in curves.draw_curves(ROWS, curves.pretrain_panels(pretrain_config().to_dict())):
        root = ElementTree.fromstring(drawn)
        assert root.tag.endswith("svg")
        assert "prefers-color-scheme:dark" in drawn and "currentColor" in drawn and "#010203" not in drawn
        # the namespaces' names are all that looks like an address
        addresses = re.findall(r"https?://[^\"'\s<)]+", drawn)
        assert set(addresses) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_same_rows_give_the_same_drawing() -> None:
    panels = curves.pretrain_panels(pretrain_config().to_dict())
    assert curves.draw_curves(ROWS, panels) == curves.draw_curves(ROWS, panels)


def test_png_for_documents() -> None:
    figure = curves.draw_panel(ROWS, curves.Panel("Loss", {"loss": "loss"}), width=4, height=3)
    assert figure is not None
    picture = Image.open(io.BytesIO(curves.png(figure, dpi=100)))
    assert picture.size == (400, 300)
    pixels = np.asarray(picture.convert("RGB"))
    assert (pixels[0, 0] == 255).all()
    assert (np.abs(pixels.astype(int) - np.array([0x3B, 0x7D, 0xD8])).sum(-1) < 30).any()  # the curve is there


def test_no_global_state_of_matplotlib_is_used() -> None:
    import sys

    curves.draw_curves(ROWS, curves.probe_panels(10, 0.4))
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_negative_values_and_a_single_point_are_within_the_axes() -> None:
    for values in ([-0.4, -0.3], [0.5, 0.5], [5.0, 6.5]):
        rows = [{"step": n + 1, "y": value} for n, value in enumerate(values)]
        for panel in (curves.Panel("Y", {"y": "y"}), curves.Panel("Y", {"y": "y"}, log=values[0] > 0)):
            figure = curves.draw_panel(rows, panel)
            assert figure is not None
            low, high = figure.axes[0].get_ylim()
            assert low < min(values) and max(values) < high
    figure = curves.draw_panel([{"step": 30, "y": 2.0}], curves.Panel("Y", {"y": "y"}))
    assert figure is not None and figure.axes[0].get_xlim() == (0, 33)


def test_a_run_has_its_colour_in_every_panel_and_its_name() -> None:
    rows = [{"step": n, "loss 0": 1.0, "loss 1": 2.0, "other 1": 3.0} for n in (1, 2)]
    panels = [curves.Panel(name, {f"{name} {run}": f"run {run}" for run in (0, 1)}, named=True) for name in ("loss", "other")]
    both, single = (curves.draw_panel(rows, panel) for panel in panels)
    assert both is not None and single is not None
    assert single.axes[0].get_lines()[0].get_color() == both.axes[0].get_lines()[1].get_color()
    legend = single.axes[0].get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == ["run 1"]
