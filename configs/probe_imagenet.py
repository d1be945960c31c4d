"""The paper's linear probe on ImageNet.

    python -m jigclu_jax --config=configs/probe_imagenet.py --workdir=runs/imagenet_probe --config.checkpoint=runs/imagenet \\
        --config.data.data_dir=gs://BUCKET/tensorflow_datasets

Frozen backbone with BatchNorm in eval mode, one linear layer, 100 epochs of random resized crops and flips, batch 256, SGD
without decay, rate 10 times 0.1 at epochs 60 and 80; accuracy on the validation set resized to 256 and cropped to 224.
The rate belongs to the data: 10 is ImageNet's; the authors say 1 for ImageNet-100 (`:learning_rate=1`).

Hardware: as for pretraining; about a third of a pretraining epoch's time for each epoch. Expected: the paper reports 66.4 % for
200 epochs of pretraining (best epoch; result.json has the last one too).
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, probe_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: learning_rate, epochs, bfloat16."""
    args = parse_arg(arg, learning_rate=10.0, epochs=100, bfloat16=False)
    config = probe_config()
    config.epochs = args["epochs"]
    config.optimizer.learning_rate = args["learning_rate"]
    config.model.dtype = "bfloat16" if args["bfloat16"] else "float32"
    config.data.source, config.data.name, config.data.split = "tfds", "imagenet2012", "train"
    config.eval_data.split = "validation"
    return config
