"""Linear probe in seconds: a grid of heads on features that are computed once, without augmentation.

    python -m jigclu_jax --config=configs/fast_probe.py --workdir=runs/cifar10_fast --config.checkpoint=runs/cifar10 \\
        --config.data.source=folder --config.data.path=/data/cifar10
    python -m jigclu_jax --config=configs/fast_probe.py:preset=imagenet --workdir=runs/imagenet_fast --config.weights=resnet50.npz

One pass of the frozen backbone over training and evaluation images (resized, centre-cropped), then 24 heads together: six learning rates by
four weight decays, SGD with momentum and a cosine, 100 epochs, on standardised features. The head is chosen on a tenth of the
training images, trained once more on all of them, and only then meets the evaluation images. Ridge regression and L-BFGS stand
beside it. Features are kept in `features` beside the workdir: a second probe of the same backbone starts from them.

Presets: cifar10, cifar100, tiny_imagenet, imagenet100, imagenet (data and sizes), folder (`:preset=folder,resize=128,crop=112`). The
figure is no replacement for the paper's protocol (configs/probe_imagenet.py), whose crops and flips see more than one view.

Hardware: anything; the pass costs one evaluation of the data, the heads about a minute for 50,000 x 512 on 2 CPU cores. Expected: within
a few points of the augmented probe; docs/evaluation.md.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import fast_probe_config, parse_arg
from jigclu_jax.data.sources.presets import set_data


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, resize, crop (pixels; 0: the preset's), epochs, bfloat16."""
    args = parse_arg(arg, preset="cifar10", resize=0, crop=0, epochs=100, bfloat16=False)
    config = fast_probe_config()
    set_data(config, args["preset"], args["resize"], args["crop"])
    config.probe.epochs = args["epochs"]
    config.model.dtype = "bfloat16" if args["bfloat16"] else "float32"
    return config
