"""The parts that pages are made of: each takes a run and gives blocks, none where the run has nothing of the kind."""

import contextlib
import datetime
import importlib.metadata
import platform
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jigclu_jax.report import curves
from jigclu_jax.report.page import Block, Figure, Fraction, Gallery, Row, Table, Text, Tree, format_interval
from jigclu_jax.report.workdir_files import Run
from jigclu_jax.train.progress import duration

Builder = Callable[[Run], list[Block]]
Labels = Mapping[str, str]  # pattern of a field of result.json -> label, where {0}, {1}, ... are the pattern's groups
RANDOM = "random weights"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow", "tensorflow", "tensorflow-cpu")
_FILES = {
    "config.json": "every setting of the run",
    "result.json": "the results of a finished run, for programs",
    "metrics.jsonl": "one row for every logged step",
    "metric_specs.json": "title, unit and chance level of these metrics",
    "checkpoints": "the states to go on from",
    "pictures": "the pictures of this page",
    "tensorboard": "the same curves for TensorBoard",
    "table.md": "the table in Markdown",
    "cells": "the runs of the table",
    "trials": "the runs of the search",
    "controls": "the same with other starts",
}


def within(folder: str, builder: Builder) -> Builder:
    """The blocks of the run in a folder of the workdir."""
    return lambda run: builder(run.inner(folder))


def together(*builders: Builder) -> Builder:
    """The blocks of several builders, one after the other."""
    return lambda run: [block for builder in builders for block in builder(run)]


def with_text(text: str, blocks: Sequence[Block]) -> list[Block]:
    """The blocks under paragraphs, if there are any."""
    return [Text(text), *blocks] if blocks and text else list(blocks)


def table(header: Sequence[str], rows: Sequence[Row], best: int | None = None) -> list[Block]:
    """The table, if it has rows."""
    return [Table(header, rows, best)] if rows else []


@dataclass(frozen=True)
class Accuracy:
    """One accuracy of a result: its label, (value, interval), and those of the same with random weights where they were measured."""

    label: str
    own: tuple[float, Sequence[float] | None]
    random: tuple[float, Sequence[float] | None] | None


def find_accuracies(result: Mapping[str, Any], labels: Labels) -> list[Accuracy]:
    """The accuracies of a result that have a label and a value, in the order of the labels."""
    control = (result.get("controls") or {}).get("random") or {}
    found: dict[str, Accuracy] = {}
    for pattern, label in labels.items():
        for match in filter(None, (re.fullmatch(pattern, name) for name in result)):
            name, own = match[0], _read(result, match[0])
            if own and name not in found:
                # a control of random weights may have no last epoch
                random = _read(result, f"{name}_random_init") or _read(result, f"{name.removesuffix('_last')}_random_init")
                found[name] = Accuracy(label.format(*match.groups()), own, random or _read(control, name))
    return list(found.values())


def _read(result: Mapping[str, Any], name: str) -> tuple[float, Sequence[float] | None] | None:
    value = result.get(name)
    return (value, result.get(f"{name}_interval")) if isinstance(value, int | float) else None


def accuracies(what: str, labels: Labels, starts: Mapping[str, str] | None = None) -> Builder:
    """Accuracies of result.json with their intervals, each followed by that of random weights; below them guessing.

    Args:
      what: on what they were measured.
      labels: of the fields, in the order of the rows.
      starts: for a run with controls, name of `result["init"]` and of the keys of `result["controls"]` -> what it is called.
    """

    def build(run: Run) -> list[Block]:
        rows: list[Row] = []
        for start, found in {run.result.get("init"): run.result, **(run.result.get("controls") or {})}.items():
            prefix = f"{starts.get(start, start)}, " if starts and start else ""
            chosen = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in (found.get("chosen") or {}).items())
            for one in find_accuracies(found, labels):
                rows.append((prefix + one.label, Fraction(one.own[0]), format_interval(one.own[1]), chosen))
                if one.random and not starts:  # which are a row of their own
                    rows.append((f"{one.label}, {RANDOM}", Fraction(one.random[0]), format_interval(one.random[1]), ""))
        rows += [(f"{name}, guessing", Fraction(level), None, "") for name, level in _guessing(run).items() if rows]
        columns = 4 if any(row[3] for row in rows) else 3
        return table((what, "accuracy", "95 % interval", "trained with")[:columns], [row[:columns] for row in rows], best=0)

    return build


def _guessing(run: Run) -> dict[str, float]:
    """What guessing gives, by the specs of the metrics that the result has, or by the number of classes."""
    told = [spec for spec in run.specs if spec.better == "max" and run.result.get(f"{spec.name}_last") is not None]
    classes = run.result.get("classes")
    found = {spec.title.partition(", ")[0]: spec.chance for spec in told if spec.chance is not None}
    return found or ({"top-1": 1 / classes} if classes else {})


