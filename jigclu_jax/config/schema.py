"""The groups of fields that jobs are made of, each with the paper's default, its range or choices, and why it is there.

Constants: Chen, Liu, Jia, "Jigsaw Clustering for Unsupervised Visual Representation Learning", CVPR 2021, section 4
and the authors' code. A method's own fields stand in its file (`methods/NAME.py: FIELDS`).
"""

import re
from collections.abc import Mapping
from typing import Any

from jigclu_jax.config.fields import MOST_SEED, Field, Fields, changed
from jigclu_jax.config.places import PLACE

_MOST_IMAGES = 10**10
_SIDE = 8192  # pixels: of no image that a network here could take
_THREADS = 1024
_DAYS = 10**6  # epochs: no run sees its data more often


def _multipliers(value: tuple[Any, ...]) -> bool:
    pairs = all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in value)
    return pairs and all(isinstance(pair[1], int | float) and not isinstance(pair[1], bool) and 0 <= pair[1] <= 1e6 for pair in value)


def _span(text: str) -> bool:
    match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text.strip())
    return not text or (match is not None and 1 <= int(match[1]) <= int(match[2] or match[1]))


# Where images come from; one of five sources behind one interface (`data/sources/opening.py`).
SOURCE: Fields = {
    "source": Field("folder", choices=("folder", "tfds", "arrays", "prepared", "embedded")),
    "path": PLACE,  # folder: the root; prepared: the prepare job's output; arrays: an .npz file with image and (optionally) label
    "name": Field(""),  # tfds: the data set's name, config and version included: "imagenet2012:5.1.0"
    "data_dir": PLACE,  # tfds: where it was prepared; "" is TFDS's own default; gs:// works
    "split": Field("train"),  # "" takes every image of an unlabelled tree
    "limit": Field(0, 0, _MOST_IMAGES),  # > 0: only that many, drawn at random with the subset's seed, class by class where labelled
    "list": PLACE,  # only the images that this text file names, one a line
    "fraction": Field(0.0, 0, 1),  # > 0: about that fraction of the images, drawn with the same seed, the same number of every class
    "subset_seed": Field(-1, -1, MOST_SEED),  # draws `limit` and `fraction`; -1: the run's seed, so that other seeds draw other images
    "on_error": Field("stop", choices=("stop", "skip")),  # what to do with an image that does not decode or is too small
    "min_side": Field(-1, -1, 65_500),  # smallest side accepted, in pixels; -1: the side of a patch; 1: enlarge whatever comes
    "white": Field(0.0, 0, 2**32),  # the sample that is white in files of more than 8 bits; 0: as the file says
}

# How images become batches, beside where they come from.
INPUT: Fields = {
    **SOURCE,
    "image_size": Field(224, 1, _SIDE),  # side of a montage, or of a crop where the method wants single images
    "augment": Field("host", choices=("host", "device", "resident")),  # where: device: colour, blur, flip there; resident: all
    "threads": Field(0, 0, _THREADS),  # that read and cut images; 0: augment host: chosen by tf.data, device: one a core
    "workers": Field(0, 0, _THREADS),  # augment device: processes instead of threads, for hosts of many cores; 0: threads
    "resident_side": Field(0, 0, _SIDE),  # augment resident: side of stored images; 0: their own if small squares, else image_size
    "dispatch_steps": Field(0, 0, 1000),  # augment resident: steps started by one call; 0: one
}

# The images that accuracies are measured on: resized, centre-cropped, in order. source, path, name and data_dir: "" is as in `data`.
EVALUATION: Fields = {
    **changed(SOURCE, {"split": "val", "min_side": 1, "source": Field("", choices=("", *SOURCE["source"].choices))}),
    "resize": Field(256, 1, _SIDE),  # the short side, in pixels
    "crop": Field(224, 1, _SIDE),
}

