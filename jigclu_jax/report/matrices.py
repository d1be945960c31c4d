"""Drawings of evaluations and studies: what is taken for what, where features lie, intervals side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from jigclu_jax.report.curves import COLOURS, FADED, INK, empty_axes, legend_name

_NAMED = 40  # classes whose names fit beside a matrix
_NUMBERED = 12  # classes whose fractions fit into its cells
_LEGEND = 20
_LONGEST = 32  # characters of a name that fit beside a drawing


def draw_confusion(matrix: Int[np.ndarray, "c c"], names: Sequence[str]) -> Figure:
    """Fraction of the images of each class (row) that were predicted as each class (column); rows without images stay empty."""
    counts = matrix.sum(1, keepdims=True)
    fraction = np.where(counts > 0, matrix / np.maximum(counts, 1), np.nan)
    few = len(names) <= _NAMED
    side = min(2.2 + 0.42 * len(names), 9.0) if few else 8.0
    figure, axes = empty_axes(side + 1.0, side)
    image = axes.imshow(100 * fraction, cmap="Blues", vmin=0, vmax=100)
    axes.set_xlabel("taken for", color=INK)
    axes.set_ylabel("is", color=INK)
    if few:
        shown = [_shortened(name) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=60, ha="right")
        axes.set_yticks(range(len(names)), shown)
    if len(names) <= _NUMBERED:
        for row, column in np.argwhere(np.isfinite(fraction)):
            ink = "white" if fraction[row, column] > 0.55 else "#26262b"
            axes.text(column, row, f"{100 * fraction[row, column]:.0f}", ha="center", va="center", fontsize=8, color=ink)
    bar = figure.colorbar(image, ax=axes, shrink=0.7)
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.set_label("per cent of the row", fontsize=8, color=INK)
    bar.outline.set_edgecolor(FADED)
    return figure


def draw_map(points: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"], names: Sequence[str], *, along: Sequence[str]) -> Figure:
    """Images as points in two dimensions, coloured by class; `along` names the axes."""
    figure, axes = empty_axes(7.2, 6.6)
    for number, name in enumerate(names):
        own = labels == number
        marker = "osD^v"[number // len(COLOURS) % 5]
        style: dict[str, Any] = {"s": 14, "color": COLOURS[number % len(COLOURS)], "marker": marker, "alpha": 0.75, "linewidths": 0}
        axes.scatter(points[own, 0], points[own, 1], label=legend_name(_shortened(name)), **style)
    axes.set_xlabel(along[0], color=INK)
    axes.set_ylabel(along[1], color=INK)
    if len(names) <= _LEGEND:
        figure.legend(fontsize=8, frameon=False, labelcolor=INK, loc="outside lower center", markerscale=2, ncols=5)
    return figure


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def principal_axes(x: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " 2"]]:
    """(coordinates along the two directions of largest variance, each one's fraction of the whole variance)."""
    centred = x.astype(np.float64) - x.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    total = max(float(np.sum(values**2)), 1e-30)
    coordinates, fractions = np.zeros((len(x), 2)), np.zeros(2)
    count = min(2, len(values))
    coordinates[:, :count], fractions[:count] = left[:, :count] * values[:count], values[:count] ** 2 / total
    return coordinates, fractions


def draw_intervals(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """One line a row from the top: mean, interval low to high, single values, all fractions; the first row's interval is shaded."""
    figure, axes = empty_axes(7.2, 0.9 + 0.42 * len(rows))
    for place, row in enumerate(rows):
        colour = COLOURS[min(place, 1)]
        if row["low"] is not None:
            axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        if row["mean"] is not None:
            axes.plot([100 * value for value in row["values"]], [place] * len(row["values"]), "o", mfc="none", color=colour, markersize=6)
            axes.plot(100 * row["mean"], place, "D", color=colour, markersize=5)
    if rows[0]["low"] is not None:
        axes.axvspan(100 * rows[0]["low"], 100 * rows[0]["high"], color=COLOURS[0], alpha=0.12, linewidth=0)
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("top-1, per cent", fontsize=9, color=INK)
    axes.grid(True, axis="x", color=FADED, alpha=0.18, linewidth=0.7)
    return figure
