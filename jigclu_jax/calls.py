"""The library in one call: `pretrain`, `finetune`, `evaluate`, `embed`, `export`, `compare`, `demo`, each a thin face of that job.

Every function builds that job's config, runs it, and gives a `Run`. `jigclu VERB --out=DIR ...` is the same on the command line.
`checkpoint` is another name of the argument `weights`.
"""

import argparse
import functools
import inspect
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax import config as configs
from jigclu_jax.config import check_config
from jigclu_jax.config.command_line import OTHER_NAMES, OneName, Parser, add_set, override, own_names, settings_of, sizes_of
from jigclu_jax.config.jobs import CONFIGS, FOR_OWN_IMAGES
from jigclu_jax.config.places import to_path
from jigclu_jax.config.stored import read_config
from jigclu_jax.data.sources.look import usual_side
from jigclu_jax.data.sources.opening import Source, open_source
from jigclu_jax.data.sources.prepared import is_prepared
from jigclu_jax.encoder import Encoder, load_encoder
from jigclu_jax.errors import UserError, counted
from jigclu_jax.jobs import find_job
from jigclu_jax.run_scope import run_scope
from jigclu_jax.train.checkpoint import FOLDER
from jigclu_jax.train.workdir import read_result

P = ParamSpec("P")
Path = str | os.PathLike[str]
Settings = Mapping[str, Any]
_SEEN = 10_000_000  # images that a network sees in a pretraining whose epochs are not given,
_EPOCHS = (100, 800)  # within these
_SMALL = 64  # pixels: montages up to it have the small stem
_SIDE, _SIDE_STEP = 224, 32  # the largest side that is chosen, and what a chosen one is a multiple of

VERBS: dict[str, Callable[..., ConfigDict]] = {}


@dataclass(frozen=True)
class Run:
    """A job that is done.

    Attributes:
      out: its folder.
      result: what it found, the fields of result.json.
    """

    out: str
    result: Mapping[str, Any]

    @property
    def figures(self) -> dict[str, float]:
        """The numbers among the results."""
        return {name: value for name, value in self.result.items() if isinstance(value, float)}

    @property
    def report(self) -> str | None:
        """Path of the page; None for a job without one."""
        path = epath.Path(self.out) / "report.html"
        return str(path) if path.exists() else None

    @property
    def encoder(self) -> Encoder:
        """The backbone that the job trained; UserError where it trained none."""
        return load_encoder(self.out)


def _verb(build: Callable[P, ConfigDict]) -> Callable[P, Run]:
    """The function that runs the config which `build` makes, in the folder `out`; on the command line the verb of its name."""

    @functools.wraps(build)
    def call(*arguments: P.args, **named: P.kwargs) -> Run:
        signature = inspect.signature(build)
        bound = signature.bind(*arguments, **own_names(named, list(signature.parameters), len(arguments)))
        bound.apply_defaults()
        out = os.fspath(bound.arguments["out"])
        config = build(*bound.args, **bound.kwargs)
        with run_scope():
            find_job(config.job).run(config, out)
        return Run(out, read_result(out) or {})

    VERBS[build.__name__] = build
    return call


