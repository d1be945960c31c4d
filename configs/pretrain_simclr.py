"""SimCLR: two crops of each image, contrasted with all crops of the batch.

    python -m jigclu_jax --config=configs/pretrain_simclr.py --workdir=runs/simclr --config.data.data_dir=gs://BUCKET/tensorflow_datasets
    python -m jigclu_jax --config=configs/pretrain_simclr.py:preset=cifar10 --workdir=runs/simclr_cifar10
    python -m jigclu_jax --config=configs/pretrain_simclr.py:preset=folder --workdir=runs/mine --config.data.path=/path/to/images

`imagenet` is the paper's recipe: ResNet-50 at 224 pixels, batch 4096, 100 epochs, LARS with rate 0.3 * batch / 256, decay 1e-6, ten epochs
of warm-up, temperature 0.1. Below batch 1024 the rate is 0.075 * sqrt(batch), as the paper's appendix advises for small batches.
`cifar10` is the paper's appendix B.9: ResNet-18 with the small stem, batch 512, temperature 0.5, half the colour strength, no blur, LARS
with rate 1.0, decay 1e-4. `folder` takes own images at 224 pixels, batch 256.

Hardware: imagenet 32 accelerator cores or more; cifar10 one GPU; an epoch costs two forward passes an image where JigClu has one.
Expected: the paper reports 64.5 % linear top-1 on ImageNet at 100 epochs and batch 4096 (its own figure); this library has not run it.
"""

import math

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config
from jigclu_jax.data.sources.presets import set_pretraining


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, arch, width, batch_size, epochs (0: the preset's), image_size (0: the preset's), bfloat16."""
    args = parse_arg(arg, preset="imagenet", arch="", width=1.0, batch_size=0, epochs=0, image_size=0, bfloat16=False)
    config = pretrain_config("simclr")
    preset = set_pretraining(config, args, {"imagenet": (4096, 100, 224), "cifar10": (512, 1000, 32), "folder": (256, 200, 224)})
    rate = 0.3 * config.batch_size / 256 if config.batch_size >= 1024 else 0.075 * math.sqrt(config.batch_size)
    config.optimizer.update({"name": "lars", "learning_rate": rate, "weight_decay": 1e-6, "warmup_epochs": 10.0, "per_epoch": False})
    if preset == "cifar10":
        config.method.temperature = 0.5
        config.method.hidden_dim = 512
        config.optimizer.update({"learning_rate": 1.0, "weight_decay": 1e-4})
        config.augment.update({"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "blur_probability": 0.0})
    config.optimizer.warmup_epochs = min(config.optimizer.warmup_epochs, config.epochs / 10)
    return config
