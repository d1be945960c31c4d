"""Curves of a run from its metrics, as SVG drawings that read well on light and on dark ground."""

import contextlib
import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from jigclu_jax.metrics import MetricSpec
from jigclu_jax.report.pictures import INK as INK_STYLE

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
    named: bool = False  # a legend also where there is a single curve
    about: str = ""  # for the caption


def panels(specs: Sequence[MetricSpec], references: Mapping[str, Mapping[str, float]] | None = None) -> list[Panel]:
    """What is drawn of some metrics: those whose titles agree up to the first comma together, with the level of guessing.

    `references` gives a metric further lines, label -> level.
    """
    groups: dict[tuple[str, str], list[MetricSpec]] = {}
    for spec in telling(specs):
        groups.setdefault((spec.title.partition(", ")[0], spec.unit), []).append(spec)
    found = []
    for (title, unit), members in groups.items():
        lines: dict[str, float] = {}
        series = {spec.name: spec.title.partition(", ")[2] or spec.title for spec in members}
        levels = {spec.name: spec.chance for spec in members if spec.chance is not None}
        for spec in members:
            if spec.name in levels:
                word = "chance" if spec.better == "max" else "nothing learned"
                lines[word if len(set(levels.values())) == 1 else f"{word}, {series[spec.name]}"] = levels[spec.name]
            lines |= (references or {}).get(spec.name, {})
        about = " ".join(dict.fromkeys(spec.about for spec in members if spec.about))
        found.append(Panel(headline(title), series, lines, percent=unit == "%", about=about))
    return found


def telling(specs: Iterable[MetricSpec]) -> list[MetricSpec]:
    """The metrics without those of which guessing is always right: top-5 of five classes says nothing."""
    return [spec for spec in specs if spec.unit != "%" or spec.chance is None or spec.chance < 1]


def headline(title: str) -> str:
    """The title with a capital, unless it is written as `kNN` is."""
    return title if title[1:2].isupper() else title[:1].upper() + title[1:]


def draw_panel(rows: Rows, panel: Panel, *, width: float = 4.6, height: float = 2.7) -> Figure | None:
    """The panel as a figure of its own (inches, no global state of matplotlib), None where no row has any of its metrics."""
    curves = [(number, label, *_curve(rows, name)) for number, (name, label) in enumerate(panel.series.items())]
    curves = [curve for curve in curves if len(curve[2])]
    if not curves:
        return None
    entries = len(curves) + len(panel.reference)
    height += _LEGEND_ROW * math.ceil(entries / 2) if entries > 2 else 0
    figure, axes = empty_axes(width, height)
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
    _scale(axes, panel, _spread(np.concatenate([y for *_, y in curves])))
    axes.set_xlim(left=0, right=None if any(np.ptp(x) for _, _, x, _ in curves) else 1.1 * max(1.0, *(x[0] for _, _, x, _ in curves)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(True, color=FADED, alpha=0.18, linewidth=0.7)
    if entries > 2:  # a long legend would lie on the lines
        figure.legend(fontsize=8, frameon=False, labelcolor=INK, loc="outside lower center", ncols=2)
    elif entries == 2 or panel.named:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return figure


def empty_axes(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of that size in inches and its axes, without a ground of their own."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    for part in (figure, axes):
        part.patch.set_alpha(0)
    axes.tick_params(colors=INK, labelsize=8.5, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FADED)
    return figure, axes


def _scale(axes: Any, panel: Panel, spread: bool) -> None:
    if panel.percent:
        axes.set_ylim(0, 100)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    elif spread:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _figure(value)))
        axes.yaxis.set_minor_locator(NullLocator())
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
    options: Any = {"svg.fonttype": "none", "svg.hashsalt": "curves", "font.family": "sans-serif"}
    with matplotlib.rc_context(options), _as_written(figure):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    text = buffer.getvalue()
    text = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", text, flags=re.DOTALL).strip()
    text = re.sub(r"font: (\S+ )?([\d.]+px) [^;\"]*", r"font: \g<1>\2 system-ui, sans-serif", text)
    text = text.replace(INK, "currentColor").replace(FADED, "currentColor")
    return re.sub(r"(<svg\b[^>]*>)", rf"\1{INK_STYLE}", text, count=1)


def draw_curves(rows: Rows, wanted: Sequence[Panel]) -> list[tuple[Panel, str]]:
    """(panel, SVG) of every panel that has data."""
    drawn = [(panel, draw_panel(rows, panel)) for panel in wanted]
    return [(panel, svg(figure)) for panel, figure in drawn if figure is not None]


def running_mean(values: np.ndarray, radius: int) -> np.ndarray:
    """Mean of the values up to `radius` away on both sides, of those that there are at the ends; NaN stays a gap."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, radius, constant_values=np.nan), 2 * radius + 1)
    counts = np.isfinite(windows).sum(-1)
    return np.where(np.isfinite(values), np.nansum(windows, -1) / np.maximum(counts, 1), np.nan)


def _spread(values: np.ndarray) -> bool:
    """Whether a few values tower over the rest, so that a linear axis would show nothing of it."""
    known = values[np.isfinite(values)]
    return bool(known.min() > 0 and known.max() > 10 * np.median(known))


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
