"""Curves of a run from its metrics, as SVG drawings that read well on light and on dark ground."""

import contextlib
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Mid tones: enough contrast on white and on near black
COLOURS = ("#3b7dd8", "#e8722a", "#2f9e55", "#b04fc4", "#d6455d", "#1c9aa8", "#8a8d2b")
INK = "#010203"  # stands for the ink, replaced by the reader's own in the SVG
FADED = "#010204"
_LINES = ("-", "--", ":")  # more curves than colours
_LEGEND_ROW = 0.2  # inches by which a legend beneath makes a panel higher
_MANY = 120  # from that many points on, the curve is a running mean with the single values faint behind it

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Panel:
    """One drawing: `series` maps a metric's name to its label, `reference` labels horizontal lines (in metric units)."""

    title: str
    series: Mapping[str, str]
    reference: Mapping[str, float] = field(default_factory=dict)
    percent: bool = False  # fractions, shown as percent from 0 to 100
    log: bool = False
    named: bool = False  # a legend also where there is a single curve


def uninformed_losses(batch_size: int, grid: int, temperature: float, base_temperature: float) -> tuple[float, float]:
    """(clustering, location) loss of a network that tells nothing apart: what both must fall below.

    With all N = batch_size * m * m embeddings equal (collapse), or all of them orthogonal, every softmax is uniform:
    T / T0 * log(N - 1), and log(m * m) for the location.
    """
    patches = batch_size * grid * grid
    return temperature / base_temperature * math.log(patches - 1), math.log(grid * grid)


def pretrain_panels(config: Mapping[str, Any]) -> list[Panel]:
    """The panels of a pretraining run, `config` being its config.json; with what a network that knows nothing reaches."""
    try:
        method, batch = config["method"], int(config["batch_size"])
        grid = int(method["grid"])
        cluster, location = uninformed_losses(batch, grid, float(method["temperature"]), float(method["base_temperature"]))
        total = float(method["cluster_weight"]) * cluster + float(method["location_weight"]) * location
    except (KeyError, TypeError, ValueError):  # another method's config: no such yardstick
        return supervised_panels(0)
    chance_retrieval = (grid * grid - 1) / (batch * grid * grid - 1)
    return [
        Panel("Loss", {"loss": "loss"}, {"nothing learned": total}),
        Panel("Clustering loss", {"loss_cluster": "clustering"}, {"nothing learned": cluster}),
        Panel("Location loss", {"loss_location": "location"}, {"nothing learned": location}),
        Panel("Patch retrieval", {"accuracy_retrieval": "retrieval"}, {"chance": chance_retrieval}, percent=True),
        Panel("Location accuracy", {"accuracy_location": "location"}, {"chance": 1 / (grid * grid)}, percent=True),
        *_watched_panels(),
        *_common_panels(),
    ]


def supervised_panels(classes: int) -> list[Panel]:
    """The panels of training with labels; `classes` 0 where their number, hence chance, is not known."""
    reference = {"chance": 1 / classes} if classes else {}
    untrained = {"nothing learned": math.log(classes)} if classes else {}
    return [
        Panel("Loss", {"loss": "training"}, untrained),
        Panel("Accuracy", {"accuracy_top1": "top-1, training batches"}, reference, percent=True),
        *_watched_panels(),
        *_common_panels(),
    ]


def probe_panels(classes: int, random_init: float | None = None) -> list[Panel]:
    """The panels of a linear probe; `random_init` is the top-1 fraction of the same probe on a random backbone."""
    reference = {"chance": 1 / classes} if classes else {}
    if random_init is not None:
        reference["random backbone"] = random_init
    accuracies = {"accuracy_top1": "top-1, training batches", "probe_top1": "top-1, validation", "probe_top5": "top-5, validation"}
    return [
        Panel("Loss", {"loss": "training"}, {"nothing learned": math.log(classes)} if classes else {}),
        Panel("Accuracy", accuracies, reference, percent=True),
        *_common_panels(),
    ]


def finetune_panels(classes: int) -> list[Panel]:
    """The panels of a fine-tuning; `classes` 0 where chance is not known."""
    accuracies = {"accuracy_top1": "top-1, training batches", "finetune_top1": "top-1, held out", "finetune_top5": "top-5, held out"}
    chance = {"chance": 1 / classes} if classes else {}
    return [Panel("Loss", {"loss": "training"}), Panel("Accuracy", accuracies, chance, percent=True), *_common_panels()]


def _watched_panels() -> list[Panel]:
    """What `config.online` watches; a panel without data is not drawn."""
    return [
        Panel("Accuracy, watched", {"knn_top1": "kNN, evaluation images", "online_top1": "online head, training cells"}, percent=True),
        Panel("Online head", {"online_loss": "loss"}),
        Panel("Effective rank", {"rank_features": "features", "rank_embeddings": "embeddings"}),
        Panel("Uniformity", {"uniformity_features": "features", "uniformity_embeddings": "embeddings"}, {"collapsed": 0.0}),
        Panel("Alignment", {"alignment_embeddings": "embeddings"}),
    ]


def _common_panels() -> list[Panel]:
    return [
        Panel("Learning rate", {"learning_rate": "learning rate"}),
        Panel("Gradient norm", {"gradient_norm": "gradient norm"}, log=True),
        Panel("Images per second", {"images_per_second": "images/s"}),
    ]


