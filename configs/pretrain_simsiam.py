"""SimSiam: predict one crop's projection from another's; with views=4 FastSiam.

    python -m jigclu_jax --config=configs/pretrain_simsiam.py --workdir=runs/simsiam --config.data.data_dir=gs://BUCKET/tensorflow_datasets
    python -m jigclu_jax --config=configs/pretrain_simsiam.py:preset=cifar10 --workdir=runs/simsiam_cifar10
    python -m jigclu_jax --config=configs/pretrain_simsiam.py:preset=cifar10,views=4 --workdir=runs/fastsiam_cifar10
    python -m jigclu_jax --config=configs/pretrain_simsiam.py:preset=folder,views=4 --workdir=runs/mine --config.data.path=/path/to/images

`imagenet` is the authors' recipe: ResNet-50 at 224 pixels, batch 512, 100 epochs, SGD with rate 0.05 * batch / 256, decay 1e-4; the
predictor's rate does not follow the schedule where there are two views. `folder` is the same with batch 256, 200 epochs. `cifar10` is the
paper's appendix D: ResNet-18 with the small stem, batch 512, 800 epochs, rate 0.03 * batch / 256, decay 5e-4, projection of two layers, no
blur; with more than two views lightly's FastSiam benchmark: batch 128, 200 epochs, rate 0.06.
Not the authors': their residual blocks start as identities (the last BatchNorm's scale at 0).

Hardware: imagenet 8 GPUs; cifar10 one GPU. An epoch costs as many training passes an image as there are views; JigClu has one.
Expected: published are 68.3 % linear top-1 on ImageNet at 100 epochs and batch 256, and 90.6 % kNN on CIFAR-10 with four views at 200
epochs (others' figures); this library has not run them.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config
from jigclu_jax.data.sources.presets import set_pretraining


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, views, arch, width, batch_size, epochs (0: the preset's), image_size (0: the preset's), bfloat16."""
    args = parse_arg(arg, preset="imagenet", views=2, arch="", width=1.0, batch_size=0, epochs=0, image_size=0, bfloat16=False)
    config = pretrain_config("simsiam")
    small = (128, 200, 32) if args["views"] > 2 else (512, 800, 32)
    preset = set_pretraining(config, args, {"imagenet": (512, 100, 224), "cifar10": small, "folder": (256, 200, 224)})
    config.method.views = args["views"]
    config.optimizer.learning_rate = 0.05 * config.batch_size / 256
    if args["views"] == 2:
        config.optimizer.constant_rate = ("predictor/*",)
    if preset == "cifar10":
        config.method.layers = 2
        config.augment.blur_probability = 0.0
        rate = 0.12 if args["views"] > 2 else 0.03
        config.optimizer.update({"learning_rate": rate * config.batch_size / 256, "weight_decay": 5e-4})
    return config
