"""PIRL: an image and its shuffled tiles shall both lie near the image's row of a memory bank.

    python -m jigclu_jax --config=configs/pretrain_pirl.py --workdir=runs/pirl --config.data.data_dir=gs://BUCKET/tensorflow_datasets
    python -m jigclu_jax --config=configs/pretrain_pirl.py:preset=cifar10 --workdir=runs/pirl_cifar10
    python -m jigclu_jax --config=configs/pretrain_pirl.py:preset=folder --workdir=runs/mine --config.data.path=/path/to/images

`imagenet` is the authors' recipe (VISSL, pirl_jigsaw_4node_resnet50.yaml): ResNet-50, images at 224 pixels and nine tiles of 64, batch
1024, 800 epochs, cosine from 0.12 to a thousandth of it, decay 1e-4 except of BatchNorm and biases, 32,000 negatives, temperature 0.07,
bank momentum 0.5, both losses of equal weight; our cosine ends at 0, and their photometric distortion is left out. No paper has a recipe
for CIFAR-10: `cifar10` has images of 32 pixels and tiles of 12, batch 256, 200 epochs, and the softmax over all images; `folder` the same
with images of 224 pixels and tiles of 64 (from about 100,000 images on set `--config.method.negatives=4096`).

Hardware: imagenet 32 GPUs; cifar10 one GPU; an epoch costs 1.73 forward passes of a whole image. The bank takes 512 bytes an image on every
device.
Expected: the authors list 62.85 % linear top-1 on ImageNet at 200 epochs (VISSL's MODEL_ZOO.md); this library has not run it.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config
from jigclu_jax.data.sources.presets import set_pretraining


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, arch, width, batch_size, epochs (0: the preset's), image_size (0: the preset's), bfloat16."""
    args = parse_arg(arg, preset="imagenet", arch="", width=1.0, batch_size=0, epochs=0, image_size=0, bfloat16=False)
    config = pretrain_config("pirl")
    preset = set_pretraining(config, args, {"imagenet": (1024, 800, 224), "cifar10": (256, 200, 32), "folder": (256, 200, 224)})
    config.optimizer.update({"learning_rate": 0.03 * config.batch_size / 256, "exclude_1d": "always"})
    if preset != "imagenet":
        config.method.negatives = 0
    if preset == "cifar10":
        config.method.tile_size = 12
    return config
