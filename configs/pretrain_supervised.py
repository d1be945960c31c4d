"""Training with labels: the upper line beside the methods that have none, with the same backbone and loop.

    python -m jigclu_jax --config=configs/pretrain_supervised.py --workdir=runs/supervised --config.data.data_dir=gs://BUCKET/tfds
    python -m jigclu_jax --config=configs/pretrain_supervised.py:preset=cifar10 --workdir=runs/supervised_cifar10
    python -m jigclu_jax --config=configs/pretrain_supervised.py:preset=folder --workdir=runs/mine --config.data.path=/path/to/images

`imagenet` is the usual recipe of ResNet-50 (Goyal et al. 2017): random crops and flips, SGD with rate 0.1 * batch / 256, a tenth after 30,
60 and 80 of 90 epochs, decay 1e-4, five epochs of warm-up. `cifar10`: ResNet-18 with the small stem, batch 128, 200 epochs, cosine,
rate 0.1, decay 5e-4, crops of half the area at least. `folder` takes `train/CLASS/*` below the path, at 224 pixels.

Hardware: imagenet 8 accelerators; cifar10 one GPU. Expected: the usual figures are 76 % top-1 on ImageNet (torchvision's first weights) and
95 % on CIFAR-10, by the classifier itself; this library has not run them.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config
from jigclu_jax.data.sources.presets import set_pretraining


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, arch, width, batch_size, epochs (0: the preset's), image_size (0: the preset's), bfloat16."""
    args = parse_arg(arg, preset="imagenet", arch="", width=1.0, batch_size=0, epochs=0, image_size=0, bfloat16=False)
    config = pretrain_config("supervised")
    preset = set_pretraining(config, args, {"imagenet": (256, 90, 224), "cifar10": (128, 200, 32), "folder": (256, 100, 224)})
    rate, warmup = 0.1 * config.batch_size / (128 if preset == "cifar10" else 256), min(5.0, config.epochs / 10)
    config.optimizer.update({"learning_rate": rate, "warmup_epochs": warmup, "per_epoch": False})
    if preset == "imagenet":
        config.optimizer.update({"schedule": "step", "milestones": tuple(part * config.epochs / 90 for part in (30, 60, 80))})
    if preset == "cifar10":
        config.augment.crop_area = (0.5, 1.0)
        config.optimizer.weight_decay = 5e-4
    if preset == "folder":
        config.data.split = "train"
    return config
