"""Fine-tuning of a pretrained backbone: transfer to another data set, or a small part of the labels.

    python -m jigclu_jax --config=configs/finetune.py:preset=cifar10 --workdir=runs/cifar10_finetune --config.checkpoint=runs/imagenet
    python -m jigclu_jax --config=configs/finetune.py:preset=folder --workdir=runs/mine_finetune --config.checkpoint=runs/mine \
        --config.data.path=/path/to/images
    python -m jigclu_jax --config=configs/finetune.py:preset=imagenet_1pct,coded --workdir=runs/imagenet_1pct \
        --config.checkpoint=runs/imagenet
    python -m jigclu_jax --config=configs/finetune.py:preset=flowers,init=weights,arch=resnet50 --workdir=runs/flowers_torchvision \
        --config.weights=resnet50.npz

Presets. `cifar10`, `cifar100`, `flowers`, `folder`: transfer. SGD with a cosine that changes every step, 5 epochs of warm-up out of 100,
batch 64; three learning rates and two weight decays are tried on a tenth of every class kept from training, 30 epochs each; the
final run sees all of train and looks at the test images once. `small` is for backbones with the small-image stem: 32 pixels, or
`image_size=...`. `imagenet_1pct`, `imagenet_10pct`: the authors' semi-supervised recipe (100 epochs, rate 0.02 or 0.01 times 0.1 at 30, 60
and 90, no decay), the classifier's rate 5.0 or 0.2 as they meant it, or with `coded` equal to the backbone's, as their code trains.
Other lists: `--config.data.source=folder --config.data.path=/data/imagenet --config.data.list=1percent.txt`.

`init=random` trains from scratch, `init=weights` from a torchvision ResNet's weights; `--config.controls=random` (or `random,weights`)
does it beside the run, each with a search of its own.

Hardware: one GPU for the presets; on 2 CPU cores narrow backbones and small images. Expected: docs/results.md; the paper reports 40.7 %
and 63.0 % top-1 for 1 % and 10 % of ImageNet (it does not say whether by the schedule as coded).
"""

from ml_collections import ConfigDict

from jigclu_jax.config import finetune_config, parse_arg
from jigclu_jax.errors import UserError

TRANSFER = {
    "cifar10": ("train", "test"),
    "cifar100": ("train", "test"),
    "flowers": ("train+validation", "test"),
    "folder": ("train", "val"),
}
SEMI = {"imagenet_1pct": (0.02, 5.0), "imagenet_10pct": (0.01, 0.2)}  # rates of backbone and classifier


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: preset (cifar10, cifar100, flowers, folder, imagenet_1pct, imagenet_10pct), coded, small, init, arch, image_size,
    batch_size, epochs, seed."""
    args = parse_arg(
        arg, preset="folder", coded=False, small=False, init="checkpoint", arch="", image_size=0, batch_size=0, epochs=100, seed=0
    )
    if args["preset"] not in (*TRANSFER, *SEMI):
        raise UserError(f"config argument preset={args['preset']} is unknown: use one of {', '.join((*TRANSFER, *SEMI))}")
    config = _semi(args["preset"]) if args["preset"] in SEMI else _transfer(args["preset"], args["epochs"])
    config.init, config.epochs, config.seed = args["init"], args["epochs"], args["seed"]
    config.schedule_as = "coded" if args["coded"] else "meant"
    config.model.arch = args["arch"]
    config.model.stem = "small" if args["small"] else ""
    size = args["image_size"] or (32 if args["small"] else 224)
    config.data.image_size = config.eval_data.crop = size
    config.eval_data.resize = size if args["small"] else round(size * 256 / 224)
    config.batch_size = args["batch_size"] or config.batch_size
    if args["small"]:
        config.augment.crop_area = (0.2, 1.0)
    return config


def _transfer(name: str, epochs: int) -> ConfigDict:
    config = finetune_config()
    config.batch_size = 64
    config.optimizer.update({"schedule": "cosine", "per_epoch": False, "warmup_epochs": 0.05 * epochs, "learning_rate": 0.03})
    config.optimizer.update({"weight_decay": 1e-4, "milestones": ()})
    config.search.update({"learning_rates": (0.01, 0.03, 0.1), "weight_decays": (0.0, 1e-4), "epochs": max(round(0.3 * epochs), 1)})
    config.data.split, config.eval_data.split = TRANSFER[name]
    if name != "folder":
        config.data.source, config.data.name = "tfds", {"flowers": "oxford_flowers102"}.get(name, name)
    return config


def _semi(name: str) -> ConfigDict:
    config = finetune_config()
    backbone, head = SEMI[name]
    config.optimizer.learning_rate, config.head_multiplier = backbone, head / backbone
    config.data.source, config.data.name = "tfds", f"imagenet2012_subset/{name.partition('_')[2]}"
    config.eval_data.split = "validation"
    return config