# The augmentation of one patch (paper section 4, authors' code: the MoCo v2 recipe with a wider crop).
AUGMENT: Fields = {
    "crop_area": Field((0.2, 1.0), above=0, high=1, least=2, most=2),
    "crop_aspect": Field((3 / 4, 4 / 3), above=0, high=100, least=2, most=2),
    "jitter_probability": Field(0.8, 0, 1),
    "brightness": Field(0.4, 0, 100),
    "contrast": Field(0.4, 0, 100),
    "saturation": Field(0.4, 0, 100),
    "hue": Field(0.1, 0, 0.5),  # 0.5 is half a turn of the colour circle
    "grayscale_probability": Field(0.2, 0, 1),
    "blur_probability": Field(0.5, 0, 1),
    "blur_sigma": Field((0.1, 2.0), 0, 100, least=2, most=2),  # a standard deviation in pixels
    "solarize_probability": Field(0.0, 0, 1),
    "solarize_threshold": Field(128, 0, 256),  # values of 0..255 from it on are inverted
    "flip_probability": Field(0.5, 0, 1),
}

# Random resized crop and flip alone: what a linear probe and supervised training use.
CROP = {"crop_area": (0.08, 1.0), "jitter_probability": 0.0, "grayscale_probability": 0.0, "blur_probability": 0.0}

# The backbone; heads follow the method.
MODEL: Fields = {
    "arch": Field("resnet50"),  # resnet10/18/34/50/101/152, resnext50_32x4d, resnext101_32x8d, wide_resnet50_2, wide_resnet101_2
    "stem": Field("imagenet"),  # imagenet: 7x7 stride 2 and max-pool; small: 3x3 stride 1, for images under about 96 pixels
    "width": Field(1.0, above=0, high=64),  # multiplies every channel count
    "dtype": Field("float32"),  # compute: float32 | bfloat16 | float64; parameters, statistics and loss stay float32
    # of float32 in the backbone: default is TF32 on a GPU and bfloat16 on a TPU; highest is float32, several times slower there
    "precision": Field("default", choices=("default", "highest")),
    "space_to_depth": Field(False),  # True: the imagenet stem's 7x7 as a 4x4 on squares of 2 x 2 pixels; no GPU has shown which is faster
    "remat": Field(False),  # True: residual blocks are computed again for their gradient: less memory, more time; no use on a CPU
}

# The backbone of a checkpoint: "" and 0 are as the checkpoint says; what is given must agree with it.
CHECKPOINT_MODEL: Fields = {
    "arch": Field(""),
    "stem": Field(""),
    "width": Field(0.0, 0, 64),
    "dtype": MODEL["dtype"],
    "precision": MODEL["precision"],
}

# SGD with PyTorch's momentum and weight decay coupled into the gradient (`train/optimizer.py` has the others).
OPTIMIZER: Fields = {
    "name": Field("sgd", choices=("sgd", "lars", "adamw")),
    "learning_rate": Field(0.03, 0, 1e9),
    "momentum": Field(0.9, 0, 1),  # sgd and lars
    "betas": Field((0.9, 0.999), low=0, below=1, least=2, most=2),  # adamw
    "epsilon": Field(1e-8, above=0, high=1),  # adamw
    "trust_coefficient": Field(0.001, above=0, high=1e3),  # lars
    "weight_decay": Field(1e-4, 0, 100),  # by sgd of every parameter, BatchNorm and biases too
    # no decay and no trust ratio for biases and BatchNorm; auto: by lars and adamw
    "exclude_1d": Field("auto", choices=("auto", "always", "never")),
    "no_decay": Field((), item=str, what="patterns of paths, as in ('location/*',)"),  # parameters without decay and trust ratio
    # of the rate, by path: (("backbone/*", 0.1), ("backbone/layer1/*", 0.0)); the last match counts, 0 freezes
    "multipliers": Field(
        (), rule=_multipliers, what="hold pairs of a pattern of paths and a factor from 0 to 1e6, as in (('backbone/*', 0.1),)"
    ),
    # parameters whose rate is always `learning_rate`, without warm-up and schedule
    "constant_rate": Field((), item=str, what="patterns of paths, as in ('predictor/*',)"),
    "schedule": Field("cosine", choices=("cosine", "step", "constant")),
    "per_epoch": Field(True),  # the rate changes once an epoch, as in the authors' code; False: every step
    "warmup_epochs": Field(0.0, 0, _DAYS),  # linear from 0
    "milestones": Field((), 0, _DAYS, item=float, order="ascending"),  # schedule step: epochs at which the rate is multiplied by `gamma`
    "gamma": Field(0.1, above=0, high=10),
    "shard_state": Field(False),  # True: devices share the optimizer's state and the moving averages instead of each holding all
}

