"""The table of methods: rows are methods, columns what was measured on each data set, once for runs of equal epochs and once of equal u."""

import dataclasses
import math
import posixpath
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from jigclu_jax.config import read_config
from jigclu_jax.errors import UserError
from jigclu_jax.report.page import Row
from jigclu_jax.report.workdir_files import Run, read_run
from jigclu_jax.studies.compared_runs import NO_DIFFERENCE, Compared, identity, interval
from jigclu_jax.studies.seeds import Summary, summarise, verdict
from jigclu_jax.train.workdir import config_as_dict, flatten

READING = (
    "Mean over the seeds and, in brackets, the 95 % interval of the mean (Student's t); of a single seed the bootstrap interval over the"
    " evaluation images. “Not resolved” stands where an interval overlaps that of the first row, or one is missing. u is one forward pass"
    " of the backbone over a full-size image, counted in FLOPs of the lowered training step."
)
TITLES = {"epochs": "Methods at equal epochs", "u": "Methods at equal compute (u)"}
# column -> (jobs, field of their results)
_MEASURED = {
    "probe": (("probe",), "probe_top1_last"),
    "fast probe": (("fast_probe", "evaluate"), "probe_top1_last"),
    "kNN": (("knn", "evaluate"), "knn_top1_weighted_20"),
    "fine-tuned": (("finetune",), "finetune_top1_last"),
}
_OF_THE_RUN = ("epochs", "u an image", "images/s", "memory, GiB")
_NO_LABEL = ("epochs", "optimizer.warmup_epochs", *NO_DIFFERENCE)  # the table shows the epochs, and the warm-up follows from them
Cost = Callable[[epath.Path], float | None]
Values = dict[str, tuple[float, Any]]  # seeds -> (value, its interval over images)


@dataclasses.dataclass
class _Group:
    """Pretrainings that differ by their seed alone: flat config, workdirs by seed, what was measured by column."""

    fields: Mapping[str, Any]
    roots: dict[str, Run]
    measured: dict[str, Values]

    @property
    def data(self) -> tuple[Any, ...]:
        return tuple(self.fields.get(f"data.{name}") for name in ("source", "path", "name", "limit", "fraction", "list"))

    @property
    def method(self) -> dict[str, Any]:
        return {name: value for name, value in self.fields.items() if name.startswith("method.")}


def method_tables(runs: Sequence[Compared], cost: Cost) -> list[dict[str, Any]]:
    """The tables: {"by": "epochs" or "u", "columns": names, "rows": [{"method": label, "cells": {column: cell}}]}, of two rows or more.

    An evaluation belongs to the pretraining that its `checkpoint` names, whose workdir need not be among the runs. Where labels are
    few, the column says their share. Of two evaluations of one kind of one backbone the first counts.

    Args:
      runs: pretrainings and evaluations in any order; the row of the first one is what the others are held to.
      cost: u an image of the pretraining in a workdir; None where it is not known.
    """
    groups = _groups(runs)
    if not groups:
        return []
    labels, sets = _labels(groups), _set_names(groups)
    costs = [next((u for run in group.roots.values() if (u := cost(run.root)) is not None), None) for group in groups]
    made = [_table(by, groups, labels, sets, costs) for by in TITLES]
    return [table for table in made if len(table["rows"]) > 1]


def table_cells(table: Mapping[str, Any]) -> tuple[tuple[str, ...], list[Row]]:
    """Header and rows of a table as text."""
    rows: list[Row] = [(row["method"], *(_text(row["cells"].get(name)) for name in table["columns"])) for row in table["rows"]]
    return ("method", *table["columns"]), rows


def _groups(runs: Sequence[Compared]) -> list[_Group]:
    groups: dict[str, _Group] = {}
    for run in runs:
        root = run.run.root if run.fields.get("job") == "pretrain" else run.fields.get("checkpoint")
        if not root:
            continue
        try:
            fields = flatten(config_as_dict(read_config(root)))
            pretrained = read_run(root)
        except (UserError, ValueError, OSError):  # gone or damaged: the page's other parts show the run
            continue
        if fields.get("job") != "pretrain":
            continue
        key, seed = identity(fields)
        group = groups.setdefault(key, _Group(fields, {}, {}))
        group.roots.setdefault(seed, pretrained)
        for column, value in _measured(run).items():
            group.measured.setdefault(column, {}).setdefault(seed, value)
    return list(groups.values())


def _measured(run: Compared) -> Values:
    """Column -> value of an evaluation."""
    job, result = run.fields.get("job"), run.run.result
    share, names = run.fields.get("data.fraction") or 0, run.fields.get("data.list")
    few = f", {100 * share:g} % of the labels" if share else f", labels of {posixpath.basename(names)}" if names else ""
    wanted = {column + few: field for column, (jobs, field) in _MEASURED.items() if job in jobs}
    return {
        column: (float(result[field]), interval(result.get(f"{field}_interval")))
        for column, field in wanted.items()
        if isinstance(result.get(field), int | float)
    }


