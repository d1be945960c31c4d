"""The page of an ablation: its table, and every row's mean, interval and seeds in one drawing."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from matplotlib.figure import Figure as Drawing

from jigclu_jax.report import curves
from jigclu_jax.report.page import Cell, Figure, Section, Table, Text, format_cell, write_page
from jigclu_jax.report.pretrain_report import describe
from jigclu_jax.report.workdir_files import REPORT_FILE, footer, read_run, setting_section
from jigclu_jax.train.progress import duration

READING = (
    "Mean over the seeds, with the 95 % interval of the mean: Student's t over the seeds; of a single seed, or of seeds that gave the very"
    " same figure, the bootstrap over the evaluation images. All rows and seeds see the same images. “Not resolved” stands where a row's"
    " interval overlaps that of the first row."
)
_TITLES = {
    "montage": "Montages against images",
    "augmentation": "Each augmentation off in turn",
    "grid": "Patches a side",
    "overlap": "Overlap of the patches",
    "branches": "Each branch alone",
    "weights": "Weights of the branches",
}


def ablation_page(workdir: epath.PathLike) -> epath.Path:
    """Writes `DIR/report.html` of an ablation from its result.json and config.json; returns its path."""
    root = epath.Path(workdir)
    run = read_run(root)
    rows = run.result["rows"]
    cells: list[tuple[Cell, ...]] = [
        (row["label"], *_columns(row), row["epochs"], None if row["seconds_pretrain"] is None else duration(row["seconds_pretrain"]))
        for row in rows
    ]
    figure = Text(f"Figure: {run.result.get('figure', 'top-1')} of the job that judges ({run.config.get('judge', {}).get('job', '')}).")
    header = ("", "top-1", "deviation", "95 % interval", "seeds", "against the first row", "epochs", "time of pretraining")
    title = _TITLES.get(run.result["table"], run.result["table"])
    drawing = Figure(
        curves.svg(draw_intervals(rows)),
        "Bars are intervals, diamonds means, rings the single seeds; shaded is the first row's interval.",
        alt=f"{title}: intervals",
    )
    sections = [
        Section("Table", [Text(READING), figure, Table(header, cells, best=0)]),
        Section("Figure", [drawing]),
        setting_section(run),
    ]
    write_page(root / REPORT_FILE, f"Ablation: {title}", sections, summary=describe(run.config.get("pretrain", {})), footer=footer())
    return root / REPORT_FILE


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown."""
    lines = ["| | top-1 | deviation | 95 % interval | seeds | against the first row | epochs |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        shown = ["" if cell is None else format_cell(cell) for cell in (row["label"], *_columns(row), row["epochs"])]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _columns(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Mean, deviation, interval, seeds, verdict, in per cent."""
    seeds = ", ".join(str(seed) for seed in row["seeds"]) or "none"
    seeds += f" ({row['diverged']} diverged)" if row["diverged"] else ""
    if row["mean"] is None:
        return None, None, None, seeds, row["verdict"]
    deviation = None if row["deviation"] is None else f"{100 * row['deviation']:.2f}"
    interval = None if row["low"] is None else f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
    return f"{100 * row['mean']:.1f} %", deviation, interval, seeds, row["verdict"]


def draw_intervals(rows: Sequence[Mapping[str, Any]]) -> Drawing:
    """One line a row from the top: mean, interval, single seeds; in per cent."""
    drawing = Drawing(figsize=(7.2, 0.9 + 0.42 * len(rows)), layout="constrained")
    drawing.patch.set_alpha(0)
    axes = drawing.add_subplot()
    axes.patch.set_alpha(0)
    for place, row in enumerate(rows):
        if row["mean"] is None:
            continue
        colour = curves.COLOURS[0 if place == 0 else 1]
        if row["low"] is not None:
            axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([100 * value for value in row["values"]], [place] * len(row["values"]), "o", mfc="none", color=colour, markersize=6)
        axes.plot(100 * row["mean"], place, "D", color=colour, markersize=5)
    if rows[0]["low"] is not None:
        axes.axvspan(100 * rows[0]["low"], 100 * rows[0]["high"], color=curves.COLOURS[0], alpha=0.12, linewidth=0)
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("top-1, per cent", fontsize=9, color=curves.INK)
    axes.tick_params(colors=curves.INK, labelsize=9, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(curves.FADED)
    axes.grid(True, axis="x", color=curves.FADED, alpha=0.18, linewidth=0.7)
    return drawing


__all__ = ["ablation_page", "draw_intervals", "markdown_table"]
