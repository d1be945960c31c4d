"""Features of every image of a folder, with their names, in one file.

    python -m jigclu_jax --config=configs/embed.py --workdir=runs/embedded --config.checkpoint=runs/mine --config.data.path=/data/mine
    python -m jigclu_jax --config=configs/embed.py:format=csv,resize=128,crop=112 --workdir=runs/embedded --config.weights=resnet50.pth \\
        --config.data.path=/data/mine

Any source (`config.data.source`), labelled or not. The images are resized and centre-cropped as evaluations do it. Started again after a
stop, the job goes on with the part that it was computing. `jigclu_jax.neighbours` and `near_duplicates` read the file.

Hardware: anything; one pass of the backbone, in memory a part of 8,192 images' features. Expected: features.npz in the workdir.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import embed_config, parse_arg


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: resize, crop (pixels), format (npz, parquet or csv), bfloat16."""
    args = parse_arg(arg, resize=256, crop=224, format="npz", bfloat16=False)
    config = embed_config()
    config.update({name: args[name] for name in ("resize", "crop", "format")})
    config.model.dtype = "bfloat16" if args["bfloat16"] else "float32"
    return config
