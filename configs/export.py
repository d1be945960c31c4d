"""A backbone in the formats of other programs, with a card that says what it is and how it is loaded.

    python -m jigclu_jax --config=configs/export.py --workdir=runs/exported --config.checkpoint=runs/cifar10
    python -m jigclu_jax --config=configs/export.py:formats=timm --workdir=runs/exported --config.weights=resnet50.pth

Formats: torchvision (.safetensors and .pth, which PyTorch loads with weights_only), timm (a folder with config.json), detectron2 (.pkl),
authors (their checkpoint, with the heads of a JigClu run), stablehlo and onnx (uint8 images in, features out, any batch size). Without a
choice all are written that the backbone can have: timm and detectron2 know no other width and stem than torchvision's; onnx needs the
package of that name.

Hardware: anything; seconds. Expected: the files, preprocessing.json and README.md in the workdir.
"""

from ml_collections import ConfigDict

from jigclu_jax.config import export_config, parse_arg


def get_config(arg: str | None = None) -> ConfigDict:
    """Arguments: formats (with + between them: torchvision+timm; all that the backbone can have where none is given)."""
    args = parse_arg(arg, formats="")
    config = export_config()
    config.formats = tuple(name for name in args["formats"].split("+") if name)
    return config
