"""`jigclu runs DIR`: the runs below a folder, a line each: what they are, how far they are, and their figures."""

import datetime
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config import check_config, read_config
from jigclu_jax.config.command_line import Parser
from jigclu_jax.config.jobs import method_name
from jigclu_jax.config.places import to_path
from jigclu_jax.errors import UserError, one_line
from jigclu_jax.json_file import parse_json, read_json
from jigclu_jax.metrics import MetricSpec
from jigclu_jax.report.workdir_files import read_specs
from jigclu_jax.train.claim import holder_of
from jigclu_jax.train.writers import METRICS_FILE, read_metrics

_ABOUT = "The runs below a folder, a line each: what they are, how far they are, and their figures."
Cells = tuple[str, ...]
COLUMNS = 100
_HEAD = ("run", "job", "method", "model", "state", "epochs", "last (best)", "date")
_WIDEST = (10, 11, 9, 13, 7, 23, 10)  # of the columns behind the first
_CONFIG, _RESULT = "config.json", "result.json"
_MARKS = (_CONFIG, _RESULT, METRICS_FILE)
_CHECKPOINTS = "checkpoints"
_INSIDE = (_CHECKPOINTS, "tensorboard", "pictures", "profile", "exported_last")  # folders of a run that hold no other
_DEEPEST = 8


def command(arguments: Sequence[str]) -> None:
    """Prints the table.

    Raises:
      UserError: no folder of that name.
      SystemExit: help was asked for, and is printed.
    """
    parser = Parser(prog="jigclu runs", description=_ABOUT, allow_abbrev=False)
    parser.add_argument("folder", nargs="?", default="runs", help="a folder or gs://BUCKET/DIR")
    print("\n".join(table(to_path(parser.parse_args(arguments).folder, "folder"))))


def table(root: epath.Path) -> list[str]:
    """The lines of the table, at most 100 characters each; a run that cannot be read is a line that says why.

    Raises:
      UserError: there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder: give one that holds runs")
    names = {folder: _name(folder, root) for folder in _folders(root, 0)}
    rows: dict[str, Cells | str] = {}
    for folder, name in names.items():
        try:
            rows[name] = _cells(folder)
        except Exception as error:  # a listing is of use where one of its runs is damaged, however that came about
            text = one_line(error).replace(f"{folder}/", "")
            rows[name] = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
    if not rows:
        return [f"no runs in {root}"]
    return _lines({name: cells for name, cells in rows.items() if cells})


def _folders(folder: epath.Path, depth: int) -> Iterator[epath.Path]:
    """The folders of runs, sorted; runs may lie within runs."""
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        print(f"{folder}: {one_line(error)}", file=sys.stderr)
        return
    if any(path.name in _MARKS for path in inside):
        yield folder
    for path in inside:
        if depth < _DEEPEST and path.name not in (*_INSIDE, *_MARKS) and path.name[0] != "." and path.is_dir():
            yield from _folders(path, depth + 1)


def _name(folder: epath.Path, root: epath.Path) -> str:
    return "." if folder == root else str(folder.relative_to(root))


def _cells(folder: epath.Path) -> Cells:
    """What the table says of a run; () for a folder whose config.json is another program's."""
    if (
        not (folder / _RESULT).exists()
        and not (folder / METRICS_FILE).exists()
        and "job" not in parse_json((folder / _CONFIG).read_bytes())
    ):
        return ()
    config = read_config(folder)
    check_config(config, _CONFIG)
    result = read_json(folder / _RESULT, {"job": (str,)}, "delete it, and start the same command again") if _has(folder, _RESULT) else {}
    rows = read_metrics(folder)
    model = config.get("model") or {}
    latest = max((folder / name).stat().mtime for name in _MARKS if _has(folder, name))
    return (
        config.job,
        method_name(config),
        str(model.get("arch", "")),
        _state(folder, bool(result), rows),
        _epochs(config, rows),
        _figure(config, read_specs(folder, rows), rows, result),
        datetime.date.fromtimestamp(latest).isoformat(),
    )


def _has(folder: epath.Path, name: str) -> bool:
    return (folder / name).exists()


def _state(folder: epath.Path, complete: bool, rows: Sequence[Mapping[str, Any]]) -> str:
    """A run goes on from its newest checkpoint, whatever rows came after it."""
    if holder_of(folder):
        return "running"
    if complete:
        return "complete"
    checkpoints = folder / _CHECKPOINTS
    steps = [int(path.name) for path in checkpoints.iterdir() if path.name.isdigit()] if checkpoints.exists() else []
    if not steps and not rows:
        return "not complete"
    return f"stopped {max(steps, default=0)}"


def _epochs(config: ConfigDict, rows: Sequence[Mapping[str, Any]]) -> str:
    done = rows[-1].get("epoch") if rows else None
    if not isinstance(done, int | float) or "epochs" not in config:
        return ""
    return f"{math.floor(done * 10) / 10:g}/{config.epochs:g}"


def _figure(config: ConfigDict, specs: Sequence[MetricSpec], rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> str:
    """The metric by which the best checkpoint is chosen, else the first accuracy, else the loss: its last value, and the best one."""
    measured = [spec for spec in specs if any(row.get(spec.name) is not None for row in rows)]
    chosen = config.saving.best_metric if "saving" in config else ""
    order = sorted(measured, key=lambda spec: (spec.name != chosen, spec.better != "max", spec.name != "loss"))
    if order and (order[0].better or order[0].name == "loss"):
        spec = order[0]
        values = [row[spec.name] for row in rows if row.get(spec.name) is not None]
        best = (max if spec.better == "max" else min)(values)
        last, highest = (f"{100 * value:.1f}" if spec.unit == "%" else f"{value:.4g}" for value in (values[-1], best))
        numbers = f" {last} ({highest}) {spec.unit}".rstrip()
        return _cut(spec.short or spec.name.removeprefix("accuracy_"), _WIDEST[5] - len(numbers)) + numbers
    accuracies = [value for name, value in result.items() if "top1" in name and isinstance(value, float)]
    return f"top-1 {100 * accuracies[0]:.1f} %" if accuracies else ""


def _lines(rows: Mapping[str, Cells | str]) -> list[str]:
    """Columns under their names; the names of runs get what is left of a line, and keep their ends."""
    cells = [_HEAD[1:], *(tuple(cells) for cells in rows.values() if not isinstance(cells, str))]
    widths = [min(max(map(len, column)), most) for column, most in zip(zip(*cells, strict=True), _WIDEST, strict=True)]
    longest, left = max(map(len, ("run", *rows))), COLUMNS - sum(widths)
    gap = " " * (2 if longest + 2 * len(widths) <= left else 1)
    first = min(longest, left - len(gap) * len(widths))
    lines = []
    for name, found in [("run", _HEAD[1:]), *rows.items()]:
        shown = name if len(name) <= first else f"…{name[len(name) - first + 1 :]}"
        if isinstance(found, str):
            lines.append(_cut(f"{shown:<{first}}  {found}", COLUMNS))
        else:
            columns = [f"{_cut(cell, width):<{width}}" for cell, width in zip(found, widths, strict=True)]
            lines.append(gap.join([f"{shown:<{first}}", *columns]).rstrip())
    return lines


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
