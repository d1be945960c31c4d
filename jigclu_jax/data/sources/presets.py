"""Presets of the usual data sets: origin, splits, and how images are resized and cropped."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jigclu_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Preset:
    """A data set; `name` is TFDS's, empty for folders split/class/file, whose root is `data.path`."""

    name: str
    train: str
    test: str
    resize: int
    crop: int


PRESETS = {
    "cifar10": Preset("cifar10", "train", "test", 32, 32),
    "cifar100": Preset("cifar100", "train", "test", 32, 32),
    "tiny_imagenet": Preset("", "train", "val", 64, 64),
    "imagenet100": Preset("", "train", "val", 256, 224),
    "imagenet": Preset("imagenet2012", "train", "validation", 256, 224),
    "folder": Preset("", "train", "val", 256, 224),
}

# Rates of the augmented probe at batch 256. Published: imagenet (the authors' code) and imagenet100 (the authors say so). The others
# are common round numbers that were never tuned here.
PROBE_RATES = {"imagenet": 10.0, "imagenet100": 1.0, "cifar10": 0.1, "cifar100": 0.1, "tiny_imagenet": 0.1, "folder": 0.1}


def folder_in_place_of_preset(config: ConfigDict) -> ConfigDict:
    """The config with the preset "folder" in place of cifar10's where a path is given, which no set of TFDS has; an .npz file is "arrays".

    What was changed of cifar10's resize and crop stays.
    """
    default = PRESETS["cifar10"]
    data, held_out = config.data, config.eval_data
    if not data.path or (data.source, data.name, data.split, held_out.split) != ("tfds", default.name, default.train, default.test):
        return config
    changed = config.copy_and_resolve_references()
    resize, crop = held_out.resize if held_out.resize != default.resize else 0, held_out.crop if held_out.crop != default.crop else 0
    set_data(changed, "folder", resize, crop)
    if str(data.path).lower().endswith(".npz"):
        changed.data.source = "arrays"
    return changed


def set_data(config: ConfigDict, preset: str, resize: int = 0, crop: int = 0) -> None:
    """Fill `config.data` and `config.eval_data`; `resize` and `crop` in pixels replace the preset's where they are not 0.

    Raises:
      UserError: an unknown preset.
    """
    if preset not in PRESETS:
        raise UserError(f"config argument preset={preset} is unknown: use one of {', '.join(PRESETS)}")
    found = PRESETS[preset]
    config.data.source, config.data.name, config.data.split = ("tfds" if found.name else "folder"), found.name, found.train
    config.eval_data.split = found.test
    config.eval_data.resize, config.eval_data.crop = resize or found.resize, crop or found.crop


def set_pretraining(config: ConfigDict, args: Mapping[str, Any], sizes: Mapping[str, tuple[int, int, int]]) -> str:
    """Fill the data, backbone, batch size and epochs of a method's config file from its arguments; gives the preset's name.

    Args:
      config: of pretraining; changed in place.
      args: preset, arch ("": ResNet-18 with the small stem for cifar10, else ResNet-50), width, batch_size, epochs, image_size (0: the
        preset's), bfloat16.
      sizes: preset -> (batch size, epochs, image size in pixels).

    Raises:
      UserError: an unknown preset.
    """
    preset = args["preset"]
    if preset not in sizes:
        raise UserError(f"config argument preset={preset} is unknown: use one of {', '.join(sizes)}")
    found, small, (batch, epochs, side) = PRESETS[preset], preset == "cifar10", sizes[preset]
    config.batch_size, config.epochs = args["batch_size"] or batch, args["epochs"] or epochs
    config.model.arch = args["arch"] or ("resnet18" if small else "resnet50")
    config.model.stem, config.model.width = "small" if small else "imagenet", args["width"]
    config.model.dtype = "bfloat16" if args["bfloat16"] else "float32"
    config.data.image_size = args["image_size"] or side
    # own images are all below the path, in any tree of folders
    config.data.source, config.data.name, config.data.split = ("tfds", found.name, found.train) if found.name else ("folder", "", "")
    config.online.eval_data.update({"split": found.test, "resize": round(config.data.image_size * found.resize / found.crop)})
    config.online.eval_data.crop = config.data.image_size
    return preset
