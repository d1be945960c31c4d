"""Job `export`: writes a backbone in the formats of other programs, with a card that says what it is and how it is loaded."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.atomic_file import write_bytes, write_text
from jigclu_jax.config import check_config
from jigclu_jax.device import distributed
from jigclu_jax.errors import UserError
from jigclu_jax.interop.export_formats import QUICK, Exported, Files, files_of, loading
from jigclu_jax.jobs.backbones import Backbone, check_origin, open_backbone, origin_fields
from jigclu_jax.json_file import DamagedFile
from jigclu_jax.ops.normalize import IMAGENET_MEAN, IMAGENET_STD
from jigclu_jax.run_scope import run_scope
from jigclu_jax.train.holding import held_workdir
from jigclu_jax.train.workdir import open_workdir, read_result, write_result

LAST = "exported_last"  # folder in the workdir of a pretraining
_SIDE = 224  # pixels of images where the run does not say


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Export the backbone of `config.checkpoint` or `config.weights` into the workdir.

    Raises:
      UserError: no backbone, or a format that it cannot have.
    """
    distributed.start()
    check_config(config)
    check_origin(config)
    with held_workdir(workdir, config):
        _export(config, workdir)


def _export(config: ConfigDict, workdir: epath.PathLike) -> None:
    backbone = open_backbone(config)
    result = _result_of(config.checkpoint) if config.checkpoint else {}
    what = Exported(backbone.params, backbone.stats, backbone.model, config.side or _side(backbone.run), backbone.all_params)
    files = files_of(what, config.formats)
    if distributed.is_main():
        root = open_workdir(workdir, config)
        _write(root, what, files, backbone, result)
        about = {"job": "export", "backbone": backbone.origin, "model": backbone.model, "backbone_digest": backbone.digest}
        write_result(root, about | origin_fields(config, backbone) | {"files": sorted(files)})
        print("\n".join(f"written: {root / name} ({len(data):,} bytes)" for name, data in files.items()), flush=True)
        print(f"how to load them: {root / 'README.md'}", flush=True)


def export_last(workdir: epath.PathLike, backbone: Backbone) -> None:
    """What a pretraining leaves beside its checkpoints: `exported_last/`, as torchvision and timm read it; no room for it ends no run."""
    what = Exported(backbone.params, backbone.stats, backbone.model, _side(backbone.run))
    try:
        files = files_of(what, tuple(name for name in QUICK if name == "torchvision" or what.plain))
        _write(epath.Path(workdir) / LAST, what, files, backbone, _result_of(workdir))
    except OSError as error:
        logging.warning("%s is not written: %s", epath.Path(workdir) / LAST, error.strerror or error)


def _write(root: epath.Path, what: Exported, files: Files, backbone: Backbone, result: Mapping[str, Any]) -> None:
    for name, data in files.items():
        write_bytes(root / name, data)
    images = {"side": what.side, "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "channels": "RGB", "range": "0 to 1 before mean and std"}
    about = {"model": dict(what.model), "images": images, "classes": list(backbone.classes or ()), "digest": backbone.digest}
    write_text(root / "preprocessing.json", json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    write_text(root / "README.md", card(what, files, backbone, result))


def card(what: Exported, files: Files, backbone: Backbone, result: Mapping[str, Any]) -> str:
    """A model card in Markdown: what it is, of which data and recipe, its figures, its input, and the lines that load it."""
    run, model = backbone.run, what.model
    data, method, optimizer = (run.get(group) or {} for group in ("data", "method", "optimizer"))
    rows = {
        "architecture": f"{model['arch']}, stem {model['stem']}, width {model['width']:g}, {len(what.state):,} arrays",
        "weights": f"{backbone.origin}, SHA-256 {backbone.digest}",
        "method": method.get("name"),
        "data": " ".join(str(data[name]) for name in ("source", "name", "path", "split") if data.get(name)) or None,
        "classes of the data": len(backbone.classes) if backbone.classes else None,
        "recipe": f"epochs {run['epochs']}, batch {run['batch_size']}, {optimizer.get('name')} at {optimizer.get('learning_rate')}"
        if {"epochs", "batch_size"} <= run.keys()
        else None,
        "input": f"RGB of 0 to 1, less {list(IMAGENET_MEAN)}, by {list(IMAGENET_STD)}, {what.side} x {what.side} pixels",
    }
    figures = {name: value for name, value in result.items() if isinstance(value, float) and ("top1" in name or name.startswith("rank_"))}
    rows |= {name: f"{value:.4g}" for name, value in figures.items()}
    table = "\n".join(f"| {name} | {str(value).replace('|', ' ')} |" for name, value in rows.items() if value is not None)
    license_ = "The weights are of whoever trained them; jigclu_jax itself is under the Apache License 2.0."
    loads = "\n\n".join(f"```{language}\n{text}\n```" for language, text in loading(what, files))
    return f"# A {model['arch']} backbone\n\n| | |\n|---|---|\n{table}\n\n{license_}\n\n{loads}\n"


def _side(run: Mapping[str, Any]) -> int:
    """The side of the images that a run has seen."""
    side = (run.get("data") or {}).get("image_size")
    return side if isinstance(side, int) and side > 0 else _SIDE


def _result_of(workdir: epath.PathLike) -> Mapping[str, Any]:
    try:
        return read_result(workdir) or {}
    except (DamagedFile, UserError, OSError):
        return {}
