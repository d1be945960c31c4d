"""Jigsaw puzzles: tell in which of a few fixed orders nine tiles of an image were given.

    python -m jigclu_jax --config=configs/pretrain_jigpuz.py --workdir=runs/jigpuz --config.data.data_dir=gs://BUCKET/tensorflow_datasets
    python -m jigclu_jax --config=configs/pretrain_jigpuz.py:preset=cifar10 --workdir=runs/jigpuz_cifar10
    python -m jigclu_jax --config=configs/pretrain_jigpuz.py:preset=folder --workdir=runs/mine --config.data.path=/path/to/images

`imagenet` is VISSL's recipe (jigsaw_8gpu_resnet.yaml): ResNet-50, tiles of 64 pixels in cells of 85, 2,000 permutations by the largest mean
distance, a tower of 1,000, batch 256, 105 epochs, rate 0.1 with a tenth at epochs 30, 60, 90 and 100, decay 1e-4 except of BatchNorm, five
epochs of warm-up. It differs in the warm-up's start (0, not 0.025) and in what is cut up: squares of 0.6 to 1 of the image's area, where
VISSL takes squares as high as the image. No paper has a recipe for CIFAR-10: `cifar10` has tiles of 12 pixels, enlarged, 100
permutations, a tower of 256 and 200 epochs. `folder` takes own images, tiles of 56 pixels, 1,000 permutations, 200 epochs.

Hardware: imagenet 8 GPUs; cifar10 one GPU; an epoch costs 0.73 of a forward pass of a whole image.
Expected: JigClu's paper gives 45.7 % linear top-1 on ImageNet for it; this library has not run it.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config
from jigclu_jax.data.sources.presets import set_pretraining


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, arch, width, batch_size, epochs (0: the preset's), image_size (0: the preset's), bfloat16."""
    args = parse_arg(arg, preset="imagenet", arch="", width=1.0, batch_size=0, epochs=0, image_size=0, bfloat16=False)
    config = pretrain_config("jigpuz")
    preset = set_pretraining(config, args, {"imagenet": (256, 105, 255), "cifar10": (256, 200, 48), "folder": (256, 200, 224)})
    config.optimizer.update({"learning_rate": 0.1 * config.batch_size / 256, "no_decay": ("*/bn*",)})
    config.optimizer.warmup_epochs = config.epochs / 21
    if preset == "imagenet":
        drops = tuple(float(round(config.epochs * epoch / 105)) for epoch in (30, 60, 90, 100))
        config.optimizer.update({"schedule": "step", "milestones": drops})
    else:
        config.method.permutations = {"cifar10": 100, "folder": 1000}[preset]
    if preset == "cifar10":
        config.method.tower_dim = 256
    return config
