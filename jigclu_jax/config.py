"""Every field of a run's configuration, with the paper's defaults.

A file in `configs/` starts from `pretrain_config()` or `probe_config()` and changes what it needs; the command line
overrides single fields (`--config.optimizer.learning_rate=0.06`). The tree is locked: unknown fields are refused.
Constants: Chen, Liu, Jia, "Jigsaw Clustering for Unsupervised Visual Representation Learning", CVPR 2021, section 4
and the authors' code.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


def source_config() -> ConfigDict:
    """Where images come from; one of five sources behind one interface (`data/sources/opening.py`)."""
    return ConfigDict(
        {
            "source": "folder",  # folder | tfds | arrays | prepared | embedded
            "path": "",  # folder: the root; prepared: the prepare job's output; arrays: an .npz file with image and (optionally) label
            "name": "",  # tfds: the data set's name, config and version included: "imagenet2012:5.1.0"
            "data_dir": "",  # tfds: where it was prepared; "" is TFDS's own default; gs:// works
            "split": "train",  # "" takes every image of an unlabelled tree
            "limit": 0,  # > 0: only that many examples, drawn at random with the subset's seed, class by class where labelled
            "list": "",  # only the images that this text file names, one a line
            "fraction": 0.0,  # > 0: about that share of the images, drawn with the same seed, the same number of every class
            "subset_seed": -1,  # draws `limit` and `fraction`; -1: the run's seed, so that runs of other seeds draw other images
            "on_error": "stop",  # stop | skip: what to do with an image that does not decode or is too small
            "min_side": -1,  # smallest side accepted, in pixels; -1: the side of a patch; 1: enlarge whatever comes
        }
    )


def pipeline_config() -> ConfigDict:
    """How images become batches, beside where they come from."""
    config = source_config()
    config.update(
        {
            "image_size": 224,  # side of a montage, or of a crop where the method wants single images
            "grid": 2,  # m: an image is cut into m x m patches
            "overlap": 0.3,  # a crop reaches overlap / (m - 1) of the image's side into its neighbours
            "shuffle_group": 0,  # patches are shuffled within that many consecutive images; 0: whole batch up to 256
            "augment": "host",  # where pictures are made: host | device (colour, blur, flip there) | resident (all, from device memory)
            "threads": 0,  # that read and cut images; 0: augment host: chosen by tf.data, device: one a core
            "workers": 0,  # augment device: processes instead of threads, for hosts of many cores; 0: threads
            "resident_side": 0,  # augment resident: side of the stored squares; 0: the images' own if small squares, else image_size
            "dispatch_steps": 0,  # augment resident: steps started by one call; 0: 8 on an accelerator, 1 on a CPU
        }
    )
    return config


def eval_config() -> ConfigDict:
    """The images that accuracies are measured on: resized, centre-cropped, in order."""
    config = source_config()
    config.update(
        {
            "source": "",  # "" here, and in path, name and data_dir: as in `data`
            "split": "val",
            "min_side": 1,
            "resize": 256,  # the short side, in pixels
            "crop": 224,
        }
    )
    return config


def montage_augment_config() -> ConfigDict:
    """The augmentation of one patch (paper section 4, authors' code: the MoCo v2 recipe with a wider crop)."""
    return ConfigDict(
        {
            "crop_area": (0.2, 1.0),
            "crop_aspect": (3 / 4, 4 / 3),
            "jitter_probability": 0.8,
            "brightness": 0.4,
            "contrast": 0.4,
            "saturation": 0.4,
            "hue": 0.1,
            "grayscale_probability": 0.2,
            "blur_probability": 0.5,
            "blur_sigma": (0.1, 2.0),
            "flip_probability": 0.5,
        }
    )


def crop_augment_config() -> ConfigDict:
    """Random resized crop and flip alone: what a linear probe and supervised training use."""
    config = montage_augment_config()
    config.update(
        {
            "crop_area": (0.08, 1.0),
            "jitter_probability": 0.0,
            "grayscale_probability": 0.0,
            "blur_probability": 0.0,
        }
    )
    return config


def model_config() -> ConfigDict:
    """The backbone; heads follow the method."""
    return ConfigDict(
        {
            "arch": "resnet50",  # resnet18/34/50/101/152, resnext50_32x4d, resnext101_32x8d, wide_resnet50_2, wide_resnet101_2
            "stem": "imagenet",  # imagenet: 7x7 stride 2 and max-pool; small: 3x3 stride 1, for images under about 96 pixels
            "width": 1.0,  # multiplies every channel count
            "dtype": "float32",  # compute: float32 | bfloat16 | float64; parameters, statistics and loss stay float32
            "remat": False,  # True: residual blocks are computed again for their gradient: less memory, more time; no use on a CPU
        }
    )


def optimizer_config() -> ConfigDict:
    """SGD with PyTorch's momentum and weight decay coupled into the gradient (`train/optimizer.py` has the others)."""
    return ConfigDict(
        {
            "name": "sgd",  # sgd | lars | adamw
            "learning_rate": 0.03,
            "momentum": 0.9,  # sgd and lars
            "betas": (0.9, 0.999),  # adamw
            "epsilon": 1e-8,  # adamw
            "trust_coefficient": 0.001,  # lars
            "weight_decay": 1e-4,  # by sgd of every parameter, BatchNorm and biases too
            "exclude_1d": "auto",  # no decay and no trust ratio for biases and BatchNorm: always | never | auto: by lars and adamw
            "no_decay": (),  # patterns of paths without decay and trust ratio, such as ("location/*",)
            "multipliers": (),  # of the rate, by path: (("backbone/*", 0.1), ("backbone/layer1/*", 0.0)); the last match counts, 0 freezes
            "schedule": "cosine",  # cosine | step | constant
            "per_epoch": True,  # the rate changes once an epoch, as in the authors' code; False: every step
            "warmup_epochs": 0.0,  # linear from 0
            "milestones": (),  # schedule step: epochs at which the rate is multiplied by `gamma`
            "gamma": 0.1,
            "shard_state": False,  # True: devices share the optimizer's state and the moving averages instead of each holding all
        }
    )


def saving_config(best_metric: str) -> ConfigDict:
    """When a checkpoint is written and which one is kept beside the last."""
    return ConfigDict(
        {
            "every_epochs": 1.0,
            "best_metric": best_metric,  # the epoch's metric whose best checkpoint is kept too; "" keeps the last alone
            "best_mode": "max",  # max | min
        }
    )


def saving_field(config: Mapping[str, Any] | ConfigDict) -> str:
    """The field that says when to save: a probe's `checkpoint` is the backbone that it reads, so its own stands in `saving`."""
    return "saving" if "saving" in config else "checkpoint"


def online_config() -> ConfigDict:
    """What is watched while a backbone is pretrained (jobs/watching.py); all of it off, and none of it moves the backbone."""
    return ConfigDict(
        {
            "head": False,  # a linear classifier behind stop_gradient, trained beside on the labels of the montages' images
            "every_epochs": 0,  # > 0: kNN (where there are labels), effective rank, alignment and uniformity that often
            "images": 4096,  # at most that many of training, and of eval_data, drawn with the run's seed
            "neighbours": 20,  # of the weighted vote
            "rank_warning": 2.0,  # an effective rank below it is told as a collapse
            "eval_data": eval_config(),  # split of the images to classify, and the size of all images that are watched
        }
    )


def run_config(job: str) -> ConfigDict:
    """Fields that every training job has."""
    return ConfigDict(
        {
            "job": job,
            "seed": 0,
            "batch_size": 256,  # global: over all devices and hosts
            "accumulate": 1,  # micro-batches of a batch, to save memory: the loss is that of the whole batch, BatchNorm that of each
            "epochs": 200,
            "model": model_config(),
            "optimizer": optimizer_config(),
            "log_every_steps": 50,
            "force_config": False,  # True: go on in a workdir although its config differs
            "log": {"tensorboard": True, "pictures": True},
            "profile": "",  # "A-B": trace steps A to B into DIR/profile; "N": the N steps after the first
            "debug": {"nans": False},  # True: stop at the operation that makes the first NaN, named; slow
        }
    )


def pretrain_config() -> ConfigDict:
    """Jigsaw clustering with the paper's recipe: ResNet-50, 224-pixel montages, batch 256, 200 epochs."""
    config = run_config("pretrain")
    config.update(
        {
            "method": "jigclu",  # jigclu | supervised
            "input": "montage",  # montage | cells: every cell through the backbone as an image of its own, for comparison
            "ema_decay": 0.0,  # > 0, such as 0.999: moving averages of parameters and statistics are kept beside
            "data": pipeline_config(),
            "augment": montage_augment_config(),
            "loss": {
                "temperature": 0.3,
                "base_temperature": 0.07,  # the clustering loss carries temperature / base_temperature: in the code, not in the paper
                "cluster_weight": 1.0,
                "location_weight": 1.0,
            },
            "online": online_config(),
            "checkpoint": saving_config("accuracy_retrieval"),
            "head": {"embedding_dim": 128, "decouple_size": 0},  # 0: 8 for m = 2, else see ops/decouple.py
        }
    )
    return config


def probe_config() -> ConfigDict:
    """The paper's linear probe: frozen backbone, SGD without decay, rate 10 dropped at epochs 60 and 80."""
    config = run_config("probe")
    data = pipeline_config()
    data.grid = 1
    data.min_side = 1
    config.update(
        {
            "method": "linear",
            "checkpoint": "",  # the workdir of a pretraining run
            "saving": saving_config("probe_top1"),
            "checkpoint_which": "last",  # last | best
            "checkpoint_weights": "params",  # params | ema: the moving averages of a run with ema_decay
            "random_init": False,  # True: also probe a backbone with the same architecture and random weights
            "model": {"arch": "", "stem": "", "width": 0.0, "dtype": "float32"},  # "" and 0: as the checkpoint says; else they must agree
            "data": data,
            "augment": crop_augment_config(),
            "eval_data": eval_config(),
            "eval_batch_size": 256,
            "eval_every_epochs": 1,
            "epochs": 100,
        }
    )
    config.optimizer.update(
        {
            "learning_rate": 10.0,
            "weight_decay": 0.0,
            "schedule": "step",
            "milestones": (60, 80),
        }
    )
    return config


def prepare_config() -> ConfigDict:
    """Images of any source into shards that are quick to read (`data/prepare/shards.py`), or their check."""
    return ConfigDict(
        {
            "job": "prepare",
            "seed": 0,  # draws the subset of data.limit
            "mode": "write",  # write | verify
            "output": "",  # local folder of the shards
            "output_split": "",  # name of the split there; "": data.split, or "all"
            "format": "jpeg",  # jpeg: re-encoded; raw: RGB bytes, for small images
            "short_side": 256,  # larger images are reduced to it, in pixels
            "quality": 90,  # of the JPEG encoder
            "shard_images": 8192,
            "threads": 0,  # 0: one a core
            "data": source_config(),
        }
    )


__all__ = [
    "crop_augment_config",
    "eval_config",
    "model_config",
    "montage_augment_config",
    "online_config",
    "optimizer_config",
    "pipeline_config",
    "prepare_config",
    "pretrain_config",
    "probe_config",
    "run_config",
    "saving_config",
    "saving_field",
    "source_config",
]
