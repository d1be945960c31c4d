"""The fields of every job, and the configs that files in `configs/` start from: `pretrain_config()`, `probe_config()`, ..."""

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from jigclu_jax.config.fields import MOST_SEED, Field, Fields, changed, flat
from jigclu_jax.config.places import PLACE
from jigclu_jax.config.schema import (
    AUGMENT,
    CHECKPOINT_MODEL,
    CROP,
    EMBED,
    EVALUATION,
    EXPORT,
    HEADS,
    INIT,
    INPUT,
    MODEL,
    ONLINE,
    OPTIMIZER,
    PREPARE,
    RUN,
    SOURCE,
    VOTE,
    WEIGHTS,
)
from jigclu_jax.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
# a wheel has them within the package, a checkout beside it
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"

_CROP_AUGMENT = changed(AUGMENT, CROP)
_CROP_INPUT = changed(INPUT, {"min_side": 1})
_EVALUATED = {"eval_data": EVALUATION, "eval_batch_size": Field(256, 1, 2**20)}  # images a batch of the backbone's pass

# The paper's recipe: ResNet-50, 224 pixels, batch 256, 200 epochs.
PRETRAIN: Fields = {
    **RUN,
    # > 0, such as 0.999: moving averages of parameters and statistics are kept beside
    "ema_decay": Field(0.0, low=0, below=1),
    "init": INIT,
    "data": INPUT,
    "augment": AUGMENT,
    "online": ONLINE,
}

# The paper's linear probe: frozen backbone, SGD without decay, rate 10 dropped at epochs 60 and 80.
PROBE: Fields = {
    **changed(
        RUN,
        {
            "epochs": 100,
            "model": {**CHECKPOINT_MODEL, "remat": MODEL["remat"]},
            "saving.best_metric": "probe_top1",
            "optimizer": changed(
                OPTIMIZER,
                {
                    "learning_rate": 10.0,
                    "weight_decay": 0.0,
                    "schedule": "step",
                    "milestones": (60, 80),
                    "multipliers": (("backbone/*", 0.0),),
                },
            ),
        },
    ),
    **WEIGHTS,
    **_EVALUATED,
    "random_init": Field(False),  # True: also probe a backbone with the same architecture and random weights
    "data": _CROP_INPUT,
    "augment": _CROP_AUGMENT,
    "eval_every_epochs": Field(1, 1, 10**6),
}

# Backbone and a new classifier trained together from a pretrained backbone; the search is off, the schedule the authors' 1 % one.
FINETUNE: Fields = {
    **changed(
        RUN,
        {
            "epochs": 100,
            "model": {**CHECKPOINT_MODEL, "remat": MODEL["remat"]},
            "saving.best_metric": "finetune_top1",
            "optimizer": changed(OPTIMIZER, {"learning_rate": 0.02, "weight_decay": 0.0, "schedule": "step", "milestones": (30, 60, 90)}),
        },
    ),
    **WEIGHTS,
    **_EVALUATED,
    "init": Field("checkpoint", choices=("checkpoint", "weights", "random")),  # where the backbone starts
    "data": _CROP_INPUT,
    "augment": _CROP_AUGMENT,
    "eval_every_epochs": Field(1, 1, 10**6),
    "head_multiplier": Field(1.0, 0, 1e6),  # the classifier's learning rate is that many times the backbone's
    # meant: head_multiplier acts; coded: as in the authors' code, where its schedule overwrites the classifier's rate
    "schedule_as": Field("meant", choices=("meant", "coded")),
    # > 0: that fraction of every class is kept from training, and accuracies are measured on it, not on eval_data
    "held_out": Field(0.0, low=0, below=1),
    "search": {
        # every pair of these two is tried on a held-out part; empty: the optimizer's own value
        "learning_rates": Field((), 0, 1e6, item=float, order="distinct"),
        "weight_decays": Field((), 0, 100, item=float, order="distinct"),
        "held_out": Field(0.1, above=0, below=1),  # fraction of every class that the trials keep from training, to choose by
        "epochs": Field(0, 0, 10**6),  # of a trial; 0: as many as the final run
    },
    "controls": Field(""),  # the same from other starts, beside it: "random", "weights", or "random,weights"
}

