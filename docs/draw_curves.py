"""Draw docs/pictures/curves.svg and collapse.svg: what small trainings of each method looked like, and one that collapsed.

    python docs/draw_curves.py

The figures are those of docs/logs/rising_knn.jsonl, which benchmarks/rising_knn.py has written as rows.jsonl.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jigclu_jax.report.curves import COLOURS, FADED, INK, svg

DOCS = Path(__file__).resolve().parent
LOG, PICTURES = DOCS / "logs" / "rising_knn.jsonl", DOCS / "pictures"
COLLAPSED = "simsiam, gradient through targets"
PANELS = {"loss": "loss", "rank_features": "effective rank of the features", "knn_top1": "kNN, top-1"}
COLLAPSE_PANELS = {
    "loss": "loss",
    "embedding_std": "embedding_std",
    "rank_features": "effective rank of the features",
    "knn_top1": "kNN, top-1",
}
CHANCE = 0.1  # of ten classes

Rows = Sequence[Mapping[str, Any]]


def main() -> None:
    runs: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for line in LOG.read_text().splitlines():
        row = json.loads(line)
        if row["seed"] == 0:
            runs[row["method"]].append(row)
    collapsed = runs.pop(COLLAPSED, None)
    (PICTURES / "curves.svg").write_text(svg(table(runs)) + "\n")
    if collapsed:
        (PICTURES / "collapse.svg").write_text(svg(compared({"SimSiam": runs["simsiam"], "without its stop-gradient": collapsed})) + "\n")


def table(runs: Mapping[str, Rows]) -> Figure:
    """A line of drawings for each method; ranks and accuracies share their scales, losses have each their own."""
    figure = Figure(figsize=(8.2, 1.15 * len(runs) + 0.4), layout="constrained")
    axes = figure.subplots(len(runs), len(PANELS), squeeze=False)
    for row, (name, rows) in enumerate(runs.items()):
        for column, (metric, title) in enumerate(PANELS.items()):
            place = axes[row, column]
            if row or column:
                place.sharex(axes[0, 0])
            if row and column:
                place.sharey(axes[0, column])
            draw(place, rows, metric, COLOURS[column])
            if row == 0:
                place.set_title(title, fontsize=10, color=INK, loc="left")
            if row + 1 == len(runs):
                place.set_xlabel("epoch", fontsize=9, color=INK)
        axes[row, 0].set_ylabel(name, fontsize=10, fontweight="bold", color=INK)
    return prepared(figure)


def compared(runs: Mapping[str, Rows]) -> Figure:
    """Runs in the same drawings."""
    figure = Figure(figsize=(8.2, 2.4), layout="constrained")
    axes = figure.subplots(1, len(COLLAPSE_PANELS))
    for place, (metric, title) in zip(axes, COLLAPSE_PANELS.items(), strict=True):
        for colour, (name, rows) in zip(COLOURS, runs.items(), strict=False):
            draw(place, rows, metric, colour, name)
        place.set_title(title, fontsize=9, color=INK, loc="left")
        place.set_xlabel("epoch", fontsize=9, color=INK)
        if metric != "loss":
            place.set_ylim(bottom=0)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=9, frameon=False, labelcolor=INK)
    return prepared(figure)


def draw(place: Any, rows: Rows, metric: str, colour: str, name: str = "") -> None:
    """One curve; accuracies in percent, beside chance."""
    percent = 100 if metric == "knn_top1" else 1
    place.plot(
        [row["epoch"] for row in rows], [percent * row[metric] for row in rows], "o-", color=colour, linewidth=1.6, markersize=3, label=name
    )
    if metric == "knn_top1":
        place.axhline(100 * CHANCE, color=FADED, linestyle=":", linewidth=1)
        place.yaxis.set_major_formatter("{x:.0f} %")
    place.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    place.yaxis.set_major_locator(MaxNLocator(4))


def prepared(figure: Figure) -> Figure:
    """The figure without a ground of its own, its lines in the reader's ink."""
    figure.patch.set_alpha(0)
    for place in figure.axes:
        place.patch.set_alpha(0)
        place.tick_params(colors=INK, labelsize=8, length=3)
        place.grid(True, color=FADED, alpha=0.18, linewidth=0.7)
        for side, spine in place.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(FADED)
    return figure


if __name__ == "__main__":
    main()
