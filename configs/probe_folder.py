"""The paper's linear probe on sets of class folders: ImageNet-100, Tiny-ImageNet, or any other.

    python -m jigclu_jax --config=configs/probe_folder.py:preset=imagenet100 --workdir=runs/in100_probe --config.checkpoint=runs/in100 \\
        --config.data.path=/data/imagenet100
    python -m jigclu_jax --config=configs/probe_folder.py:preset=tiny_imagenet --workdir=runs/tiny_probe --config.checkpoint=runs/tiny \\
        --config.data.path=/data/tiny-imagenet-200
    python -m jigclu_jax --config=configs/probe_folder.py:preset=folder,image_size=112,learning_rate=0.1 --workdir=runs/flowers_probe \\
        --config.checkpoint=runs/flowers --config.data.path=/data/flowers

Folders train/CLASS/* and val/CLASS/*. The protocol is that of configs/probe_imagenet.py: frozen backbone, random resized crops and flips,
SGD without decay, the rate times 0.1 at 60 % and 80 % of the epochs. Rates: ImageNet-100's 1 is what the authors say (a user of
their code who took another one got 79.24 % instead of 80.9 %); Tiny-ImageNet's and a folder's 0.1 is not published and was not tuned
here. A rate belongs to the size of the features: where it is not known, take the one that configs/fast_probe.py chooses as a hint only,
since its features are standardised. Tiny-ImageNet's validation images must lie in class folders.

Hardware: one GPU for the sizes of ImageNet-100; minutes for small sets on CPU cores. Expected: the paper reports 80.9 % on ImageNet-100;
nothing of it has been run with this library.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, probe_config
from jigclu_jax.data.sources.presets import PROBE_RATES, set_data


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset (imagenet100, tiny_imagenet, folder), learning_rate (0: the preset's), epochs, batch_size, image_size (0: the
    preset's), bfloat16."""
    args = parse_arg(arg, preset="folder", learning_rate=0.0, epochs=100, batch_size=256, image_size=0, bfloat16=False)
    config = probe_config()
    side = args["image_size"]
    set_data(config, args["preset"], round(side * 8 / 7), side)
    config.data.image_size = config.eval_data.crop
    if config.data.image_size <= 64:
        config.augment.crop_area = (0.2, 1.0)
    config.epochs, config.batch_size = args["epochs"], args["batch_size"]
    config.optimizer.learning_rate = args["learning_rate"] or PROBE_RATES[args["preset"]]
    config.optimizer.milestones = (round(0.6 * config.epochs), round(0.8 * config.epochs))
    config.model.dtype = "bfloat16" if args["bfloat16"] else "float32"
    config.eval_every_epochs = 5
    return config