@_verb
def pretrain(
    out: Path,
    data: Path,
    *,
    model: str = "resnet18",
    method: str = FOR_OWN_IMAGES,
    epochs: int = 0,
    batch_size: int = 0,
    image_size: int = 0,
    weights: Path = "",
    seed: int = 0,
    settings: Settings | None = None,
) -> ConfigDict:
    """Train a backbone on images without labels.

    Args:
      out: folder of the run; called again, it goes on.
      data: folder of images in any tree, folder of the job prepare, `.npz` file with the array image, "tfds:NAME", or "embedded" for
        pictures made here.
      model: torchvision's name of the backbone.
      method: "jigclu" is the paper's recipe, "jigclu+" this library's; docs/which_method.md has the others.
      epochs: 0: so many that the network sees ten million images, 100 to 800.
      batch_size: images of a step; 0: 256, or the largest power of two of which there are four. The learning rate is scaled by it.
      image_size: side of a montage or crop in pixels; up to 64 the stem is the small one. 0: that of the images (the median of the
        shorter sides) in whole steps of 32, at least 32 and at most 224.
      weights: file of weights or workdir that the backbone starts from; "": random ones.
      seed: of everything that is drawn.
      settings: other fields by their path: {"optimizer.learning_rate": 0.1}.
    """
    del out
    config = configs.pretrain_config(method)
    config.seed, config.model.arch, config.init.weights = seed, model, os.fspath(weights)
    _set_data(config.data, data, "")
    epochs, batch_size, image_size = sizes_of(settings, epochs, batch_size, image_size)
    source = None if epochs and batch_size and image_size else open_source(config.data, seed=seed)
    image_size = image_size or (_side_of(source) if source else _SIDE)
    config.data.image_size, config.model.stem = image_size, "small" if image_size <= _SMALL else "imagenet"
    config.online.eval_data.update({"resize": round(image_size * 8 / 7), "crop": image_size})
    images = 0 if source is None else len(source)
    config.batch_size, usual = batch_size or min(256, 2 ** max((images // 4).bit_length() - 1, 0)), config.batch_size
    config.epochs = epochs or min(max(round(_SEEN / images), _EPOCHS[0]), _EPOCHS[1])
    config.optimizer.learning_rate *= config.batch_size / usual
    config.optimizer.warmup_epochs = min(config.optimizer.warmup_epochs, config.epochs / 20)
    config = _finished(config, settings)
    print(
        f"{config.method.name}, {config.model.arch} (stem {config.model.stem}): {counted(config.epochs, 'epoch')}, "
        f"batch {config.batch_size}, learning rate {config.optimizer.learning_rate:g}, {config.data.image_size} pixels",
        flush=True,
    )
    return config


@_verb
def finetune(
    out: Path,
    data: Path,
    weights: Path,
    *,
    eval_data: Path = "",
    epochs: int = 100,
    batch_size: int = 256,
    image_size: int = 0,
    seed: int = 0,
    settings: Settings | None = None,
) -> ConfigDict:
    """Train a backbone and a new classifier on labelled images.

    Args:
      out: folder of the run; called again, it goes on.
      data: as for pretrain, with labels: of a folder, `train/CLASS/*` and `val/CLASS/*`.
      weights: file of weights or workdir that the backbone starts from; "random" for none.
      eval_data: images that accuracies are measured on, where they are not beside the others.
      image_size: side of the crops in pixels; 0: as the run in `weights` had it, 224 for a file.
      epochs, batch_size, seed, settings: as for pretrain; the search over rates is in configs/finetune.py.
    """
    del out
    epochs, batch_size, image_size = sizes_of(settings, epochs, batch_size, image_size)
    config, image_size = configs.finetune_config(), image_size or _side_of_run(weights)
    config.seed, config.epochs, config.batch_size, config.data.image_size = seed, epochs, batch_size, image_size
    config.optimizer.milestones = tuple(round(epochs * part, 3) for part in (0.3, 0.6, 0.9))
    config.init = "random" if weights == "random" else _set_origin(config, weights)
    if config.init == "random":
        config.model.arch = "resnet18"
    _set_labelled(config, data, eval_data, image_size)
    return _finished(config, settings)


@_verb
def evaluate(
    out: Path, data: Path, weights: Path, *, eval_data: Path = "", image_size: int = 0, seed: int = 0, settings: Settings | None = None
) -> ConfigDict:
    """Linear probe, nearest neighbours and more on the features of a frozen backbone, beside random weights; leaves a page.

    Args:
      out: folder of the results.
      data: as for finetune.
      weights: file of weights, or workdir.
      eval_data, image_size, seed, settings: as for finetune.
    """
    del out
    config, image_size = configs.evaluate_config(), image_size or _side_of_run(weights)
    config.seed = seed
    _set_origin(config, weights)
    _set_labelled(config, data, eval_data, image_size)
    return _finished(config, settings)


@_verb
def embed(
    out: Path,
    data: Path,
    weights: Path,
    *,
    format: str = "npz",
    image_size: int = 0,
    batch_size: int = 256,
    settings: Settings | None = None,
) -> ConfigDict:
    """Features of every image with its name, in `out`/features.npz.

    Args:
      out: folder of the file; called again after a stop, it goes on.
      data: as for pretrain.
      weights: file of weights, or workdir.
      format: npz, parquet or csv.
      image_size: side of the centre crop in pixels, as for finetune; the short side is resized to 8 / 7 of it.
      batch_size: images of a pass.
      settings: other fields by their path.
    """
    del out
    config, image_size = configs.embed_config(), image_size or _side_of_run(weights)
    _set_origin(config, weights)
    _set_data(config.data, data, "")
    config.update({"format": format, "resize": round(image_size * 8 / 7), "crop": image_size, "eval_batch_size": batch_size})
    return _finished(config, settings)


@_verb
def export(out: Path, weights: Path, *, formats: Sequence[str] = (), settings: Settings | None = None) -> ConfigDict:
    """A backbone in the formats of other programs.

    Args:
      out: folder of the files.
      weights: workdir, or file of weights.
      formats: of torchvision, timm, detectron2, authors, stablehlo, onnx; () for all that the backbone can have.
      settings: other fields by their path.
    """
    del out
    config = configs.export_config()
    _set_origin(config, weights)
    config.formats = tuple(formats)
    return _finished(config, settings)


@_verb
def compare(out: Path, runs: Sequence[Path], *, settings: Settings | None = None) -> ConfigDict:
    """Any number of runs side by side on one page.

    Args:
      out: folder of the page.
      runs: workdirs; a * stands for any name.
      settings: other fields by their path.
    """
    del out
    config = configs.compare_config()
    config.runs = ",".join(os.fspath(run) for run in runs)
    return _finished(config, settings)


@_verb
def demo(out: Path = "runs/demo", *, arguments: str = "", settings: Settings | None = None) -> ConfigDict:
    """The whole way in a few minutes, on pictures made here: pretraining, probe, and what they are held against, on one page.

    Args:
      out: folder of the runs; called again, it goes on.
      arguments: of the config demo: "epochs=1,limit=256".
      settings: other fields by their path.
    """
    del out
    return _finished(configs.load_config(CONFIGS / "demo.py", arguments or None), settings)


def parse_verb(arguments: Sequence[str]) -> tuple[ConfigDict, str]:
    """`VERB --out=DIR --data=... [--set field=value]` -> (config, workdir), as `config.parse` gives them.

    Raises:
      UserError: anything wrong with the line, or with what it names.
      SystemExit: help was asked for, and is printed.
    """
    build = VERBS[arguments[0]]
    parser = Parser(prog=f"jigclu {build.__name__}", description=inspect.getdoc(build), allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    types = typing.get_type_hints(build)
    for name, parameter in inspect.signature(build).parameters.items():
        if name == "settings":
            add_set(parser)
            continue
        kind = types[name]
        several = {"nargs": "*"} if typing.get_origin(kind) is Sequence else {"type": str if kind == Path else kind}
        flags = dict.fromkeys(f"--{own}" for own in (name.replace("_", "-"), name, *(o for o, of in OTHER_NAMES.items() if of == name)))
        action = OneName if name in OTHER_NAMES.values() else "store"
        parser.add_argument(*flags, required=parameter.default is parameter.empty, default=parameter.default, action=action, **several)
    found = vars(parser.parse_args(arguments[1:]))
    settings = settings_of(found.pop("set"))
    return build(**found, settings=settings), found["out"]


def _finished(config: ConfigDict, settings: Settings | None) -> ConfigDict:
    for name, value in (settings or {}).items():
        override(config, name, str(value))
    check_config(config)
    config.lock()
    return config


def _set_origin(config: ConfigDict, weights: Path) -> str:
    """Where the backbone comes from; gives the name of the field, "checkpoint" or "weights"."""
    path = to_path(weights, "weights")
    field = "checkpoint" if path.is_dir() and (path / FOLDER).exists() else "weights"
    if not path.exists():
        raise UserError(f"weights={weights}: there is no such file or folder: give a file of weights, or the folder of a run")
    config[field] = str(path)
    return field


def _set_data(group: ConfigDict, data: Path, split: str) -> None:
    """The source that a text or a path stands for."""
    data = os.fspath(data)
    if data == "embedded":
        group.update({"source": "embedded", "split": {"": "train", "val": "validation"}.get(split, split)})
    elif data.startswith("tfds:"):
        group.update({"source": "tfds", "name": data.removeprefix("tfds:"), "split": {"": "train", "val": "validation"}.get(split, split)})
    else:
        source = "arrays" if data.lower().endswith(".npz") else "prepared" if is_prepared(data) else "folder"
        group.update({"source": source, "path": data, "split": "" if source == "arrays" else split})


def _side_of(source: Source) -> int:
    """The side that pretraining has where none is given."""
    return min(max(usual_side(source) // _SIDE_STEP * _SIDE_STEP, _SIDE_STEP), _SIDE)


def _side_of_run(weights: Path) -> int:
    """The side that the images of a run had; of a file it is not known."""
    path = to_path(weights, "weights")
    return int(read_config(path).data.image_size) if (path / FOLDER).exists() else _SIDE


def _set_labelled(config: ConfigDict, data: Path, eval_data: Path, image_size: int) -> None:
    """Training and evaluation images, `train` and `val` of the same place, or of two."""
    _set_data(config.data, data, "train")
    _set_data(config.eval_data, eval_data or data, "val" if not eval_data else "")
    config.eval_data.update({"resize": round(image_size * 8 / 7), "crop": image_size})