# When a checkpoint is written and which one is kept beside the last.
SAVING: Fields = {
    "every_epochs": Field(1.0, above=0, high=_DAYS),
    "best_metric": Field(""),  # the epoch's metric whose best checkpoint is kept too; "" keeps the last alone
    "best_mode": Field("max", choices=("max", "min")),
}

# What is watched while a backbone is pretrained (jobs/watching.py); all of it off, and none of it moves the backbone.
ONLINE: Fields = {
    "head": Field(False),  # a linear classifier behind stop_gradient, trained beside on the labels of the montages' images
    "every_epochs": Field(0, 0, _DAYS),  # > 0: kNN (where there are labels), effective rank, alignment and uniformity that often
    "images": Field(4096, 1, _MOST_IMAGES),  # at most that many of training, and of eval_data, drawn with the run's seed
    "neighbours": Field(20, 1, 10**6),  # of the weighted vote
    "rank_warning": Field(2.0, 0, 1e6),  # an effective rank below it is told as a collapse
    "eval_data": EVALUATION,  # split of the images to classify, and the size of all images that are watched
}

# Fields that every training job has.
RUN: Fields = {
    "seed": Field(0, 0, MOST_SEED),
    "batch_size": Field(256, 1, 2**20),  # global: over all devices and hosts
    "accumulate": Field(1, 1, 2**20),  # micro-batches of a batch, to save memory: the loss is the whole batch's, BatchNorm that of each
    "epochs": Field(200, 1, _DAYS),
    "model": MODEL,
    "optimizer": OPTIMIZER,
    "saving": SAVING,
    "log_every_steps": Field(50, 1, 10**9),
    "force_config": Field(False),  # True: go on in a workdir although its config differs
    "grown_data": Field(False),  # True: go on although there are more images than when the run was begun (docs/data.md)
    "log": {
        "tensorboard": Field(True),
        "pictures": Field(True),
        "tracker": Field("", choices=("", "wandb", "mlflow", "trackio")),  # where the metrics go as well (docs/running.md)
        "project": Field("jigclu_jax"),  # there; an experiment of MLflow's
    },
    "report": {"every": Field(0, 0, _DAYS)},  # > 0: report.html is written anew every that many epochs while the run trains
    # "A-B": trace steps A to B into DIR/profile; "N": the N steps after the first
    "profile": Field("", rule=_span, what="be 'A-B' for steps A to B, or 'N' for the N steps after the first"),
    "debug": {"nans": Field(False)},  # True: stop at the operation that makes the first NaN, named; slow
}

# Linear heads on cached features: one for each pair of a rate and a decay, all trained together (`evals/heads.py`).
HEADS: Fields = {
    "learning_rates": Field((0.001, 0.003, 0.01, 0.03, 0.1, 0.3), 0, 1e6, least=1),
    "weight_decays": Field((0.0, 1e-3, 1e-2, 1e-1), 0, 100, least=1),
    "epochs": Field(100, 1, _DAYS),
    "batch_size": Field(256, 1, 2**20),
    "momentum": Field(0.9, low=0, below=1),
    "standardise": Field(True),  # features to mean 0 and deviation 1 by those of training; False: as the backbone gives them
    # fraction of every class of the training images by which the head is chosen; never the evaluation's
    "held_out": Field(0.1, above=0, below=1),
    "refit": Field(True),  # the chosen pair trained once more on all training images; False: the head that was chosen
    "checks": Field(("ridge", "lbfgs"), choices=("ridge", "lbfgs")),  # classifiers without a learning rate beside it
}

