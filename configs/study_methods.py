"""Every method beside JigClu on one set of images, at equal epochs or at equal compute, judged alike.

    python -m jigclu_jax --config=configs/study_methods.py --workdir=runs/study --config.pretrain.data.path=/data/cifar10
    python -m jigclu_jax --config=configs/study_methods.py:equal=epochs,seeds=2 --workdir=runs/study_epochs \\
        --config.pretrain.data.path=/data/cifar10
    python -m jigclu_jax --config=configs/study_methods.py:judge=evaluate,few=0.01 --workdir=runs/study_judged \\
        --config.pretrain.data.path=/data/cifar10
    python -m jigclu_jax --config=configs/compare.py --workdir=runs/study_table --config.runs=runs/study_judged/cells/*/seed*/judge*
    python -m jigclu_jax --config=configs/study_methods.py:images=0,arch=resnet18,width=1,epochs=200 --workdir=runs/study_full \\
        --config.pretrain.data.path=/data/cifar10

Compute is counted in u, forward passes of the backbone over a full-size image (32 pixels here), in the FLOPs of each method's own step.
JigClu's montages are as large as an image, so that an image costs it 3 u and a method with two views 6 u. `epochs` are the first arm's;
with `equal=u` the others train as many epochs as cost the same. `--config.arms` takes other arms: a name, then fields of
`config.pretrain`. The same command again goes on; the same command in a second terminal takes its share.

`judge=evaluate` judges by probe and neighbours, `few=0.01` once more with 1 % of the labels; `compare` makes one table of it all, and of
studies on several data sets: probe, kNN, few labels, images/s, memory and u, methods by rows, data sets by columns.

Each method has settings for small images and few of them (queue, clusters, heads), and one rate that was not searched for:
a campaign of one's own should give every arm the same number of tries. `supervised` trains with the labels and is the upper line.

Hardware: 2 CPU cores for the defaults (2,000 images, ResNet-18 at width 1/8), one GPU for more. Expected: docs/results.md.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import ablation_config, evaluate_config, parse_arg
from jigclu_jax.config.jobs import plus_settings

_PLUS = plus_settings("jigclu")
_TWO_VIEWS = "augment.crop_area=(0.2,1.0)"
ARMS = (
    "jigclu",
    f"jigclu+ {_PLUS}",
    f"simclr method.name=simclr method.temperature=0.2 method.hidden_dim=256 {_TWO_VIEWS}",
    "moco method.name=moco method.queue=1024 method.momentum=0.99 method.temperature=0.1",
    f"byol method.name=byol method.momentum=0.99 method.hidden_dim=256 method.embedding_dim=64 method.second_solarize=0 {_TWO_VIEWS}",
    "simsiam method.name=simsiam method.layers=2 method.embedding_dim=256 method.predictor_dim=64",
    "fastsiam method.name=simsiam method.views=4 method.layers=2 method.embedding_dim=256 method.predictor_dim=64",
    "deepcluster method.name=deepcluster method.clusters=100 method.pca_dim=32",
    "sela method.name=sela method.clusters=100 method.heads=3 method.sharpness=10 method.relabellings=20",
    "jigpuz method.name=jigpuz method.permutations=100 method.tower_dim=128 data.image_size=48",
    "rotation method.name=rotation",
    "instdisc method.name=instdisc method.negatives=0",
    "pirl method.name=pirl method.negatives=0 method.tile_size=12",
    "supervised method.name=supervised",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: equal (u, epochs), seeds (their number), epochs, images (0: all), arch, width, batch_size, learning_rate, side (of an
    image in pixels), judge (fast_probe, evaluate), few (labels, a fraction)."""
    args = parse_arg(
        arg,
        equal="u",
        seeds=3,
        epochs=20,
        images=2000,
        arch="resnet18",
        width=0.125,
        batch_size=64,
        learning_rate=0.06,
        side=32,
        judge="fast_probe",
        few=0.0,
    )
    config = ablation_config()
    if args["judge"] == "evaluate":
        config.judge = evaluate_config()
        config.judge.data.subset_seed = config.judge.eval_data.subset_seed = 0
        config.judge.update({"cache": "none", "random_init": False})
        config.judge.probe.checks = ()
    config.few = args["few"]
    config.table, config.arms, config.equal, config.seeds = "arms", ARMS, args["equal"], tuple(range(args["seeds"]))
    pretrain, judge, side = config.pretrain, config.judge, args["side"]
    pretrain.epochs, pretrain.batch_size = args["epochs"], args["batch_size"]
    pretrain.model.arch, pretrain.model.stem, pretrain.model.width = args["arch"], "small" if side <= 64 else "imagenet", args["width"]
    pretrain.data.split, pretrain.data.limit = "train", args["images"]
    pretrain.data.image_size, pretrain.data.min_side = side, 1
    pretrain.optimizer.update({"learning_rate": args["learning_rate"], "per_epoch": False, "warmup_epochs": args["epochs"] / 20})
    pretrain.augment.blur_probability = 0.0 if side <= 64 else 0.5
    pretrain.online.eval_data.update({"split": "test", "resize": side, "crop": side})
    pretrain.saving.best_metric, pretrain.saving.every_epochs = "", 5.0
    pretrain.log.tensorboard = pretrain.log.pictures = False
    judge.data.limit = judge.eval_data.limit = args["images"]
    judge.eval_data.update({"split": "test", "resize": side, "crop": side})
    judge.probe.epochs = 30
    return config
