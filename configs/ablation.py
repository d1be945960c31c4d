"""The ablations of the paper, one table a command, small enough for two CPU cores.

    python -m jigclu_jax --config=configs/ablation.py:table=montage --workdir=runs/ablation_montage \\
        --config.pretrain.data.path=/data/cifar10
    python -m jigclu_jax --config=configs/ablation.py:table=augmentation,seeds=2 --workdir=runs/ablation_augmentation \\
        --config.pretrain.data.path=/data/cifar10

Tables: montage (against patches as small images and as large ones, at equal epochs and at equal time), augmentation (each off in turn),
grid (m = 2, 3, 4), overlap (0 to 0.5), branches (each alone), weights (between the branches), plus (from the authors' recipe to
JigClu+). The same command again goes on; the same command in a second terminal, or on a second machine with the same disk, takes its
share of the cells.

CIFAR-10 in folders `train/CLASS/*`, `test/CLASS/*`: 2,000 images, ResNet-18 with the small-image stem at width 1/8, montages of 32 pixels
(as large as an image, as in the paper), batch 64, 10 epochs, rate 0.03 with a cosine and half an epoch of warm-up, three seeds. Blur is
scaled to patches of 16 pixels, sigma up to 0.29. Judge: the fast probe on the same 2,000 images, top-1 on 2,000 test images.

Every cell sees the same images, whatever its seed and row.

Hardware: 2 CPU cores. Cost: rows x seeds cells, each a pretraining and its judge: 15 for montage, 18 for augmentation and overlap,
9 for grid and branches, 21 for weights. Expected: the time of each table in docs/ablations.md, figures in docs/results.md.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import ablation_config, parse_arg


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: table, seeds (their number), epochs, images, width, batch_size, image_size."""
    args = parse_arg(arg, table="montage", seeds=3, epochs=10, images=2000, width=0.125, batch_size=64, image_size=32)
    config = ablation_config()
    blur = round(2.0 * args["image_size"] / 224, 2)  # the paper's is for montages of 224
    config.table, config.seeds = args["table"], tuple(range(args["seeds"]))
    pretrain, judge = config.pretrain, config.judge
    pretrain.epochs, pretrain.batch_size = args["epochs"], args["batch_size"]
    pretrain.model.arch, pretrain.model.stem, pretrain.model.width = "resnet18", "small", args["width"]
    pretrain.data.split = "train"
    pretrain.data.image_size, pretrain.data.min_side, pretrain.data.limit = args["image_size"], 1, args["images"]
    pretrain.optimizer.per_epoch, pretrain.optimizer.warmup_epochs = False, 0.5
    pretrain.augment.blur_sigma = (min(0.1, blur), blur)
    pretrain.saving.best_metric, pretrain.saving.every_epochs = "", 5.0
    pretrain.log.tensorboard = pretrain.log.pictures = False
    judge.data.limit, judge.eval_data.limit = args["images"], args["images"]
    side = max(32, args["image_size"] // 2)
    judge.eval_data.split, judge.eval_data.resize, judge.eval_data.crop = "test", side, side
    judge.probe.epochs = 30
    return config
