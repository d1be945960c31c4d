"""Rotation: tell by which of four quarter turns a picture was turned.

    python -m jigclu_jax --config=configs/pretrain_rotation.py --workdir=runs/rotation --config.data.data_dir=gs://BUCKET/tensorflow_datasets
    python -m jigclu_jax --config=configs/pretrain_rotation.py:preset=cifar10 --workdir=runs/rotation_cifar10
    python -m jigclu_jax --config=configs/pretrain_rotation.py:preset=folder --workdir=runs/mine --config.data.path=/path/to/images

A batch of 64 images is one of 256 pictures: every image stands in all four turns. `imagenet` takes ResNet-50 at 224 pixels on the
schedule of Kolesnikov et al. 2019 (google/revisiting-self-supervised): 35 epochs, rate 0.1 for 256 pictures, a tenth at epochs 15 and 25,
five epochs of warm-up; the paper itself trained an AlexNet. `cifar10` is the authors' CIFAR10_RotNet_NIN4blocks.py with ResNet-18 in place
of their network, without Nesterov's step, and with crops of at least 0.6 of the image in place of shifted ones: 200 epochs of 128 images,
decay 5e-4, a fifth of the rate at epochs 60, 120 and 160. `folder` takes own images at 224 pixels for 100 epochs.

Hardware: imagenet 8 GPUs; cifar10 one GPU; an epoch costs four forward passes an image where JigClu has one.
Expected: no figure of the paper is for a ResNet; this library has not run it on ImageNet. Images that look alike when they are turned
(satellites, tissue) give it nothing to learn.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config
from jigclu_jax.data.sources.presets import set_pretraining


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, arch, width, batch_size, epochs (0: the preset's), image_size (0: the preset's), bfloat16."""
    args = parse_arg(arg, preset="imagenet", arch="", width=1.0, batch_size=0, epochs=0, image_size=0, bfloat16=False)
    config = pretrain_config("rotation")
    preset = set_pretraining(config, args, {"imagenet": (64, 35, 224), "cifar10": (128, 200, 32), "folder": (64, 100, 224)})
    rate, drops = 0.1 * 4 * config.batch_size / 256, [15 / 35, 25 / 35]
    config.optimizer.update({"learning_rate": rate, "schedule": "step", "warmup_epochs": config.epochs / 7})
    if preset == "cifar10":
        config.augment.crop_area = (0.6, 1.0)
        drops = [0.3, 0.6, 0.8]
        config.optimizer.update({"learning_rate": 0.1, "weight_decay": 5e-4, "gamma": 0.2, "warmup_epochs": 0.0})
    config.optimizer.milestones = tuple(float(round(config.epochs * share)) for share in drops)
    return config
