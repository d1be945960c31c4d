"""The demo's page: one pretrained backbone held against everything that it has to beat."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from jigclu_jax.report import curves
from jigclu_jax.report.page import Block, Cell, Config, Section, Share, Table, Text, interval_cell, write_page
from jigclu_jax.report.pretrain_report import READING, describe, outcome_tables
from jigclu_jax.report.workdir_files import REPORT_FILE, curve_blocks, footer, picture_blocks, read_run, setting_section
from jigclu_jax.train.progress import duration

PRETRAINED = "JigClu pretraining"
RANDOM = "random initialisation"
NOTES = {
    PRETRAINED: "frozen backbone, pretrained without labels",
    RANDOM: "frozen backbone, never trained",
    "trained with labels": "frozen backbone, trained on the labels first",
    "raw pixels": "no backbone",
    "colour histogram": "no backbone",
    "chance": "guessing",
}
_NOTE = (
    "Each row is one linear classifier, trained with labels on other features of the same training images;"
    " top-1 accuracy on the validation images, and its 95 % bootstrap interval over them, which says nothing about other seeds."
)


def demo_page(workdir: epath.PathLike, results: Mapping[str, Any]) -> epath.Path:
    """Writes `DIR/report.html` over `DIR/pretrain` and `DIR/probe`; returns its path.

    Args:
      workdir: the demo's folder.
      results: {"probe_top1": {name: fraction or None}, "probe_top1_interval": {name: (low, high)}, "seconds": {name: seconds}},
        shown in the order given; the names of `NOTES` get an explanation. Intervals and seconds may be left out; "note"
        replaces the sentence above the table; further entries are shown as they are.
    """
    root = epath.Path(workdir)
    pretrain, probe = read_run(root / "pretrain"), read_run(root / "probe")
    accuracies = results["probe_top1"]
    names, intervals = list(accuracies), results.get("probe_top1_interval", {})
    rows: list[tuple[Cell, ...]] = [
        (name, None if accuracies[name] is None else Share(accuracies[name]), interval_cell(intervals.get(name)), NOTES.get(name, ""))
        for name in names
    ]
    best = names.index(PRETRAINED) if PRETRAINED in names else None
    times: list[tuple[Cell, ...]] = [(name, duration(seconds)) for name, seconds in results.get("seconds", {}).items()]
    other = {name: value for name, value in results.items() if name not in ("probe_top1", "probe_top1_interval", "seconds", "note")}
    pretrain_curves = curve_blocks(pretrain.rows, curves.pretrain_panels(pretrain.config))
    chance = accuracies.get("chance")
    probe_curves = curve_blocks(probe.rows, curves.probe_panels(round(1 / chance) if chance else 0, accuracies.get(RANDOM)))
    outcome = outcome_tables(pretrain)
    further: list[Block] = [Config("Further figures", other)] if other else []
    sections = [
        Section(
            "Linear probes",
            [
                Text(results.get("note", _NOTE)),
                Table(("features", "top-1", "95 % interval", ""), rows, best=best),
                *further,
            ],
        ),
        Section("What the network sees", picture_blocks(pretrain)),
        Section("Pretraining", [Text(READING), *pretrain_curves, *outcome]),
        Section("The probe", probe_curves),
        Section("Time", [Table(("part", "time"), times)] if times else []),
        setting_section(pretrain, {"Configuration of the probe": probe.config}),
    ]
    write_page(root / REPORT_FILE, "Jigsaw clustering, the demo", sections, summary=_summary(accuracies, pretrain.config), footer=footer())
    return root / REPORT_FILE


def _summary(accuracies: Mapping[str, float | None], config: Mapping[str, Any]) -> str:
    """The finding in a sentence, whichever way it went."""
    pretrained, random = accuracies.get(PRETRAINED), accuracies.get(RANDOM)
    if pretrained is None or random is None:
        return describe(config)
    points = 100 * (pretrained - random)
    verdict = f"{abs(points):.1f} points {'above' if points >= 0 else 'below'} the same backbone with random weights"
    return f"Pretrained without labels: {100 * pretrained:.1f} % top-1 in a linear probe, {verdict}. {describe(config)}"


__all__ = ["NOTES", "demo_page"]
