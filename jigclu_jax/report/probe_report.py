"""The report of a linear probe: what the frozen features are worth."""

from etils import epath

from jigclu_jax.report import curves
from jigclu_jax.report.page import Cell, Section, Share, Table, Text, interval_cell, write_page
from jigclu_jax.report.pretrain_report import describe
from jigclu_jax.report.workdir_files import REPORT_FILE, Run, curve_blocks, footer, picture_blocks, read_run, run_rows, setting_section

READING = (
    "A linear classifier on the features of the frozen backbone, trained with labels. The last epoch's figure is the one to"
    " compare; the best epoch is chosen on the validation images themselves and so flatters a little, yet it is what papers report."
    " The interval is the 95 % bootstrap over these images; it says nothing about other seeds."
)


def probe_page(workdir: epath.PathLike, *, classes: int = 0) -> epath.Path:
    """Writes `DIR/report.html` of a probe from config.json, metrics.jsonl and result.json; returns its path.

    `classes` is their number, for the line of chance; 0 leaves it out.
    """
    root = epath.Path(workdir)
    run = read_run(root)
    random_init = run.result.get("probe_top1_random_init")
    table = accuracy_table(run, classes)
    plots = curve_blocks(run.rows, curves.probe_panels(classes, random_init))
    rows = run_rows(run)
    sections = [
        Section("Accuracy", [Text(READING), table] if table.rows else []),
        Section("Curves", plots),
        Section("The run", [Table(("run", ""), rows)] if rows else []),
        Section("Pictures", picture_blocks(run)),
        setting_section(run),
    ]
    write_page(root / REPORT_FILE, "Linear probe", sections, summary=describe(run.config), footer=footer())
    return root / REPORT_FILE


def accuracy_table(run: Run, classes: int) -> Table:
    """Every figure of the probe's result.json that has a value."""
    labels = {
        "probe_top1_last": "top-1, last epoch",
        "probe_top1_best": "top-1, best epoch",
        "probe_top5_last": "top-5, last epoch",
        "probe_top1_random_init": "top-1, backbone with random weights",
    }
    result = run.result
    rows: list[tuple[Cell, ...]] = [
        (label, Share(result[name]), interval_cell(result.get(f"{name}_interval")))
        for name, label in labels.items()
        if result.get(name) is not None
    ]
    if rows and classes:
        rows.append(("top-1, guessing", Share(1 / classes), None))
    return Table(("validation images", "accuracy", "95 % interval"), rows, best=0)


__all__ = ["accuracy_table", "probe_page"]
