"""MoCo: an image's other crop among a queue of earlier ones, seen by a slowly moving copy of the encoder.

    python -m jigclu_jax --config=configs/pretrain_moco.py --workdir=runs/moco --config.data.data_dir=gs://BUCKET/tensorflow_datasets
    python -m jigclu_jax --config=configs/pretrain_moco.py:version=1 --workdir=runs/moco_v1
    python -m jigclu_jax --config=configs/pretrain_moco.py:preset=cifar10 --workdir=runs/moco_cifar10
    python -m jigclu_jax --config=configs/pretrain_moco.py:preset=folder --workdir=runs/mine --config.data.path=/path/to/images

`imagenet` is the authors' recipe: ResNet-50 at 224 pixels, batch 256 in eight BatchNorm groups, 200 epochs, SGD with rate 0.03, decay 1e-4,
queue 65,536, momentum 0.999. Version 2 has a projection of two layers, temperature 0.2, blur and a cosine schedule; version 1 a linear
projection, temperature 0.07, stronger colour jitter on every crop, no blur, and a rate that falls tenfold at 60 and 80 % of the epochs.
`cifar10` is the authors' demo (asymmetrical loss): ResNet-18 with the small stem, batch 512, rate 0.06, decay 5e-4, queue 4,096, momentum
0.99, temperature 0.1, linear projection. `folder` takes own images at 224 pixels, with the demo's queue and momentum: it is meant for
some thousands of images.

Hardware: imagenet 8 GPUs; cifar10 one GPU. An epoch costs a training pass and a forward pass an image, 4/3 of JigClu's.
Expected: the papers report 60.6 % (version 1) and 67.5 % (version 2) linear top-1 on ImageNet at 200 epochs, the demo 82.6 % kNN on
CIFAR-10 at 200 epochs (their own figures); this library has not run them.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config
from jigclu_jax.data.sources.presets import set_pretraining
from jigclu_jax.errors import UserError


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, version (1 or 2), arch, width, batch_size, epochs (0: the preset's), image_size (0: the preset's), bfloat16."""
    args = parse_arg(arg, preset="imagenet", version=2, arch="", width=1.0, batch_size=0, epochs=0, image_size=0, bfloat16=False)
    if args["version"] not in (1, 2):
        raise UserError(f"config argument version={args['version']} is unknown: use 1 or 2")
    config = pretrain_config("moco")
    preset = set_pretraining(config, args, {"imagenet": (256, 200, 224), "cifar10": (512, 200, 32), "folder": (256, 200, 224)})
    config.optimizer.learning_rate = 0.03 * config.batch_size / 256
    if args["version"] == 1:
        config.method.update({"temperature": 0.07, "layers": 1})
        config.augment.update({"jitter_probability": 1.0, "hue": 0.4, "blur_probability": 0.0})
        config.optimizer.update({"schedule": "step", "milestones": (0.6 * config.epochs, 0.8 * config.epochs)})
    queue, momentum = (65_536, 0.999) if preset == "imagenet" else (4096, 0.99)
    config.method.update({"queue": max(queue // config.batch_size, 1) * config.batch_size, "momentum": momentum})
    if preset == "cifar10":
        config.method.update({"temperature": 0.1, "layers": 1})
        config.augment.update({"crop_area": (0.08, 1.0), "blur_probability": 0.0})
        config.optimizer.weight_decay = 5e-4
    return config
