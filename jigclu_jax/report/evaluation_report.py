"""The page of an evaluation: every accuracy with its interval, what is taken for what, neighbours, a map of the features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath
from matplotlib.figure import Figure as Drawing
from PIL import Image

from jigclu_jax.report import curves
from jigclu_jax.report.page import Block, Cell, Figure, Section, Share, Table, Text, interval_cell, write_page
from jigclu_jax.report.workdir_files import REPORT_FILE, footer, read_run, run_rows, setting_section

READING = (
    "Accuracy on the evaluation images, which no choice has seen. The interval is the 95 % bootstrap over these images: how far the figure"
    " could be another one on other images of the same sort. It says nothing about other seeds of pretraining."
)
_SPREAD = (
    "Effective rank (RankMe) counts the directions that the features use; near 1 they have collapsed. Uniformity is 0 where all features"
    " are one and about -4 where they are spread evenly over the sphere; alignment is 0 where two views of an image give one feature."
)


@dataclass(frozen=True)
class Drawings:
    """What the page shows beside the figures of result.json; None for what does not apply.

    Attributes:
      confusion: drawing of the probe's confusion matrix.
      classes: (name, images, accuracy, low, high) of every class that has images.
      neighbours: sheet of evaluation images with their nearest training images.
      map: drawing of the features in two dimensions.
      location: drawing of the location head's confusion, with its caption.
    """

    confusion: Drawing | None = None
    classes: Sequence[tuple[str, int, float, float, float]] = ()
    neighbours: Image.Image | None = None
    map: Drawing | None = None
    location: tuple[Drawing, str] | None = None


def evaluation_page(workdir: epath.PathLike, drawings: Drawings | None = None) -> epath.Path:
    """Writes `DIR/report.html` from config.json and result.json, and the drawings; returns its path."""
    root, drawings = epath.Path(workdir), drawings or Drawings()
    run = read_run(root)
    result = run.result
    rows = accuracy_rows(result)
    spread: list[tuple[Cell, ...]] = [
        (label, result[name]) for name, label in _SPREAD_NAMES.items() if isinstance(result.get(name), int | float)
    ]
    odd: list[Block] = [Text(f"Note: {line}.") for line in result.get("oddities") or ()]
    about: list[tuple[Cell, ...]] = [(label, str(result[name])) for name, label in _ABOUT.items() if result.get(name) is not None]
    sections = [
        Section("Accuracy", [Text(READING), *odd, Table(("evaluation", "accuracy", "95 % interval"), rows)] if rows else []),
        Section("Heads", _heads(result)),
        Section("Spread of the features", [Text(_SPREAD), Table(("measure", "value"), spread)] if spread else []),
        Section("Classes", _class_blocks(drawings)),
        Section("Nearest neighbours", _neighbour_blocks(drawings)),
        Section("Map of the features", _map_blocks(drawings)),
        Section("Where the location head is wrong", _location_blocks(drawings)),
        Section("The evaluation", [Table(("", ""), [*about, *run_rows(run)])]),
        setting_section(run),
    ]
    write_page(root / REPORT_FILE, _TITLES.get(result.get("job", ""), "Evaluation"), sections, summary=_summary(result), footer=footer())
    return root / REPORT_FILE


_TITLES = {"fast_probe": "Linear probe on cached features", "knn": "Nearest neighbours"}
_LABELS = {
    "probe": "linear heads, best of the grid",
    "ridge": "ridge regression",
    "lbfgs": "logistic regression (L-BFGS)",
    "location": "location head, on patches",
}
_SPREAD_NAMES = {
    "rank_features": "effective rank, features",
    "uniformity_features": "uniformity, features",
    "alignment_features": "alignment, features of two crops of an image",
    "rank_embeddings": "effective rank, embeddings of montage cells",
    "uniformity_embeddings": "uniformity, embeddings of montage cells",
    "alignment_embeddings": "alignment, embeddings of cells of one image",
    "rank_features_random_init": "effective rank, features, random weights",
    "uniformity_features_random_init": "uniformity, features, random weights",
    "alignment_features_random_init": "alignment, features, random weights",
}
_ABOUT = {
    "backbone": "backbone",
    "classes": "classes",
    "train_images": "training images",
    "test_images": "evaluation images",
    "images_skipped": "images left out",
    "backbone_digest": "SHA-256 of the weights",
}


def accuracy_rows(result: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    """(name, accuracy, interval) of every accuracy of result.json that has an interval; those of random weights last."""
    rows: list[tuple[Cell, ...]] = []
    for name in sorted(result, key=lambda name: name.endswith("random_init")):
        value, interval = result[name], result.get(f"{name}_interval")
        if isinstance(value, int | float) and interval:
            rows.append((_label(name), Share(value), interval_cell(interval)))
    return rows


def _label(name: str) -> str:
    if name == "probe_top5_last":
        return f"{_LABELS['probe']}, top-5"
    kind, _, rest = name.partition("_top1")
    random = ", random weights" if rest.endswith("random_init") else ""
    if kind == "knn":
        way, _, k = rest.strip("_").removesuffix("_random_init").partition("_")
        return f"kNN, {way} vote, k = {k}{random}"
    return _LABELS.get(kind, name.replace("_", " ")) + random


def _heads(result: Mapping[str, Any]) -> list[Block]:
    heads = result.get("heads") or []
    if not heads:
        return []
    decays = sorted({head["weight_decay"] for head in heads})
    found = {(head["learning_rate"], head["weight_decay"]): head["held_out_top1"] for head in heads}
    rates = sorted({rate for rate, _ in found})
    rows: list[tuple[Cell, ...]] = [(f"{rate:g}", *(Share(found[rate, decay], bar=False) for decay in decays)) for rate in rates]
    chosen = result["head"]
    text = (
        f"Accuracy on the held-out part of the training images, by which rate {chosen['learning_rate']:g} and weight decay"
        f" {chosen['weight_decay']:g} were chosen"
    )
    interval = interval_cell(chosen.get("held_out_top1_interval"))
    text += f": {100 * chosen['held_out_top1']:.1f} %, 95 % interval {interval}." if interval else "."
    edge = chosen["learning_rate"] in (rates[0], rates[-1]) or chosen["weight_decay"] == decays[-1]
    more = " They lie on the grid's edge: a wider grid may do better." if edge and len(heads) > 1 else ""
    header = ("learning rate", *(f"decay {decay:g}" for decay in decays))
    return [Text(text + more), Table(header, rows, best=rates.index(chosen["learning_rate"]))]


def _class_blocks(drawings: Drawings) -> list[Block]:
    blocks: list[Block] = []
    if drawings.confusion is not None:
        caption = "Of the images of the class in the row, per cent that the linear head took for the class in the column."
        blocks.append(Figure(curves.svg(drawings.confusion), caption, "confusion matrix"))
    if drawings.classes:
        rows = [(name, str(count), Share(share), interval_cell((low, high))) for name, count, share, low, high in drawings.classes]
        blocks.append(Table(("class", "images", "accuracy", "95 % interval"), rows))
    return blocks


def _neighbour_blocks(drawings: Drawings) -> list[Block]:
    if drawings.neighbours is None:
        return []
    caption = "Left, an evaluation image; beside it the training images nearest by cosine, green of the same class, red of another."
    return [Figure(drawings.neighbours, caption)]


def _map_blocks(drawings: Drawings) -> list[Block]:
    if drawings.map is None:
        return []
    return [Figure(curves.svg(drawings.map), "Features of evaluation images along their first two principal components.")]


def _location_blocks(drawings: Drawings) -> list[Block]:
    if drawings.location is None:
        return []
    drawing, caption = drawings.location
    return [Figure(curves.svg(drawing), caption)]


def _summary(result: Mapping[str, Any]) -> str:
    top1, random = result.get("probe_top1_last"), result.get("probe_top1_random_init")
    if top1 is None:
        best = [(value, name) for name, value in result.items() if name.startswith("knn_top1") and isinstance(value, float)]
        best = [pair for pair in best if not pair[1].endswith("random_init")]
        return f"{100 * max(best)[0]:.1f} % top-1 by {_label(max(best)[1])}" if best else ""
    beside = f", the same backbone with random weights {100 * random:.1f} %" if random is not None else ""
    return f"{100 * top1:.1f} % top-1 by a linear head on frozen features{beside}"


__all__ = ["Drawings", "accuracy_rows", "evaluation_page"]
