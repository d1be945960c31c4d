"""What a workdir holds for its page: config, result, metrics and what they mean, pictures."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from jigclu_jax import atomic_file
from jigclu_jax.json_file import NOTHING, NUMBER, DamagedFile, check_kinds, read_json, read_objects, reason
from jigclu_jax.metrics import SPECS_FILE, MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.train.writers import read_metrics

REPORT_FILE = "report.html"
_FINAL = "final"  # where a search keeps the run that counts
_PICTURES = "pictures"
_SUFFIXES = (".svg", ".png")
_POSITION = ("step", "epoch", "eval_images", "input_wait")  # of rows without specs: what is no figure


@dataclasses.dataclass(frozen=True)
class Run:
    """The files of one workdir, `root`; what is not there is empty. `pictures` are SVG texts or the bytes of PNGs by their names."""

    root: epath.Path
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    result: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    specs: Sequence[MetricSpec] = ()
    pictures: Mapping[str, str | bytes] = dataclasses.field(default_factory=dict)

    def inner(self, folder: str) -> "Run":
        """The run in a folder of this one."""
        return read_run(self.root / folder)


def read_run(workdir: epath.PathLike) -> Run:
    """Reads config.json, result.json, metrics.jsonl, metric_specs.json and pictures/; a run that is not finished has no result."""
    root = epath.Path(workdir)
    folder, trained, rows = root / _PICTURES, root, read_metrics(root)
    if not rows and (root / _FINAL).exists():
        trained, rows = root / _FINAL, read_metrics(root / _FINAL)
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.name[0] != ".") if folder.exists() else []
    pictures = {path.stem: path.read_text() if path.suffix == ".svg" else path.read_bytes() for path in found}
    return Run(root, _json(root / "config.json"), _json(root / "result.json"), rows, read_specs(trained, rows), pictures)


def save_picture(workdir: epath.PathLike, name: str, svg: str) -> None:
    """Keeps a drawing as `DIR/pictures/NAME.svg`, from where the page takes it."""
    atomic_file.write_text(epath.Path(workdir) / _PICTURES / f"{name}.svg", svg)


def has_picture(workdir: epath.PathLike, name: str) -> bool:
    """Whether the workdir has that picture."""
    return any((epath.Path(workdir) / _PICTURES / f"{name}{suffix}").exists() for suffix in _SUFFIXES)


def is_fraction(name: str) -> bool:
    """Whether a figure of this name is a fraction, where nothing but its name is known."""
    return any(part in name for part in ("top1", "top5", "accuracy", "retrieval"))


def read_specs(root: epath.Path, rows: Sequence[Mapping[str, Any]]) -> list[MetricSpec]:
    """What the metrics of a workdir are, as it is stored; those of version 0.1.0 have none, and their metrics are known by name alone."""
    path = root / SPECS_FILE
    if path.exists():
        remedy = "delete it, and start the same command again"
        try:
            return [_spec(found) for found in read_objects(path, {"name": (str,), "title": (str,)}, remedy)]
        except ValueError as error:
            raise DamagedFile(f"{path}: {reason(error)}: {remedy}") from error
    return [_by_name(name) for name in dict.fromkeys(name for row in rows for name in row if name not in _POSITION)]


def _spec(stored: Mapping[str, Any]) -> MetricSpec:
    """ValueError where a field has another type than a spec's; what another version knew beside is left out."""
    kinds = {"unit": (str,), "chance": (*NUMBER, NOTHING), "better": (str,), "short": (str,), "about": (str,)}
    check_kinds(stored, {name: types for name, types in kinds.items() if name in stored})
    if stored.get("better", "") not in ("max", "min", ""):
        raise ValueError(f"`better` is {stored['better']!r:.60} and neither max nor min")
    known = {field.name for field in dataclasses.fields(MetricSpec)}
    return MetricSpec(**{name: value for name, value in stored.items() if name in known})


def _by_name(name: str) -> MetricSpec:
    title = name.replace("_", " ")
    if is_fraction(name):
        return accuracy_spec(name, title)
    return loss_spec(name, title) if name.startswith("loss") else MetricSpec(name, title)


def _json(path: epath.Path) -> dict[str, Any]:
    return read_json(path, {}, "restore it, or delete it and start the same command again") if path.exists() else {}
