"""JigClu+ on your own images; labels are not needed: `pretrain_folder.py` with the settings of JigClu+.

    python -m jigclu_jax --config=configs/jigclu_plus_folder.py --workdir=runs/mine_plus --config.data.path=/path/to/images

Four times the authors' rate with a cosine by steps and warm-up, BatchNorm in the projection, temperature 0.1 (the factor T / T0 stays in
the loss), mirrored location labels: nothing of it costs a forward pass. Images, sizes and refusals are those of `pretrain_folder.py`.

Hardware: one GPU; on 2 CPU cores ResNet-18 at `image_size=112` trains on about 30 montages a second. Expected: with small networks on
small images ahead of the authors' recipe by 3.5 points (CIFAR-10) and 11.6 (flower photos), the more the longer (docs/results.md).
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: arch, stem, width, image_size, batch_size, epochs."""
    args = parse_arg(arg, arch="resnet18", stem="imagenet", width=1.0, image_size=224, batch_size=64, epochs=100)
    config = pretrain_config("jigclu+")
    config.batch_size, config.epochs = args["batch_size"], args["epochs"]
    config.optimizer.learning_rate *= config.batch_size / 256
    config.optimizer.warmup_epochs = config.epochs / 20
    config.model.arch, config.model.stem, config.model.width = args["arch"], args["stem"], args["width"]
    config.data.source, config.data.split, config.data.image_size = "folder", "", args["image_size"]
    config.log_every_steps = 20
    config.online.eval_data.update({"resize": round(args["image_size"] * 8 / 7), "crop": args["image_size"]})
    return config
