"""The page of an ablation: its table, and every row's mean, interval and seeds in one drawing; and the table in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from jigclu_jax.report import page
from jigclu_jax.report.curves import svg
from jigclu_jax.report.matrices import draw_intervals
from jigclu_jax.report.page import Block, Figure, Row, Table, Text, format_cell
from jigclu_jax.report.sections import describe, ending, footer
from jigclu_jax.report.workdir_files import REPORT_FILE, read_run
from jigclu_jax.train.progress import duration

READING = (
    "Mean over the seeds, with the 95 % interval of the mean: Student's t over the seeds; of a single seed, or of seeds that gave the very"
    " same value, the bootstrap over the evaluation images. All rows and seeds see the same images. “Not resolved” stands where a row's"
    " interval overlaps that of the first row."
)
_HEADER = ("", "top-1", "deviation", "95 % interval", "seeds", "against the first row", "epochs")
_TITLES = {
    "montage": "Montages against images",
    "augmentation": "Each augmentation off in turn",
    "grid": "Patches a side",
    "overlap": "Overlap of the patches",
    "branches": "Each branch alone",
    "weights": "Weights of the branches",
    "plus": "From the authors' recipe to JigClu+",
    "arms": "Arms beside the first",
}


def ablation_page(workdir: epath.PathLike) -> epath.Path:
    """Writes `DIR/report.html` of an ablation from its result.json and config.json; returns its path."""
    run = read_run(workdir)
    rows, title = run.result["rows"], _TITLES.get(run.result["table"], run.result["table"])
    times = [None if row["seconds_pretrain"] is None else duration(row["seconds_pretrain"]) for row in rows]
    table = Table((*_header(rows), "time of pretraining"), [(*_cells(row), time) for row, time in zip(rows, times, strict=True)], best=0)
    metric = f"Metric: {run.result.get('metric', 'top-1')} of the job that judges ({run.config.get('judge', {}).get('job', '')})."
    caption = "Bars are intervals, diamonds means, rings the single seeds; shaded is the first row's interval."
    sections: list[tuple[str, Sequence[Block]]] = [
        ("Table", [Text(f"{READING}\n\n{metric}"), table]),
        ("Figure", [Figure(svg(draw_intervals(rows)), caption, f"{title}: intervals")]),
        *ending(run),
    ]
    made = page.Page(f"Ablation: {title}", sections, describe(run.config.get("pretrain", {})), footer=footer())
    return page.write(run.root / REPORT_FILE, made)


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown."""
    return markdown(_header(rows), [_cells(row) for row in rows])


def markdown(header: Sequence[str], rows: Sequence[Row]) -> str:
    """Any table in Markdown."""
    shown = [["" if cell is None else format_cell(cell) for cell in row] for row in rows]
    lines = [list(header), ["---"] * len(header), *shown]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cells(row: Mapping[str, Any]) -> Row:
    """Label, mean, deviation and interval in per cent, seeds, verdict, epochs."""
    seeds = ", ".join(str(seed) for seed in row["seeds"]) or "none"
    seeds += f" ({row['diverged']} diverged)" if row["diverged"] else ""
    mean = None if row["mean"] is None else f"{100 * row['mean']:.1f} %"
    deviation = None if row["deviation"] is None else f"{100 * row['deviation']:.2f}"
    interval = None if row["low"] is None else f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
    cells = (row["label"], mean, deviation, interval, seeds, row["verdict"], row["epochs"])
    return cells if row.get("u") is None else (*cells, f"{row['u']:.1f}")


def _header(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return _HEADER if rows[0].get("u") is None else (*_HEADER, "u an image")