# Every evaluation on features: which backbone, which images, where features are kept.
_FEATURES: Fields = {
    "seed": RUN["seed"],
    **WEIGHTS,
    "random_init": Field(False),  # True: also evaluate a backbone with the same architecture and random weights
    "model": CHECKPOINT_MODEL,
    "data": changed(SOURCE, {"min_side": 1}),  # training images, resized and cropped as eval_data says
    **_EVALUATED,
    "cache": PLACE,  # folder for features; "": `features` beside the workdir; "none": they are not kept
    "force_config": RUN["force_config"],
}
FAST_PROBE: Fields = {**_FEATURES, "probe": HEADS}
KNN: Fields = {**_FEATURES, "knn": VOTE}
EVALUATE: Fields = {
    **changed(_FEATURES, {"random_init": True}),
    "probe": HEADS,
    "knn": VOTE,
    # > 0: probe and neighbours also on features averaged over that many random crops of every image, told apart from those of one view
    "crops": Field(0, 0, 256),
    "reading": {
        "queries": Field(8, 1, 1000),  # evaluation images shown with their neighbours
        "neighbours": Field(6, 1, 1000),
        "map_points": Field(2000, 1, 10**6),  # evaluation images on the map of the features
        "views": Field(1024, 1, 10**6),  # evaluation images whose two crops measure alignment
        "cells": Field(4096, 1, 10**8),  # montage cells that the location head is judged on, at least, where the run has one
    },
}


# What own images get where no method is named: ahead of the paper's recipe on both sets that it was tried on (docs/which_method.md).
FOR_OWN_IMAGES = "jigclu+"


def pretrain_config(method: str = "jigclu") -> ConfigDict:
    """Pretraining with the paper's recipe, with the settings of a method and what it wants otherwise of the rest; NAME+: and its `PLUS`."""
    name = method.removesuffix("+")
    name = name if hasattr(find_method(name), "PLUS") else method
    config = _config("pretrain", name)
    config.update_from_flattened_dict(find_method(name).PLUS if name != method else {})
    return config


def plus_settings(method: str) -> str:
    """The method's own settings in its `PLUS`, as an arm of a study writes them."""
    return " ".join(f"{name}={value}" for name, value in find_method(method).PLUS.items() if name.startswith("method."))


def probe_config(method: str = "linear") -> ConfigDict:
    """The paper's linear probe of a frozen backbone."""
    return _config("probe", method)


def finetune_config(method: str = "supervised") -> ConfigDict:
    """Backbone and a new classifier trained together from a pretrained backbone."""
    return _config("finetune", method)


def fast_probe_config() -> ConfigDict:
    """A linear probe on features computed once, without augmentation."""
    return _config("fast_probe")


def knn_config() -> ConfigDict:
    """k-nearest-neighbour accuracy of features computed once."""
    return _config("knn")


def evaluate_config() -> ConfigDict:
    """Everything that can be said about a backbone without training it further, on one page."""
    return _config("evaluate")


def export_config() -> ConfigDict:
    """A backbone in the formats of other programs."""
    return _config("export")


def embed_config() -> ConfigDict:
    """Features of every image of a source, with its name."""
    return _config("embed")


def prepare_config() -> ConfigDict:
    """Images of any source into shards that are quick to read, or their check."""
    return _config("prepare")


def ablation_config() -> ConfigDict:
    """A table of the paper's ablations: every row pretrained with every seed, and judged; the images are the same for all of them."""
    return _config("ablation")


def demo_config() -> ConfigDict:
    """Pretraining and its probe, beside training with labels and its probe."""
    return _config("demo")


def compare_config() -> ConfigDict:
    """Any number of runs side by side."""
    return _config("compare")


def _ablated() -> ConfigDict:
    config = pretrain_config()
    config.data.subset_seed = 0
    return config


def _judge() -> ConfigDict:
    config = fast_probe_config()
    config.data.subset_seed = config.eval_data.subset_seed = 0
    config.cache, config.probe.checks = "none", ()
    return config


