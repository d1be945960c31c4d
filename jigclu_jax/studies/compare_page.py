"""The page of a comparison: figures, differences of the configs, curves laid over each other."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from jigclu_jax.report import curves
from jigclu_jax.report.page import Cell, Section, Table, Text, write_page
from jigclu_jax.report.workdir_files import REPORT_FILE, curve_blocks, footer
from jigclu_jax.studies.compared_runs import Compared, differences, is_share

READING = (
    "Runs that differ by their seed alone stand together: mean ± standard deviation over the seeds, and in brackets the 95 % interval of"
    " the mean (Student's t). A single run, or seeds that gave the very same figure, have the bootstrap interval over the evaluation"
    " images where the result holds one. “Above”, “below” and, where intervals overlap, “not resolved” are against the first run with"
    " this figure."
)
_DIFFERENCES = "A dash stands where a run's configuration has no such field; fields that only some runs have, all alike, are left out."
_TITLES = {
    "loss": "Loss",
    "loss_cluster": "Clustering loss",
    "loss_location": "Location loss",
    "accuracy_retrieval": "Patch retrieval",
    "accuracy_location": "Location accuracy",
    "accuracy_top1": "Top-1, training batches",
    "probe_top1": "Linear probe, top-1",
    "probe_top5": "Linear probe, top-5",
    "finetune_top1": "Fine-tuning, top-1",
    "finetune_top5": "Fine-tuning, top-5",
    "online_top1": "Online head, top-1, training cells",
    "online_loss": "Online head, loss",
    "knn_top1": "kNN, top-1",
    "rank_features": "Effective rank, features",
    "rank_embeddings": "Effective rank, embeddings",
    "uniformity_features": "Uniformity, features",
    "uniformity_embeddings": "Uniformity, embeddings",
    "alignment_embeddings": "Alignment, embeddings",
    "learning_rate": "Learning rate",
    "gradient_norm": "Gradient norm",
    "images_per_second": "Images per second",
}
_HIDDEN = ("step", "epoch", "input_wait", "eval_images")


def compare_page(
    workdir: epath.PathLike, runs: Sequence[Compared], groups: Sequence[Mapping[str, Any]], broken: Sequence[str]
) -> epath.Path:
    """Writes `DIR/report.html`; `groups` as `compared_runs.compared` gives them; returns its path."""
    root = epath.Path(workdir)
    changed = differences(runs)
    rows: list[tuple[Cell, ...]] = [(name, *(_shown(value) for value in values)) for name, values in changed]
    left_out: list[tuple[Cell, ...]] = [(line,) for line in broken]
    sections = [
        Section("Figures", [Text(READING), _figure_table(groups)] if runs else []),
        Section(
            "Where the configurations differ", [Text(_DIFFERENCES), Table(("field", *(run.name for run in runs)), rows)] if rows else []
        ),
        Section("Curves", curve_blocks(_laid_over(runs), _panels(runs))),
        Section("Left out", [Table(("workdirs that cannot be read",), left_out)] if left_out else []),
    ]
    summary = f"{len(runs)} runs in {len(groups)} groups" if len(groups) < len(runs) else f"{len(runs)} runs"
    write_page(root / REPORT_FILE, "Runs side by side", sections, summary=summary, footer=footer())
    return root / REPORT_FILE


def _figure_table(groups: Sequence[Mapping[str, Any]]) -> Table:
    """A row for every figure, accuracies first, and a column for every group."""
    names = dict.fromkeys(name for group in groups for name in group["figures"])
    rows: list[tuple[Cell, ...]] = [
        (name + (", per cent" if is_share(name) else ""), *(_figure(name, group["figures"].get(name)) for group in groups))
        for name in sorted(names, key=lambda name: not is_share(name))
    ]
    return Table(("figure", *map(_group_name, groups)), rows)


def _figure(name: str, found: Mapping[str, Any] | None) -> Cell:
    """Mean, deviation, interval and verdict of a group's figure."""
    if found is None:
        return None
    scale = 100 if is_share(name) else 1
    text = f"{scale * found['mean']:.4g}"
    if found["deviation"] is not None:
        text += f" ± {scale * found['deviation']:.3g}"
    if found["low"] is None:
        return text
    text += f" ({scale * found['low']:.4g} to {scale * found['high']:.4g})"
    return text if found["verdict"] == "reference" else f"{text}, {found['verdict']}"


def _group_name(group: Mapping[str, Any]) -> str:
    first, *others = group["runs"]
    seeds = ", ".join(str(seed) for seed in group["seeds"])
    return f"{first} and {len(others)} more (seeds {seeds})" if others else f"{first} (seed {seeds})"


def _laid_over(runs: Sequence[Compared]) -> list[dict[str, Any]]:
    """The rows of all runs, every metric carrying its run's number, so that one panel draws them all."""
    kept = ("step", "epoch")
    return [
        {name if name in kept else f"{name} {number}": value for name, value in row.items()}
        for number, run in enumerate(runs)
        for row in run.run.rows
    ]


def _panels(runs: Sequence[Compared]) -> list[curves.Panel]:
    names = dict.fromkeys(name for run in runs for row in run.run.rows for name in row if name not in _HIDDEN)
    ordered = [name for name in _TITLES if name in names] + [name for name in names if name not in _TITLES]
    return [
        curves.Panel(
            _TITLES.get(name, name.replace("_", " ")),
            {f"{name} {number}": run.name for number, run in enumerate(runs)},
            percent=is_share(name),
            log=name == "gradient_norm",
            named=True,
        )
        for name in ordered
    ]


def _shown(value: Any) -> Cell:
    return None if value is None else value if isinstance(value, str) else json.dumps(value)


__all__ = ["compare_page"]
