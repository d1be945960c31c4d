"""JigClu, JigClu+ and the methods they are usually compared with on all of CIFAR-10, at equal compute, at full width: one GPU, minutes.

    python -m jigclu_jax --config=configs/study_cifar10.py --workdir=runs/study_cifar10 --config.pretrain.data.path=/data/cifar10
    python -m jigclu_jax --config=configs/study_cifar10.py:epochs=400,seeds=3 --workdir=runs/study_long \\
        --config.pretrain.data.path=/data/cifar10

`/data/cifar10` holds train/CLASS/* and test/CLASS/*. It is `study_methods.py` with ResNet-18, bfloat16 and images in device memory.
`epochs` are those of an image that costs 3 u (JigClu with montages as large as an image): 120 epochs are 360 u, which SimCLR spends in 60,
FastSiam in 30. kNN (k = 20) on all images every 15 epochs, and at the end a linear probe and ridge regression.

The rate is that of lightly's benchmark (SGD, 0.06 * batch / 128, decay 5e-4, cosine); `jigclu` has the authors', a quarter of it.
Temperature, queue, momentum and heads are usual for CIFAR-10. Nothing was searched for here, for any arm.

Hardware: one GPU. Expected: docs/results.md.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import load_config, parse_arg
from jigclu_jax.config.jobs import CONFIGS, plus_settings

_AUTHORS = "optimizer.per_epoch=True optimizer.warmup_epochs=0 optimizer.learning_rate={authors}"
_PLUS = plus_settings("jigclu")
_TWO_VIEWS = "augment.crop_area=(0.2,1.0)"
ARMS = (
    f"jigclu {_AUTHORS}",
    f"jigclu+ {_PLUS}",
    f"simclr method.name=simclr method.temperature=0.2 method.hidden_dim=512 {_TWO_VIEWS}",
    "fastsiam method.name=simsiam method.views=4 method.layers=2",
    "moco method.name=moco method.queue=4096 method.momentum=0.99 method.temperature=0.1",
    f"jigclu+_64 data.image_size=64 {_PLUS}",
    f"byol method.name=byol method.momentum=0.99 method.hidden_dim=1024 method.second_solarize=0 {_TWO_VIEWS}",
    f"jigclu_64 data.image_size=64 {_AUTHORS}",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: epochs, seeds (their number), images (0: all), arch, width, batch_size."""
    args = parse_arg(arg, epochs=120, seeds=1, images=0, arch="resnet18", width=1.0, batch_size=256)
    same = ",".join(f"{name}={value}" for name, value in args.items())
    config = load_config(CONFIGS / "study_methods.py", f"{same},learning_rate={0.06 * args['batch_size'] / 128}")
    config.arms = tuple(arm.format(authors=0.03 * args["batch_size"] / 256) for arm in ARMS)
    pretrain, judge = config.pretrain, config.judge
    pretrain.model.dtype, pretrain.data.augment, pretrain.optimizer.weight_decay = "bfloat16", "resident", 5e-4
    pretrain.online.every_epochs, pretrain.online.images = 15, 50_000
    pretrain.saving.every_epochs, pretrain.log_every_steps = 30.0, 195
    judge.probe.checks, judge.eval_batch_size = ("ridge",), 1000
    return config
