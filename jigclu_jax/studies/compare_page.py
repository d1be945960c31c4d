"""The page of a comparison: results, differences of the configs, curves laid over each other."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from jigclu_jax.errors import counted
from jigclu_jax.report import curves, page
from jigclu_jax.report.page import Block, Cell, Row
from jigclu_jax.report.sections import footer, gallery, table, with_text
from jigclu_jax.report.workdir_files import REPORT_FILE, is_fraction
from jigclu_jax.studies import method_table
from jigclu_jax.studies.compared_runs import Compared, differences
from jigclu_jax.studies.method_table import TITLES, table_cells

READING = (
    "Runs that differ by their seed alone stand together: mean ± standard deviation over the seeds, and in brackets the 95 % interval of"
    " the mean (Student's t). A single run, or seeds that gave the very same value, have the bootstrap interval over the evaluation"
    " images where the result holds one. “Above”, “below” and, where intervals overlap, “not resolved” are against the first run with"
    " this result."
)
_DIFFERENCES = "A dash stands where a run's configuration has no such field; fields that only some runs have, all alike, are left out."


def compare_page(
    workdir: epath.PathLike,
    runs: Sequence[Compared],
    groups: Sequence[Mapping[str, Any]],
    tables: Sequence[Mapping[str, Any]],
    broken: Sequence[str],
) -> epath.Path:
    """Writes `DIR/report.html`; `groups` as `compared_runs.compared`, `tables` as `method_table` gives them; returns its path."""
    rows: list[Row] = [(name, *(_shown(value) for value in values)) for name, values in differences(runs)]
    sections = [
        *((TITLES[made["by"]], with_text(method_table.READING, table(*table_cells(made)))) for made in tables),
        ("Figures", with_text(READING, _figure_table(groups))),
        ("Where the configurations differ", with_text(_DIFFERENCES, table(("field", *(run.name for run in runs)), rows))),
        ("Curves", gallery(curves.draw_curves(_laid_over(runs), _panels(runs)))),
        ("Left out", table(("workdirs that cannot be read",), [(line,) for line in broken])),
    ]
    summary = counted(len(runs), "run") + (f" in {counted(len(groups), 'group')}" if len(groups) < len(runs) else "")
    return page.write(epath.Path(workdir) / REPORT_FILE, page.Page("Runs side by side", sections, summary, footer=footer()))


def _figure_table(groups: Sequence[Mapping[str, Any]]) -> list[Block]:
    """A row for every result, accuracies first, and a column for every group."""
    names = dict.fromkeys(name for group in groups for name in group["results"])
    rows: list[Row] = [
        (name + (", per cent" if is_fraction(name) else ""), *(_value(name, group["results"].get(name)) for group in groups))
        for name in sorted(names, key=lambda name: not is_fraction(name))
    ]
    return table(("result", *map(_group_name, groups)), rows)


def _value(name: str, found: Mapping[str, Any] | None) -> Cell:
    """Mean, deviation, interval and verdict of a group's result."""
    if found is None:
        return None
    scale = 100 if is_fraction(name) else 1
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
    """A panel for every metric, with a curve for every run."""
    specs = {spec.name: spec for run in runs for spec in run.run.specs}
    series = {name: {f"{name} {number}": run.name for number, run in enumerate(runs)} for name in specs}
    return [
        curves.Panel(curves.headline(spec.title), series[spec.name], percent=spec.unit == "%", named=True)
        for spec in curves.telling(specs.values())
    ]


def _shown(value: Any) -> Cell:
    return None if value is None else value if isinstance(value, str) else json.dumps(value)
