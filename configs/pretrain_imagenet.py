"""The paper's pretraining on ImageNet, to the constant.

    python -m jigclu_jax --config=configs/pretrain_imagenet.py --workdir=runs/imagenet \\
        --config.data.data_dir=gs://BUCKET/tensorflow_datasets
    python -m jigclu_jax --config=configs/pretrain_imagenet.py --workdir=runs/imagenet \\
        --config.data.source=folder --config.data.path=/data/imagenet

ResNet-50, montages of 224 pixels cut from 2 x 2 patches of 112, batch 256, 200 epochs, SGD 0.03 with a cosine that changes
once an epoch, no warm-up. Images: TFDS's `imagenet2012` (prepared beforehand, array_record or tfrecord), or folders
`train/CLASS/*.JPEG`.

Hardware: 8 or more accelerator cores, or one large GPU; the paper needed about 5 days on 4 GPUs of 2018. Memory of the host's
pipeline is a few batches. Expected: the paper reports 66.4 % linear top-1 (its own figure, by `probe_imagenet.py`'s protocol);
this library has not run the full schedule: docs/results.md says what has been run.

`:bfloat16` computes in bfloat16: `--config=configs/pretrain_imagenet.py:bfloat16`.

A batch of 4096 with the memory of 256, negatives from all of it, after SimCLR's recipe (not run, no figure is known):

    python -m jigclu_jax --config=configs/pretrain_imagenet.py:bfloat16,batch_size=4096 --workdir=runs/imagenet_4096 \\
        --config.accumulate=16 --config.optimizer.name=lars --config.optimizer.learning_rate=4.8 \\
        --config.optimizer.weight_decay=1e-6 --config.optimizer.warmup_epochs=10 --config.optimizer.per_epoch=False
"""

from ml_collections import ConfigDict

from jigclu_jax.config import parse_arg, pretrain_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: arch, batch_size, epochs, bfloat16."""
    args = parse_arg(arg, arch="resnet50", batch_size=256, epochs=200, bfloat16=False)
    config = pretrain_config()
    config.batch_size, config.epochs = args["batch_size"], args["epochs"]
    config.model.arch = args["arch"]
    config.model.dtype = "bfloat16" if args["bfloat16"] else "float32"
    config.data.source, config.data.name, config.data.split = "tfds", "imagenet2012", "train"
    config.data.min_side = 1  # ImageNet has images smaller than a patch; the authors' code enlarges them
    config.online.eval_data.split = "validation"
    return config
