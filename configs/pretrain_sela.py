"""SeLa: labels of equal share, found by optimal transport of the network's own scores, are the classes that it learns.

    python -m jigclu_jax --config=configs/pretrain_sela.py --workdir=runs/sela --config.data.data_dir=gs://BUCKET/tensorflow_datasets
    python -m jigclu_jax --config=configs/pretrain_sela.py:preset=cifar10 --workdir=runs/sela_cifar10
    python -m jigclu_jax --config=configs/pretrain_sela.py:preset=folder,clusters=100 --workdir=runs/mine --config.data.path=/path/to/images

`imagenet` is the authors' `scripts/resnet.sh`: 10 heads of 3,000 clusters, lambda 25, 100 re-labellings, dense at the beginning, SGD with
rate 0.08, a tenth after 150 and 300 epochs and for the last 50 of 400, decay 1e-5, batch 256. `cifar10` is their `scripts/cifar.sh` with
ResNet-18 at 32 pixels, where they have AlexNet at 224: 10 heads of 128 clusters, lambda 10, one head labelled anew before each epoch,
rate 0.03, a tenth after 240 and 320 of 400 epochs, decay 5e-4, batch 128. `folder` takes own images at 224 pixels with 10 heads of 100.

Hardware: imagenet 8 accelerators or more, which share 26 GB for the features of all images and the scores of a head, and 25 GB of the host;
cifar10 one GPU. Expected: the paper of JigClu reports 61.5 % linear top-1 with ResNet-50; this library has not run it.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config
from jigclu_jax.data.sources.presets import set_pretraining

CLUSTERS = {"imagenet": 3000, "cifar10": 128, "folder": 100}


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, arch, width, batch_size, epochs (0: the preset's), image_size (0: the preset's), bfloat16, clusters (0: same)."""
    args = parse_arg(arg, preset="imagenet", arch="", width=1.0, batch_size=0, epochs=0, image_size=0, bfloat16=False, clusters=0)
    config = pretrain_config("sela")
    preset = set_pretraining(config, args, {"imagenet": (256, 400, 224), "cifar10": (128, 400, 32), "folder": (256, 400, 224)})
    config.method.clusters = args["clusters"] or CLUSTERS[preset]
    milestones = (150, 300, 350)
    if preset == "cifar10":
        config.method.update({"sharpness": 10.0, "relabellings": config.epochs, "relabel_power": 1.0, "heads_in_turn": True})
        config.augment.crop_area = (0.2, 1.0)
        config.optimizer.update({"learning_rate": 0.03, "weight_decay": 5e-4})
        milestones = (240, 320)
    config.optimizer.milestones = tuple(epoch * config.epochs / 400 for epoch in milestones)
    return config
