"""Writes a backbone in the formats of other programs: the bytes of each of their files, and the lines that load them."""

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from jigclu_jax.errors import UserError
from jigclu_jax.interop.authors import to_authors
from jigclu_jax.interop.layouts import to_detectron2
from jigclu_jax.interop.onnx_graph import has_onnx, to_onnx
from jigclu_jax.interop.torch_saving import torch_bytes
from jigclu_jax.interop.torchvision import NumpyTree, to_torchvision
from jigclu_jax.models import build_backbone
from jigclu_jax.models.architectures import architecture
from jigclu_jax.ops.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize

Files = dict[str, bytes]


@dataclass(frozen=True)
class Exported:
    """What is exported.

    Attributes:
      params, stats: of the backbone, nested dicts of numpy arrays.
      model: its arch, stem and width.
      side: of the images, in pixels, that it is meant for.
      heads: all parameters of the run, with the authors' heads among them where it has these.
    """

    params: NumpyTree
    stats: NumpyTree
    model: Mapping[str, Any]
    side: int
    heads: NumpyTree = field(default_factory=dict)

    @property
    def state(self) -> dict[str, np.ndarray]:
        """Torchvision's state dict."""
        return to_torchvision(self.params, self.stats)

    @property
    def plain(self) -> bool:
        """Whether torchvision and others have a network of this form by the name of its architecture."""
        return self.model["stem"] == "imagenet" and self.model["width"] == 1.0 and self.model["arch"] != "resnet10"


def _torchvision(what: Exported) -> Files:
    return {"torchvision.safetensors": save(what.state, {"format": "pt", **_about(what)}), "torchvision.pth": torch_bytes(what.state)}


def _timm(what: Exported) -> Files:
    image = {
        "input_size": [3, what.side, what.side],
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "interpolation": "bilinear",
        "crop_pct": 0.875,
    }
    network = {"architecture": what.model["arch"], "num_classes": 0, "num_features": _dim(what)}
    names = {"first_conv": "conv1", "classifier": "fc", "pool_size": [-(-what.side // 32)] * 2}
    config = network | {"global_pool": "avg", "pretrained_cfg": {"num_classes": 0, **image, **names}}
    return {"timm/model.safetensors": save(what.state, {"format": "pt"}), "timm/config.json": json.dumps(config, indent=2).encode()}


def _detectron2(what: Exported) -> Files:
    """Pickled numpy arrays under "model": its own format, which it matches to a model's names by their ends."""
    state = {to_detectron2(name): value for name, value in what.state.items() if not name.endswith("num_batches_tracked")}
    return {"detectron2.pkl": pickle.dumps({"model": state, "__author__": "jigclu_jax", "matching_heuristics": True}, 4)}


def _authors(what: Exported) -> Files:
    state = to_authors({**what.heads, "backbone": what.params}, {"backbone": what.stats})
    return {"authors.pth.tar": torch_bytes({"state_dict": {f"module.encoder.{name}": value for name, value in state.items()}})}


def _stablehlo(what: Exported) -> Files:
    """uint8[b, side, side, 3] -> float32[b, D] for CPU, CUDA and TPU, normalisation inside, for any b."""
    backbone = build_backbone({**what.model, "dtype": "float32"})
    params, stats = jax.tree.map(jnp.asarray, (what.params, what.stats))

    def features(images: jax.Array) -> jax.Array:
        return backbone.apply(params, stats, normalize(images, "float32"), False)[0].features

    shape = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b"), what.side, what.side, 3), jnp.uint8)
    exported = jax.export.export(jax.jit(features), platforms=("cpu", "cuda", "tpu"))(shape)
    return {"stablehlo.bin": bytes(exported.serialize())}


def _onnx(what: Exported) -> Files:
    """uint8[b, h, w, 3] -> float32[b, D], normalisation inside, for any b, h and w."""
    return {"backbone.onnx": to_onnx(what.state, what.model["stem"], _about(what))}


def _any(what: Exported) -> bool:
    del what
    return True


# Format -> (its files, whether a backbone can have it, and which can)
FORMATS: Mapping[str, tuple[Callable[[Exported], Files], Callable[[Exported], bool], str]] = {
    "torchvision": (_torchvision, _any, ""),
    "timm": (_timm, lambda what: what.plain, "timm has networks of width 1 with the imagenet stem"),
    "detectron2": (
        _detectron2,
        lambda what: what.plain and architecture(what.model["arch"]).bottleneck,
        "detectron2's are bottleneck ResNets of width 1 with the imagenet stem",
    ),
    "authors": (_authors, lambda what: {"projection", "location"} <= what.heads.keys(), "the authors' holds the heads of a JigClu run"),
    "stablehlo": (_stablehlo, _any, ""),
    "onnx": (_onnx, lambda what: has_onnx(), "it needs the package onnx: pip install 'jigclu_jax[onnx]'"),
}
QUICK = ("torchvision", "timm")  # what a pretraining leaves at its end


def files_of(what: Exported, formats: tuple[str, ...]) -> Files:
    """The files of the formats; () are all that the backbone can have here.

    Raises:
      UserError: a format that it cannot have, or whose package is not installed.
    """
    found: Files = {}
    for name, (write, fits, why) in FORMATS.items():
        if name in formats and not fits(what):
            raise UserError(f"config.formats: {name} cannot be written of this {what.model['arch']}: {why}")
        if fits(what) and (name in formats or not formats):
            found |= write(what)
    return found


def loading(what: Exported, files: Files) -> str:
    """Python that loads each of the files, for a person."""
    arch, narrow = what.model["arch"], "" if what.plain else "  # with its stem and width changed to those above"
    own = "torchvision.models.resnet.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])"
    module = own if arch == "resnet10" else f"torchvision.models.{arch}()"
    torchvision = f"model = {module}{narrow}\nmodel.load_state_dict(STATE, strict=False)  # the classifier alone is new"
    texts = {
        "torchvision.pth": "import torch, torchvision\n" + torchvision.replace("STATE", 'torch.load("torchvision.pth", weights_only=True)'),
        "authors.pth.tar": 'import torch\nstate = torch.load("authors.pth.tar", weights_only=True)["state_dict"]  # of module.encoder',
        "timm/config.json": 'import timm\nmodel = timm.create_model("local-dir:timm", pretrained=True)',
        "detectron2.pkl": '# configs of detectron2\nMODEL.WEIGHTS: "detectron2.pkl"\nMODEL.PIXEL_MEAN: [123.675, 116.280, 103.530]\n'
        "MODEL.PIXEL_STD: [58.395, 57.120, 57.375]\nMODEL.RESNETS.STRIDE_IN_1X1: False\nINPUT.FORMAT: RGB",
        "stablehlo.bin": 'import jax\nfeatures = jax.export.deserialize(open("stablehlo.bin", "rb").read()).call(images)  # uint8[b, '
        f"{what.side}, {what.side}, 3]",
        "backbone.onnx": 'import onnxruntime\nsession = onnxruntime.InferenceSession("backbone.onnx")\n'
        'features = session.run(["features"], {"images": images})[0]  # uint8[b, h, w, 3], RGB as decoded',
    }
    return "\n\n".join(text for name, text in texts.items() if name in files)


def _dim(what: Exported) -> int:
    return int(build_backbone({**what.model}).dim)


def _about(what: Exported) -> dict[str, str]:
    return {"arch": what.model["arch"], "stem": what.model["stem"], "width": f"{what.model['width']:g}"}