# k nearest neighbours by cosine (Wu et al., CVPR 2018).
VOTE: Fields = {"neighbours": Field((20, 200), 1, 10**6, least=1), "temperature": Field(0.07, low=1e-3, high=100)}

# Which weights are read: those of a training run, or of a file.
WEIGHTS: Mapping[str, Field] = {
    "checkpoint": PLACE,  # the workdir of a pretraining run
    "checkpoint_which": Field("last"),  # last | best | a step's number
    "checkpoint_weights": Field("params", choices=("params", "ema")),  # ema: the moving averages of a run with ema_decay
    "weights": PLACE,  # instead: a file of weights, .safetensors, .pth, .ckpt, .bin, .npz, or a folder of timm's (docs/weights.md)
    "weights_prefix": Field(""),  # under which the backbone lies where the file holds several: "encoder_q"
    # how a first convolution of other than 3 channels is brought to 3; "" refuses it
    "weights_channels": Field("", choices=("", "mean", "repeat")),
}

# Where the backbone of a pretraining starts: "" is random; the heads are new, and the optimizer begins anew.
INIT: Fields = {
    "weights": PLACE,  # a workdir of a training run, or a file as the field `weights` of an evaluation takes it (docs/weights.md)
    "which": Field("last"),  # of a workdir: last | best | a step's number
    "prefix": Field(""),  # of a file: under which the backbone lies where it holds several
    "channels": WEIGHTS["weights_channels"],
}

# A backbone in the formats of other programs.
EXPORT: Fields = {
    **WEIGHTS,
    "model": CHECKPOINT_MODEL,
    # () is every one that the backbone can have
    "formats": Field(
        (), item=str, choices=("torchvision", "timm", "detectron2", "authors", "stablehlo", "onnx"), what="() for all of them"
    ),
    "side": Field(0, 0, 8192),  # of the images, in pixels; 0: as the run saw them, 224 where that is not known
    "force_config": RUN["force_config"],
}

# Features of every image of a source, with its name.
EMBED: Fields = {
    "seed": RUN["seed"],
    **WEIGHTS,
    "model": CHECKPOINT_MODEL,
    "data": changed(SOURCE, {"split": "", "min_side": 1}),
    "resize": EVALUATION["resize"],
    "crop": EVALUATION["crop"],
    "eval_batch_size": Field(256, 1, 2**20),
    "format": Field("npz", choices=("npz", "parquet", "csv")),
    "part_images": Field(8192, 1, 2**24),  # in memory at once, and what a stopped job computes again at most
    "force_config": RUN["force_config"],
}

# Images of any source into shards that are quick to read (`data/prepare/shards.py`), or their check.
PREPARE: Fields = {
    "seed": RUN["seed"],  # draws the subset of data.limit
    "mode": Field("write", choices=("write", "verify")),
    "output": PLACE,  # local folder of the shards
    "output_split": Field(""),  # name of the split there; "": data.split, or "all"
    "format": Field("jpeg", choices=("jpeg", "raw")),  # jpeg: re-encoded; raw: RGB bytes, for small images
    "short_side": Field(256, 1, 65_500),  # larger images are reduced to it, in pixels
    "quality": Field(90, 1, 100),  # of the JPEG encoder
    "shard_images": Field(8192, 1, 1 << 31),
    "threads": Field(0, 0, 1024),  # 0: one a core
    "data": SOURCE,
}
