"""Pretraining on CIFAR-10, or any set of small images.

    python -m jigclu_jax --config=configs/pretrain_cifar10.py --workdir=runs/cifar10 \\
        --config.data.source=folder --config.data.path=/data/cifar10

ResNet-18 with the small-image stem (3 x 3, stride 1, no max-pool) on montages of 64 pixels: patches of 32, as large as an
image. Blur is off: at 32 pixels a sigma of up to 2 leaves nothing to see. The rest is the paper's recipe. Images: TFDS's
`cifar10` (prepared beforehand), or folders `train/CLASS/*`.

Hardware: one GPU for the full width and 200 epochs; on 2 CPU cores a narrow backbone (`width=0.125`) sees 10,000 images
an epoch (`--config.data.limit=10000`) for 20 epochs in about half an hour. Expected: docs/results.md.

`method=supervised` trains the same backbone with labels on single 32-pixel crops.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: arch, width, batch_size, epochs, method."""
    args = parse_arg(arg, arch="resnet18", width=1.0, batch_size=256, epochs=200, method="jigclu")
    config = pretrain_config(args["method"])
    config.batch_size, config.epochs = args["batch_size"], args["epochs"]
    config.model.arch, config.model.stem, config.model.width = args["arch"], "small", args["width"]
    config.data.source, config.data.name, config.data.split = "tfds", "cifar10", "train"
    config.data.image_size = 32 if args["method"] == "supervised" else 64
    config.data.min_side = 1
    config.augment.blur_probability = 0.0
    config.online.eval_data.update({"split": "test", "resize": 32, "crop": 32})
    return config