def draw_panel(rows: Rows, panel: Panel, *, width: float = 4.6, height: float = 2.7) -> Figure | None:
    """The panel as a figure of its own (inches, no global state of matplotlib), None where no row has any of its metrics."""
    curves = [(number, label, *_curve(rows, name)) for number, (name, label) in enumerate(panel.series.items())]
    curves = [curve for curve in curves if len(curve[2])]
    if not curves:
        return None
    entries = len(curves) + len(panel.reference)
    height += _LEGEND_ROW * math.ceil(entries / 2) if entries > 2 else 0
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    scale, unit = (100.0, " %") if panel.percent else (1.0, "")
    for number, label, x, y in curves:  # by number, so that a run has its colour in every panel
        colour, line = COLOURS[number % len(COLOURS)], _LINES[number // len(COLOURS) % len(_LINES)]
        y = y * scale
        smooth = running_mean(y, len(y) // 40) if len(y) >= _MANY else y
        if smooth is not y:
            axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.3)
        marker = "o" if len(x) <= 12 else None
        axes.plot(x, smooth, color=colour, linestyle=line, linewidth=1.8, label=legend_name(label), marker=marker, markersize=3.5)
    for number, (label, value) in enumerate(panel.reference.items()):
        style = ("--", ":", "-.")[number % 3]
        axes.axhline(value * scale, color=FADED, linewidth=1.1, linestyle=style, label=f"{label}, {_figure(value * scale)}{unit}")
    axes.set_title(panel.title, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    axes.set_xlabel("epoch" if _has_epochs(rows) else "step", fontsize=9, color=INK)
    _scale(axes, panel)
    axes.set_xlim(left=0, right=None if any(np.ptp(x) for _, _, x, _ in curves) else 1.1 * max(1.0, *(x[0] for _, _, x, _ in curves)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.tick_params(colors=INK, labelsize=8.5, length=3)
    axes.grid(True, color=FADED, alpha=0.18, linewidth=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FADED)
    if entries > 2:  # a long legend would lie on the lines
        figure.legend(fontsize=8, frameon=False, labelcolor=INK, loc="outside lower center", ncols=2)
    elif entries == 2 or panel.named:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return figure


def _scale(axes: Any, panel: Panel) -> None:
    if panel.percent:
        axes.set_ylim(0, 100)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    elif panel.log:
        low, high = axes.dataLim.intervaly
        if high < 4 * low:  # too few of a logarithmic axis's ticks would lie within
            axes.yaxis.set_major_locator(MaxNLocator(5))
            return
        axes.set_yscale("log")
        # a norm seldom spans a decade: label the minor ticks too, in plain figures
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _figure(value)))
        low, high = axes.get_ylim()
        digits = (2, 5) if high > 10 * low else (2, 3, 4, 6, 8)
        axes.yaxis.set_minor_formatter(
            FuncFormatter(lambda value, _: _figure(value) if round(value / 10 ** math.floor(math.log10(value) + 1e-9)) in digits else "")
        )
        axes.tick_params(which="minor", labelsize=8.5, colors=INK, length=2)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
        low, high = axes.dataLim.intervaly
        if not panel.reference and 0 <= low <= high and high:  # rates and speeds are read against zero
            axes.set_ylim(0, 1.06 * high)


def legend_name(name: str) -> str:
    """The name for a legend, which leaves out what begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


@contextlib.contextmanager
def _as_written(figure: Figure) -> Iterator[None]:
    """Names of classes and runs are text, a $ in them included; a reader's own font has glyphs that matplotlib's lacks."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():  # for labels that are made while drawing
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        yield


def svg(figure: Figure) -> str:
    """The figure as SVG text whose ink follows the reader's light or dark setting; no date, no address to fetch."""
    buffer = io.StringIO()
    options: Any = {"svg.fonttype": "none", "svg.hashsalt": "jigclu", "font.family": "sans-serif"}
    with matplotlib.rc_context(options), _as_written(figure):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    text = buffer.getvalue()
    text = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", text, flags=re.DOTALL).strip()
    text = re.sub(r"font: (\S+ )?([\d.]+px) [^;\"]*", r"font: \g<1>\2 system-ui, sans-serif", text)
    text = text.replace(INK, "currentColor").replace(FADED, "currentColor")
    style = "<style>svg{color:#26262b}@media(prefers-color-scheme:dark){svg{color:#d9d9de}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", rf"\1{style}", text, count=1)


def png(figure: Figure, dpi: int = 144) -> bytes:
    """The figure as PNG on white, for documents that take no SVG."""
    figure.patch.set_alpha(1)
    figure.patch.set_facecolor("white")
    buffer = io.BytesIO()
    figure.set_dpi(dpi)
    with _as_written(figure):
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def draw_curves(rows: Rows, panels: Sequence[Panel]) -> list[tuple[str, str]]:
    """(title, SVG) of every panel that has data."""
    drawn = [(panel.title, draw_panel(rows, panel)) for panel in panels]
    return [(title, svg(figure)) for title, figure in drawn if figure is not None]


def running_mean(values: np.ndarray, radius: int) -> np.ndarray:
    """Mean of the values up to `radius` away on both sides, of those that there are at the ends; NaN stays a gap."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    index = np.arange(len(values))
    low, high = np.maximum(index - radius, 0), np.minimum(index + radius, len(values) - 1) + 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, (sums[high] - sums[low]) / (counts[high] - counts[low]), np.nan)


def _has_epochs(rows: Rows) -> bool:
    return bool(rows) and all(row.get("epoch") is not None for row in rows)


def _curve(rows: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    across = "epoch" if _has_epochs(rows) else "step"
    points = [(row[across], math.nan if row[name] is None else row[name]) for row in rows if name in row]
    if not any(math.isfinite(y) for _, y in points):
        return np.empty(0), np.empty(0)
    x, y = np.array(points, np.float64).T
    return x, y


def _figure(value: float) -> str:
    return f"{value:.3g}"


__all__ = [
    "Panel",
    "draw_curves",
    "draw_panel",
    "finetune_panels",
    "png",
    "pretrain_panels",
    "probe_panels",
    "running_mean",
    "supervised_panels",
    "svg",
    "uninformed_losses",
]