_JOBS: Mapping[str, Fields] = {
    "pretrain": PRETRAIN,
    "probe": PROBE,
    "finetune": FINETUNE,
    "fast_probe": FAST_PROBE,
    "knn": KNN,
    "evaluate": EVALUATE,
    "embed": EMBED,
    "export": EXPORT,
    "prepare": PREPARE,
    "ablation": {
        "table": Field("montage"),  # montage | augmentation | grid | overlap | branches | weights | plus | arms
        # rows of table "arms": a name, then fields of pretrain, as in "moco method.name=moco method.queue=4096"; the first is the reference
        "arms": Field((), item=str, order="distinct"),
        "equal": Field("epochs", choices=("epochs", "u")),  # what rows spend alike: epochs, or forward passes of full-size images
        "seeds": Field((0, 1, 2), 0, MOST_SEED, least=1, order="distinct"),  # more may be added later: what is finished stays
        "pretrain": _ablated,  # of the table's first row; the others change some of its fields
        "judge": _judge,  # how good a backbone is; checkpoint, seed and, where it names none, images are filled in
        "metric": Field("probe_top1_last"),  # field of the judge's result.json that the table is made of
        "few": Field(0.0, low=0, below=1),  # > 0: judged once more with that fraction of the labels, for `compare`
        "force_config": RUN["force_config"],
    },
    "demo": {
        "seed": RUN["seed"],
        "pretrain": pretrain_config,
        "supervised": pretrain_config,  # the same backbone trained with labels
        "probe": probe_config,  # of both
    },
    "compare": {
        "runs": PLACE,  # workdirs with commas between them; a * stands for any name
        "force_config": RUN["force_config"],
    },
}
JOBS = tuple(_JOBS)
_TRAINING = ("pretrain", "probe", "finetune")  # jobs with a method


def fields_of(job: str, method: str = "") -> Fields:
    """The fields of a job, those of its method included.

    Raises:
      UserError: an unknown job or method.
    """
    if job not in _JOBS:
        raise UserError(f"config.job={job!r} is unknown: use one of {', '.join(_JOBS)}")
    fields: dict[str, Any] = {"job": Field(job), **_JOBS[job]}
    if job in _TRAINING:
        if not method:
            raise UserError(f"config.method.name is missing: start from {job}_config() of jigclu_jax.config")
        module = find_method(method)
        fields = changed(fields, getattr(module, "DEFAULTS", {})) if job == "pretrain" else fields
        fields["method"] = {"name": Field(method), **module.FIELDS}
    return fields


def find_method(name: str) -> ModuleType:
    """The file of a method: `FIELDS` are its settings, `create` makes it.

    Raises:
      UserError: there is no such method; the nearest name is told.
    """
    known = method_names()
    if name in known:
        return importlib.import_module(f"jigclu_jax.methods.{name}")
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}"
    raise UserError(f"config.method.name={name!r} is unknown: {hint}")


def method_names() -> list[str]:
    """The methods there are, by their files."""
    package = importlib.import_module("jigclu_jax.methods")  # only here: it needs JAX
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def method_name(config: Mapping[str, Any] | ConfigDict) -> str:
    """The name of a config's method, "" where it has none."""
    group = config.get("method")
    return str(group["name"]) if group is not None and not isinstance(group, str) and "name" in group else ""


def use_method(config: ConfigDict, name: str) -> None:
    """Give a config the group of another method; a field that stands as the old method wants it gets what the new one wants.

    Raises:
      UserError: there is no such method.
    """
    old, new = (flat(fields_of(config.job, method)) for method in (method_name(config), name))
    with config.unlocked():
        for path, field in new.items():
            standing = old[path].default if path in old else None
            if not path.startswith("method.") and standing != field.default and attrgetter(path)(config) == standing:
                config.update_from_flattened_dict({path: field.default})
        config.method = build({"name": Field(name), **find_method(name).FIELDS})


def build(fields: Fields) -> ConfigDict:
    """The defaults as a config, not locked yet."""
    return ConfigDict(
        {
            name: node.default if isinstance(node, Field) else build(node) if isinstance(node, Mapping) else node()
            for name, node in fields.items()
        }
    )


source_config = functools.partial(build, SOURCE)
pipeline_config = functools.partial(build, INPUT)
eval_config = functools.partial(build, EVALUATION)
montage_augment_config = functools.partial(build, AUGMENT)
crop_augment_config = functools.partial(build, _CROP_AUGMENT)
optimizer_config = functools.partial(build, OPTIMIZER)
head_grid_config = functools.partial(build, HEADS)


def _config(job: str, method: str = "") -> ConfigDict:
    return build(fields_of(job, method))
