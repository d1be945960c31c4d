"""Everything that can be said about a pretrained backbone, on one page and in one result.json.

    python -m jigclu_jax --config=configs/evaluate.py --workdir=runs/cifar10_evaluation --config.checkpoint=runs/cifar10 \\
        --config.data.source=folder --config.data.path=/data/cifar10
    python -m jigclu_jax --config=configs/evaluate.py:resize=128,crop=112 --workdir=runs/flowers_evaluation \\
        --config.checkpoint=runs/flowers --config.data.path=/data/flowers

Linear heads (configs/fast_probe.py), ridge regression, L-BFGS and kNN, each with a bootstrap interval and beside the same backbone with
random weights; confusion matrix and accuracy of every class, nearest neighbours as pictures, a map of the features, effective rank,
uniformity and alignment; for a jigsaw-clustering checkpoint also where its location head is wrong. `--config.weights=FILE` instead of
a checkpoint takes torchvision's or the authors' weights. The paper's augmented probe is a job of its own: configs/probe_imagenet.py.

Presets as in configs/fast_probe.py: cifar10, cifar100, tiny_imagenet, imagenet100, imagenet, folder. Without one,
`--config.data.path` alone is a folder of train/class/file and val/class/file (preset folder), or an .npz file; no path: CIFAR-10.

Hardware: anything; twice the pass of configs/fast_probe.py, once for random weights. Expected: docs/evaluation.md.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import evaluate_config, parse_arg
from jigclu_jax.data.sources.presets import set_data


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset, resize, crop (pixels; 0: the preset's), epochs, bfloat16."""
    args = parse_arg(arg, preset="cifar10", resize=0, crop=0, epochs=100, bfloat16=False)
    config = evaluate_config()
    set_data(config, args["preset"], args["resize"], args["crop"])
    config.probe.epochs = args["epochs"]
    config.model.dtype = "bfloat16" if args["bfloat16"] else "float32"
    return config