def _labels(groups: Sequence[_Group]) -> list[str]:
    """The row of each group: groups of one data set have different ones, those of several sets with the same settings share one.

    A label is the method's name, with the settings in which rows of that name differ: the method's own, and whatever else tells groups
    of one set apart.
    """
    told: dict[str, set[str]] = defaultdict(set)
    for group in groups:
        name = str(group.fields.get("method.name"))
        for other in groups:
            if other.fields.get("method.name") == name:
                told[name] |= _differing(group.method, other.method)
                told[name] |= _differing(group.fields, other.fields) if group.data == other.data else set()
    labels = []
    for group in groups:
        name = str(group.fields.get("method.name"))
        shown = [field for field in sorted(told[name]) if field not in _NO_LABEL]
        labels.append(" ".join([name, *(f"{field.removeprefix('method.')}={group.fields.get(field)}" for field in shown)]))
    return labels


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in {*one, *other} if one.get(name) != other.get(name) and name != "seed" and not name.endswith(".seed")}


def _set_names(groups: Sequence[_Group]) -> dict[tuple[Any, ...], str]:
    """A short name of each data set, a longer one where two would have the same."""
    short = {group.data: str(group.data[2] or posixpath.basename(str(group.data[1]).rstrip("/")) or group.data[0]) for group in groups}
    taken = list(short.values())
    long = {data: " ".join(str(part) for part in data if part) for data in short}
    return {data: name if taken.count(name) == 1 else long[data] for data, name in short.items()}


def _table(
    by: str, groups: Sequence[_Group], labels: Sequence[str], sets: Mapping[tuple[Any, ...], str], costs: Sequence[float | None]
) -> dict[str, Any]:
    """The groups that spend as much as the first of their set."""
    cells: dict[str, dict[str, Any]] = {}
    columns: dict[str, None] = {}
    first: dict[tuple[Any, ...], tuple[_Group, float | None]] = {}
    for group, u in zip(groups, costs, strict=True):
        first.setdefault(group.data, (group, u))
    for data, (reference, spent) in first.items():
        own = [(group, label, u) for group, label, u in zip(groups, labels, costs, strict=True) if group.data == data]
        own = [(group, label, u) for group, label, u in own if _as_dear(by, group, u, reference, spent)]
        measured = sorted({name for group, _, _ in own for name in group.measured}, key=_place)
        prefix = f"{sets[data]}: " if len(sets) > 1 else ""
        columns |= dict.fromkeys(f"{prefix}{name}" for name in (*measured, *_OF_THE_RUN))
        for group, label, u in own:
            held = None if group is reference else reference
            found = {name: _accuracy(name, group, held) for name in measured} | _of_the_run(group, u)
            cells.setdefault(label, {}).update({f"{prefix}{name}": cell for name, cell in found.items() if cell is not None})
    return {"by": by, "columns": list(columns), "rows": [{"method": label, "cells": found} for label, found in cells.items()]}


def _place(column: str) -> tuple[int, str]:
    """Where a column stands: in the order of `_MEASURED`, all labels before few."""
    return list(_MEASURED).index(column.partition(",")[0]), column


def _as_dear(by: str, group: _Group, u: float | None, reference: _Group, spent: float | None) -> bool:
    """Whether a group has the reference's epochs, or as many as come nearest to the reference's u."""
    epochs, wanted = float(group.fields["epochs"]), float(reference.fields["epochs"])
    if by == "epochs":
        return epochs == wanted
    if u is None or spent is None:
        return False
    return math.isclose(epochs * u, wanted * spent, rel_tol=0.05) or epochs == max(round(wanted * spent / u), 1)


def _accuracy(name: str, group: _Group, reference: _Group | None) -> dict[str, Any] | None:
    """Summary of a column over the seeds, with its verdict; None where the group has none."""
    own, held = _summary(group.measured.get(name)), _summary(reference.measured.get(name)) if reference else None
    if own is None:
        return None
    said = "reference" if reference is None else verdict(own, held) if held else ""
    return dataclasses.asdict(own) | {"verdict": said}


def _summary(values: Values | None) -> Summary | None:
    if not values:
        return None
    return summarise([value for value, _ in values.values()], next(iter(values.values()))[1], fraction=True)


def _of_the_run(group: _Group, u: float | None) -> dict[str, Any]:
    results = [run.result for run in group.roots.values()]
    found = (group.fields["epochs"], u, _median(results, "images_per_second"), _median(results, "memory_gib"))
    return {name: {"value": value} for name, value in zip(_OF_THE_RUN, found, strict=True) if value is not None}


def _median(results: Iterable[Mapping[str, Any]], name: str) -> float | None:
    known = [result[name] for result in results if isinstance(result.get(name), int | float)]
    return statistics.median(known) if known else None


def _text(cell: Mapping[str, Any] | None) -> str | None:
    if cell is None:
        return None
    if "value" in cell:
        return f"{cell['value']:.3g}" if isinstance(cell["value"], float) and cell["value"] < 100 else f"{cell['value']:.0f}"
    text = f"{100 * cell['mean']:.1f} %"
    if cell["low"] is not None:
        text += f" ({100 * cell['low']:.1f} to {100 * cell['high']:.1f})"
    return text if cell["verdict"] in ("reference", "") else f"{text}, {cell['verdict']}"
