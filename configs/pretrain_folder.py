"""Pretraining on your own images; labels are not needed.

    python -m jigclu_jax --config=configs/pretrain_folder.py --workdir=runs/mine --config.data.path=/path/to/images

Takes every image below the path, in any tree of folders. ResNet-18 on montages of 224 pixels, the paper's recipe at batch 64; for
small images say `:image_size=112`, or `:image_size=64,stem=small` below about 64 pixels. A larger `arch=resnet50` wants a
GPU. Images smaller than a patch stop the run, `--config.data.min_side=1` enlarges them; damaged images stop the run and are
named, `--config.data.on_error=skip` goes on without them and counts them.

Hardware: one GPU; on 2 CPU cores ResNet-18 at `image_size=112` trains on about 30 montages a second. Expected: loss falls from
about 24 and `accuracy_retrieval` rises well above chance (3 / 255 at batch 64) within a few epochs; docs/results.md has the curve of
3,000 flower photos.

With class folders, `:method=supervised` trains the same backbone with labels (`--config.data.split=train`).
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: arch, stem, width, image_size, grid, batch_size, epochs, method."""
    args = parse_arg(arg, arch="resnet18", stem="imagenet", width=1.0, image_size=224, grid=2, batch_size=64, epochs=100, method="jigclu")
    config = pretrain_config(args["method"])
    config.batch_size, config.epochs = args["batch_size"], args["epochs"]
    config.model.arch, config.model.stem, config.model.width = args["arch"], args["stem"], args["width"]
    config.data.source, config.data.split = "folder", ""
    config.data.image_size = args["image_size"]
    config.log_every_steps = 20
    config.online.eval_data.update({"resize": round(args["image_size"] * 8 / 7), "crop": args["image_size"]})
    if args["method"] == "supervised":
        config.data.split = "train"
    if "grid" in config.method:
        config.method.grid = args["grid"]
    return config
