"""The page of a fine-tuning: what the backbone is worth when it may move, how its rates were chosen, other starts beside it."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from jigclu_jax.report import curves
from jigclu_jax.report.page import Cell, Section, Share, Table, Text, interval_cell, write_page
from jigclu_jax.report.pretrain_report import describe
from jigclu_jax.report.workdir_files import REPORT_FILE, Run, curve_blocks, footer, read_run, run_rows, setting_section

READING = (
    "Backbone and classifier are trained together. The last epoch's figure is the one to compare; where accuracies were measured after"
    " several epochs, the best one is chosen on these images themselves and so flatters a little. Intervals are the 95 % bootstrap over"
    " these images, and say nothing about other seeds."
)
SEARCH = (
    "Each row is a run of its own on the same part of the training images, judged on the rest of them; the final run sees all training"
    " images, with the values of the best row, and looks at the evaluation images once."
)
_FIGURES = {
    "finetune_top1_last": "top-1, last epoch",
    "finetune_top1_best": "top-1, best epoch",
    "finetune_top5_last": "top-5, last epoch",
}
_STARTS = {"checkpoint": "pretrained backbone", "weights": "imported weights", "random": "from scratch"}


def finetune_page(workdir: epath.PathLike, *, classes: int = 0) -> epath.Path:
    """Writes `DIR/report.html` of a fine-tuning, its search and its controls; returns its path.

    `classes` is their number, for the line of chance; 0 leaves it out.
    """
    root = epath.Path(workdir)
    run = read_run(root)
    # with a search, the rows of the run that counts lie in a folder of their own
    trained = run if run.rows else read_run(root / "final")
    plots = curve_blocks(trained.rows, curves.finetune_panels(classes))
    rows = run_rows(Run(run.config, run.result, trained.rows, {}))
    table = start_table(run, classes)
    trials = search_table(run.result)
    sections = [
        Section("Accuracy", [Text(READING), table] if table.rows else []),
        Section("Search", [Text(SEARCH), trials] if trials.rows else []),
        Section("Curves", plots),
        Section("The run", [Table(("run", ""), rows)] if rows else []),
        setting_section(run),
    ]
    write_page(root / REPORT_FILE, "Fine-tuning", sections, summary=describe(run.config), footer=footer())
    return root / REPORT_FILE


def start_table(run: Run, classes: int) -> Table:
    """Three rows for each start, the run's own first, then its controls; below them guessing."""
    result = run.result
    rows: list[tuple[Cell, ...]] = []
    starts = {result.get("init", ""): result, **(result.get("controls") or {})}
    for start, found in starts.items():
        if found.get("finetune_top1_last") is None:
            continue
        values = _values(found.get("chosen") or {})
        for name, label in _FIGURES.items():
            figure = f"{_STARTS.get(start, start)}, {label}"
            rows.append((figure, Share(found[name]), interval_cell(found.get(f"{name}_interval")), values))
    if rows and classes:
        rows.append(("guessing, top-1", Share(1 / classes), None, ""))
        rows.append(("guessing, top-5", Share(min(5 / classes, 1.0)), None, ""))
    what = "held-out part of train" if result.get("held_out") else "evaluation images"
    return Table((what, "accuracy", "95 % interval", "trained with"), rows, best=0)


def search_table(result: Mapping[str, Any]) -> Table:
    """The trials of a search with their accuracy on the held-out part, the chosen one marked."""
    trials, chosen = result.get("search") or [], result.get("chosen")
    rows: list[tuple[Cell, ...]] = [
        (
            f"{trial['learning_rate']:g}",
            f"{trial['weight_decay']:g}",
            "diverged" if trial["top1"] is None else Share(trial["top1"]),
            interval_cell(trial.get("top1_interval")),
        )
        for trial in trials
    ]
    best = next((number for number, trial in enumerate(trials) if {name: trial[name] for name in chosen or {}} == chosen), None)
    return Table(("learning rate", "weight decay", "top-1, held-out part of train", "95 % interval"), rows, best=best)


def _values(chosen: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in chosen.items())


__all__ = ["finetune_page", "search_table", "start_table"]
