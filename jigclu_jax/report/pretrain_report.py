"""The report of a training run without a probe: how the losses fell, and what the network was shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from jigclu_jax.report import curves
from jigclu_jax.report.page import Block, Cell, Section, Share, Table, Text, write_page
from jigclu_jax.report.workdir_files import (
    REPORT_FILE,
    Run,
    curve_blocks,
    footer,
    last_value,
    picture_blocks,
    read_run,
    run_rows,
    setting_section,
)

_VALUES = {
    "loss": "loss",
    "loss_cluster": "clustering loss",
    "loss_location": "location loss",
    "accuracy_retrieval": "patch retrieval",
    "accuracy_location": "location accuracy",
    "accuracy_top1": "top-1, training batches",
}
READING = (
    "Patch retrieval is the share of patches whose nearest other patch of the batch, by embedding, comes from the same image;"
    " location accuracy the share whose place in their image is told right. “Nothing learned” is the loss of a network"
    " that tells no patches apart, chance the accuracy of guessing."
)


def pretrain_page(workdir: epath.PathLike, *, classes: int = 0) -> epath.Path:
    """Writes `DIR/report.html` from the workdir's config.json, metrics.jsonl, result.json and pictures/; returns its path.

    Works while the run goes on, too, with what is there. `classes` is the number of classes of training with labels
    (for the line of chance), 0 where there are none.
    """
    root = epath.Path(workdir)
    run = read_run(root)
    supervised = (run.config.get("method") or {}).get("name") == "supervised"
    panels = curves.supervised_panels(classes) if supervised else curves.pretrain_panels(run.config)
    title = "Training with labels" if supervised else "Pretraining by jigsaw clustering"
    reading: Sequence[Block] = [] if supervised else [Text(READING)]
    plots = curve_blocks(run.rows, panels)
    sections = [
        Section("Outcome", outcome_tables(run)),
        Section("Curves", [*reading, *plots] if plots else []),
        Section("What the network sees", picture_blocks(run)),
        setting_section(run),
    ]
    write_page(root / REPORT_FILE, title, sections, summary=describe(run.config), footer=footer())
    return root / REPORT_FILE


def outcome_tables(run: Run) -> list[Block]:
    """Last values of the training metrics, and how the run went; no table for what is not there."""
    values: list[tuple[Cell, ...]] = [
        (label, Share(value) if name.startswith("accuracy_") else value)
        for name, label in _VALUES.items()
        if (value := last_value(run.rows, name)) is not None
    ]
    rows = run_rows(run)
    tables: list[Block] = [Table(("metric", "last logged"), values)] if values else []
    return [*tables, Table(("run", ""), rows)] if rows else tables


def describe(config: Mapping[str, Any]) -> str:
    """One line on the run: backbone, patches, batch, epochs, data; what the config does not say is left out."""
    model, method, data = (config.get(name) or {} for name in ("model", "method", "data"))
    parts = []
    if model.get("arch"):  # a probe may leave the backbone to the checkpoint
        stem = {"imagenet": "ImageNet stem", "small": "small-image stem"}.get(model.get("stem", ""), "")
        width = f"width {model['width']:g}" if model.get("width", 1) != 1 else ""
        inside = ", ".join(part for part in (stem, width) if part)
        parts.append(f"{model['arch']} ({inside})" if inside else model["arch"])
    if method.get("grid", 1) > 1:
        parts.append(f"{method['grid']} by {method['grid']} patches")
    if data.get("image_size"):
        parts.append(f"{data['image_size']} pixels")
    if config.get("batch_size"):
        parts.append(f"batch {config['batch_size']}")
    if config.get("epochs"):
        parts.append(f"{config['epochs']:g} epoch{'' if config['epochs'] == 1 else 's'}")
    if data.get("source"):
        parts.append(f"{data['source']} data")
    return ", ".join(parts)


__all__ = ["READING", "describe", "outcome_tables", "pretrain_page"]
