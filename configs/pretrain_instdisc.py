"""Instance discrimination: every image is a class of its own, told apart by a memory bank.

    python -m jigclu_jax --config=configs/pretrain_instdisc.py --workdir=runs/instdisc --config.data.data_dir=gs://BUCKET/tensorflow_datasets
    python -m jigclu_jax --config=configs/pretrain_instdisc.py:preset=cifar10 --workdir=runs/instdisc_cifar10
    python -m jigclu_jax --config=configs/pretrain_instdisc.py:preset=folder --workdir=runs/mine --config.data.path=/path/to/images

`imagenet` is the authors' recipe: ResNet-50 at 224 pixels, batch 256, 200 epochs, rate 0.03 with a tenth at epochs 120 and 160, decay 1e-4,
4,096 negatives, temperature 0.07, bank momentum 0.5. `cifar10` is their cifar.py with the softmax over all 50,000 images that the paper's
table uses: ResNet-18 with the small stem, batch 128, 200 epochs at a constant rate of 0.1, decay 5e-4, temperature 0.1, no flips. `folder`
takes own images at 224 pixels, batch 256, with the softmax over all of them; from about 100,000 images on set
`--config.method.negatives=4096`, since a batch needs a number for each pair of its images and all images.

Hardware: imagenet 8 GPUs; cifar10 one GPU; an epoch costs one forward pass an image. The bank takes 512 bytes an image on every device.
Expected: the authors' README lists 46.8 % by nearest neighbours on ImageNet for ResNet-50; this library has not run it.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config
from jigclu_jax.data.sources.presets import set_pretraining


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, arch, width, batch_size, epochs (0: the preset's), image_size (0: the preset's), bfloat16."""
    args = parse_arg(arg, preset="imagenet", arch="", width=1.0, batch_size=0, epochs=0, image_size=0, bfloat16=False)
    config = pretrain_config("instdisc")
    preset = set_pretraining(config, args, {"imagenet": (256, 200, 224), "cifar10": (128, 200, 32), "folder": (256, 200, 224)})
    drops = tuple(float(round(config.epochs * share)) for share in (0.6, 0.8))
    config.optimizer.update({"learning_rate": 0.03 * config.batch_size / 256, "schedule": "step", "milestones": drops})
    if preset == "cifar10":
        config.augment.flip_probability = 0.0
        config.method.temperature = 0.1
        config.optimizer.update({"learning_rate": 0.1, "weight_decay": 5e-4, "schedule": "constant", "milestones": ()})
    if preset != "imagenet":
        config.method.negatives = 0
    return config
