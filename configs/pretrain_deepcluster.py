"""DeepCluster: clusters of the network's own features, found anew before each epoch, are the classes that it learns.

    python -m jigclu_jax --config=configs/pretrain_deepcluster.py --workdir=runs/deepcluster --config.data.data_dir=gs://BUCKET/tfds
    python -m jigclu_jax --config=configs/pretrain_deepcluster.py:preset=cifar10 --workdir=runs/deepcluster_cifar10
    python -m jigclu_jax --config=configs/pretrain_deepcluster.py:preset=folder,clusters=100 --workdir=runs/mine \\
        --config.data.path=/path/to/images

`imagenet` is the authors' recipe for AlexNet and VGG on ResNet-50, for which they have no code: 10,000 clusters of 256 whitened components,
SGD with the constant rate 0.05, decay 1e-5, batch 256, 200 epochs, random crops and flips. `cifar10` is the same with ResNet-18, the small
stem and 128 clusters; `folder` with 100 clusters: about ten times as many as there are kinds of images is what the authors advise.

Hardware: imagenet 8 accelerators or more, and 25 GB of the host for the features of all images; cifar10 one GPU. An epoch costs one
training pass and one inference pass an image, and k-means. Expected: the paper of JigClu reports 48.4 % linear top-1 with ResNet-50 (of
another reimplementation); this library has not run it.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config
from jigclu_jax.data.sources.presets import set_pretraining

CLUSTERS = {"imagenet": 10_000, "cifar10": 128, "folder": 100}


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, arch, width, batch_size, epochs (0: the preset's), image_size (0: the preset's), bfloat16, clusters (0: same)."""
    args = parse_arg(arg, preset="imagenet", arch="", width=1.0, batch_size=0, epochs=0, image_size=0, bfloat16=False, clusters=0)
    config = pretrain_config("deepcluster")
    preset = set_pretraining(config, args, {"imagenet": (256, 200, 224), "cifar10": (256, 200, 32), "folder": (256, 200, 224)})
    config.method.clusters = args["clusters"] or CLUSTERS[preset]
    return config