def numbers(labels: Mapping[str, str]) -> Builder:
    """Numbers of result.json, beside those of random weights."""

    def build(run: Run) -> list[Block]:
        rows = [(label, run.result.get(name), run.result.get(f"{name}_random_init")) for name, label in labels.items()]
        columns = 3 if any(row[2] is not None for row in rows) else 2
        return table(("measure", "value", RANDOM)[:columns], [row[:columns] for row in rows if row[1] is not None])

    return build


def last_values(run: Run) -> list[Block]:
    """The last logged value of every metric that has a direction, beside that of a network that has learned nothing."""
    rows: list[Row] = []
    for spec in curves.telling(run.specs):
        value = next((row[spec.name] for row in reversed(run.rows) if row.get(spec.name) is not None), None)
        if value is not None and spec.better:
            shown = [Fraction(x, bar) if spec.unit == "%" and x is not None else x for x, bar in ((value, True), (spec.chance, False))]
            rows.append((spec.title, *shown))
    return table(("metric", "last logged", "nothing learned"), rows)


def drawn_curves(run: Run) -> list[Block]:
    """A gallery of all metrics over the run; random weights are a line where result.json has them."""
    # what has no direction and never changes is a fact and no curve
    moving = [spec for spec in run.specs if spec.better or len({row[spec.name] for row in run.rows if spec.name in row}) > 1]
    random = {spec.name: run.result.get(f"{spec.name}_random_init") for spec in moving}
    lines = {name: {RANDOM: float(value)} for name, value in random.items() if value is not None}
    return gallery(curves.draw_curves(run.rows, curves.panels(moving, lines)))


def gallery(drawn: Sequence[tuple[curves.Panel, str]]) -> list[Block]:
    """Drawn panels side by side."""
    return [Gallery([Figure(svg, panel.about, f"{panel.title} over the run") for panel, svg in drawn])] if drawn else []


def pictures(captions: Mapping[str, str]) -> Builder:
    """Pictures of the workdir by their names, in this order, each with its caption."""
    return lambda run: [Figure(run.pictures[name], text, name) for name, text in captions.items() if name in run.pictures]


def facts(labels: Mapping[str, str] | None = None) -> Builder:
    """A table of how the run went; `labels` are further fields of result.json."""

    def build(run: Run) -> list[Block]:
        result, last = run.result, run.rows[-1] if run.rows else {}
        shown = {label: result.get(name) or None for name, label in (labels or {}).items()}
        shown |= {
            "last logged step": last.get("step"),
            "epochs": f"{last['epoch']:.4g} of {run.config.get('epochs', '?')}" if last.get("epoch") is not None else None,
            "time": duration(result["seconds"]) if result.get("seconds") is not None else None,
            "images per second": f"{result['images_per_second']:,.0f}" if result.get("images_per_second") else None,
        } | {name: result.get(name) for name in ("seed", "version", "commit")}
        return table(("run", ""), [(label, str(value)) for label, value in shown.items() if value is not None])

    return build


def ending(run: Run, configs: Mapping[str, Mapping[str, Any]] | None = None) -> list[tuple[str, Sequence[Block]]]:
    """The sections at the end of every page: configuration, versions, how to repeat the run, files."""
    trees = [Tree(title, tree) for title, tree in {"Configuration": run.config, **(configs or {})}.items() if tree]
    files = [(name, what) for name, what in _FILES.items() if (run.root / name).exists()]
    made = "".join(f", {name} {run.result[name]}" for name in ("version", "commit") if run.result.get(name))
    repeat = [
        Text(f"The same configuration in a new workdir{made}, gives the same results on the same machine."),
        Text(f"python -m jigclu_jax --config={shlex.quote(str(run.root / 'config.json'))} --workdir=NEW", command=True),
    ]
    return [
        ("Setting", [*trees, Table(("package", "version"), list(versions().items()))]),
        ("How to repeat", repeat if run.config else []),
        ("Files", table(("file", "what it is"), files)),
    ]


def versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries, found without importing them."""
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def footer() -> str:
    """The page's last line: what made it, when, on what machine."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"jigclu_jax, {now}, {platform.system()} {platform.machine()}"


def describe(config: Mapping[str, Any]) -> str:
    """One line on the run: method, backbone, pixels, batch, epochs, data; what the config does not say is left out."""
    model, data, method = config.get("model") or {}, config.get("data") or {}, config.get("method") or ""
    stem = {"imagenet": "ImageNet stem", "small": "small-image stem"}.get(model.get("stem", ""), "")
    inside = ", ".join(filter(None, (stem, f"width {model['width']:g}" if model.get("width", 1) not in (0, 1) else "")))
    epochs = config.get("epochs")
    parts = (
        method.get("name") if isinstance(method, Mapping) else method,
        # a probe may leave the backbone to the checkpoint
        model.get("arch") and (f"{model['arch']} ({inside})" if inside else model["arch"]),
        data.get("image_size") and f"{data['image_size']} pixels",
        config.get("batch_size") and f"batch {config['batch_size']}",
        epochs and f"{epochs:g} epoch{'' if epochs == 1 else 's'}",
        data.get("source") and f"{data['source']} data",
    )
    return ", ".join(filter(None, parts))
