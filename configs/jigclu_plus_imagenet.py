"""JigClu+ on ImageNet: `pretrain_imagenet.py` with the settings of JigClu+.

    python -m jigclu_jax --config=configs/jigclu_plus_imagenet.py --workdir=runs/plus_imagenet \\
        --config.data.source=folder --config.data.path=/data/imagenet

Four times the authors' rate with a cosine by steps and warm-up, BatchNorm in the projection, temperature 0.1 (the factor T / T0 stays in
the loss), mirrored location labels: nothing of it costs a forward pass. These were found on small images and short runs.

Hardware: 8 or more accelerator cores, or one large GPU. Expected: not run, no figure is known; the paper reports 66.4 %
linear top-1 for its own recipe (its figure).
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: arch, batch_size, epochs, bfloat16."""
    args = parse_arg(arg, arch="resnet50", batch_size=256, epochs=200, bfloat16=True)
    config = pretrain_config("jigclu+")
    config.batch_size, config.epochs = args["batch_size"], args["epochs"]
    config.optimizer.learning_rate *= config.batch_size / 256
    config.optimizer.warmup_epochs = config.epochs / 20
    config.model.arch, config.model.dtype = args["arch"], "bfloat16" if args["bfloat16"] else "float32"
    config.data.source, config.data.name, config.data.split = "tfds", "imagenet2012", "train"
    config.data.min_side = 1  # ImageNet has images smaller than a patch
    config.online.eval_data.split = "validation"
    return config
