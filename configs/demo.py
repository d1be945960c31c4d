"""The whole way in a few minutes on two CPU cores: `make demo`.

    python -m jigclu_jax --config=configs/demo.py --workdir=runs/demo

Pretrains a narrow ResNet-18 with jigsaw clustering on the embedded data set (procedural pictures, nothing is downloaded), then
probes it as a separate job from its checkpoints, beside the same backbone with random weights, the same backbone trained with
labels, and linear probes on raw pixels and on colour histograms. Leaves `runs/demo/pretrain`, `runs/demo/probe`,
`runs/demo/supervised`, `runs/demo/probe_supervised`, and on top `runs/demo/report.html` and `runs/demo/result.json`.

Hardware: 2 CPU cores, 5 to 10 minutes. Expected: docs/results.md.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config, probe_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: epochs (of pretraining), probe_epochs, supervised_epochs, limit (images; 0 for all 4,096), width, seed."""
    args = parse_arg(arg, epochs=3, probe_epochs=2, supervised_epochs=2, limit=0, width=0.25, seed=0)
    return ConfigDict(
        {
            "job": "demo",
            "seed": args["seed"],
            "pretrain": _pretrain(args["epochs"], args["limit"], args["width"], args["seed"]),
            "supervised": _supervised(args["supervised_epochs"], args["limit"], args["width"], args["seed"]),
            "probe": _probe(args["probe_epochs"], args["limit"], args["seed"]),
        }
    )


def _pretrain(epochs: int, limit: int, width: float, seed: int, method: str = "jigclu") -> ConfigDict:
    """Montages of 48 pixels, patches of 24; a short run wants a high rate that changes every step, and a warm-up."""
    config = pretrain_config(method)
    config.seed, config.epochs, config.batch_size = seed, epochs, 64
    config.model.arch, config.model.stem, config.model.width = "resnet18", "small", width
    config.optimizer.update({"learning_rate": 0.06, "per_epoch": False, "warmup_epochs": 0.5})
    config.data.source, config.data.split, config.data.limit = "embedded", "train", limit
    config.data.image_size = 48
    config.augment.blur_probability = 0.0  # nothing would be left of the patterns
    config.log_every_steps = 16
    return config


def _supervised(epochs: int, limit: int, width: float, seed: int) -> ConfigDict:
    config = _pretrain(epochs, limit, width, seed, "supervised")
    config.augment.crop_area = (0.4, 1.0)
    return config


def _probe(epochs: int, limit: int, seed: int) -> ConfigDict:
    """The paper's protocol, shortened; rate and crops belong to the data."""
    config = probe_config()
    config.seed, config.epochs, config.batch_size = seed, epochs, 64
    config.optimizer.learning_rate = 0.1
    config.optimizer.milestones = (round(0.6 * epochs), round(0.8 * epochs))
    config.data.source, config.data.split, config.data.limit = "embedded", "train", limit
    config.data.image_size = 48
    config.augment.crop_area = (0.4, 1.0)
    config.eval_data.split, config.eval_data.resize, config.eval_data.crop = "validation", 48, 48
    config.eval_every_epochs = 2
    config.log_every_steps = 16
    config.random_init = True
    return config
