"""k-nearest-neighbour accuracy: what features are worth without training anything.

    python -m jigclu_jax --config=configs/knn.py --workdir=runs/cifar10_knn --config.checkpoint=runs/cifar10 \\
        --config.data.source=folder --config.data.path=/data/cifar10

Cosine similarity to the features of all training images; the k nearest vote, each with weight exp(similarity / 0.07) (Wu et al., CVPR
2018) or 1, for k = 20 and 200. Of equally near images the first in the data counts, of classes with equal votes the one with the
smallest number. Features are kept as those of configs/fast_probe.py are, and shared with it.

Presets as there: cifar10, cifar100, tiny_imagenet, imagenet100, imagenet, folder.

Hardware: anything. Expected: some points below a linear probe; lightly's table of CIFAR-10 figures (k = 200, T = 0.1, ResNet-18, 200
epochs) has 84.8 % for SimCLR, none of it run here.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import knn_config, parse_arg
from jigclu_jax.data.sources.presets import set_data


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, resize, crop (pixels; 0: the preset's), bfloat16."""
    args = parse_arg(arg, preset="cifar10", resize=0, crop=0, bfloat16=False)
    config = knn_config()
    set_data(config, args["preset"], args["resize"], args["crop"])
    config.model.dtype = "bfloat16" if args["bfloat16"] else "float32"
    return config
