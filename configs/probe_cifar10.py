"""Linear probe on CIFAR-10, CIFAR-100 (`:cifar100`), or any set of small images.

    python -m jigclu_jax --config=configs/probe_cifar10.py --workdir=runs/cifar10_probe --config.checkpoint=runs/cifar10 \\
        --config.data.source=folder --config.data.path=/data/cifar10 --config.random_init=True

The paper's protocol at 32 pixels: frozen backbone, random resized crops (area 0.2-1) and flips, SGD without decay, the rate times
0.1 at 60 % and 80 % of the epochs. Accuracy on the test set, whole images. The paper publishes no rate for these sets; 0.1 was not tuned.

Hardware: anything; a few seconds an epoch for a narrow backbone on 2 CPU cores. Expected: docs/results.md. `random_init` probes a
backbone with random weights beside it.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, probe_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: learning_rate, epochs, batch_size, cifar100."""
    args = parse_arg(arg, learning_rate=0.1, epochs=100, batch_size=256, cifar100=False)
    config = probe_config()
    config.epochs, config.batch_size = args["epochs"], args["batch_size"]
    config.optimizer.learning_rate = args["learning_rate"]
    config.optimizer.milestones = (round(0.6 * config.epochs), round(0.8 * config.epochs))
    config.data.source, config.data.name, config.data.split = "tfds", ("cifar100" if args["cifar100"] else "cifar10"), "train"
    config.data.image_size = 32
    config.augment.crop_area = (0.2, 1.0)
    config.eval_data.split, config.eval_data.resize, config.eval_data.crop = "test", 32, 32
    config.eval_every_epochs = 5
    return config
