"""BYOL: predict what a slowly moving copy of the network makes of an image's other crop.

    python -m jigclu_jax --config=configs/pretrain_byol.py --workdir=runs/byol --config.data.data_dir=gs://BUCKET/tensorflow_datasets
    python -m jigclu_jax --config=configs/pretrain_byol.py:preset=cifar10 --workdir=runs/byol_cifar10
    python -m jigclu_jax --config=configs/pretrain_byol.py:preset=folder --workdir=runs/mine --config.data.path=/path/to/images

`imagenet` is the authors' recipe: ResNet-50 at 224 pixels, batch 4096, LARS with ten epochs of warm-up, the second view with less blur and
with solarization. Rate (times batch / 256), decay and momentum follow the epochs as in their code: up to 100 epochs 0.45, 1e-6 and 0.99, up
to 300 epochs 0.3, 1e-6 and 0.99, beyond 0.2, 1.5e-6 and 0.996. `folder` is the same with batch 256. `cifar10` is lightly's benchmark:
ResNet-18 with the small stem, batch 128, 200 epochs, SGD with rate 0.06, decay 5e-4, both laws without blur, heads of 1,024.

Hardware: imagenet 32 accelerator cores or more; cifar10 one GPU. An epoch costs two training passes and two forward passes an image,
8/3 of JigClu's.
Expected: published are 66.5 % linear top-1 on ImageNet at 100 epochs, 74.3 % at 1,000, and about 87 % kNN on CIFAR-10 (others' figures);
this library has not run them.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config
from jigclu_jax.data.sources.presets import set_pretraining


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, arch, width, batch_size, epochs (0: the preset's), image_size (0: the preset's), bfloat16."""
    args = parse_arg(arg, preset="imagenet", arch="", width=1.0, batch_size=0, epochs=0, image_size=0, bfloat16=False)
    config = pretrain_config("byol")
    preset = set_pretraining(config, args, {"imagenet": (4096, 100, 224), "cifar10": (128, 200, 32), "folder": (256, 200, 224)})
    if preset == "cifar10":
        config.method.update({"hidden_dim": 1024, "momentum": 0.99, "second_blur": 0.0, "second_solarize": 0.0})
        config.augment.update({"blur_probability": 0.0, "saturation": 0.4})
        config.optimizer.update({"learning_rate": 0.06 * config.batch_size / 128, "weight_decay": 5e-4})
        return config
    recipes = ((100, 0.45, 1e-6, 0.99), (300, 0.3, 1e-6, 0.99))
    longest = (config.epochs, 0.2, 1.5e-6, 0.996)
    _, rate, decay, momentum = next((recipe for recipe in recipes if config.epochs <= recipe[0]), longest)
    config.method.momentum = momentum
    config.optimizer.update({"name": "lars", "learning_rate": rate * config.batch_size / 256, "weight_decay": decay, "per_epoch": False})
    config.optimizer.warmup_epochs = min(10.0, config.epochs / 10)
    return config
