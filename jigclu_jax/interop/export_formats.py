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


def loading(what: Exported, files: Files) -> list[tuple[str, str]]:
    """(language, text) that loads each of the files as it stands, where they lie; for a person."""
    images = f"images = numpy.zeros((2, {what.side}, {what.side}, 3), numpy.uint8)  # yours: RGB as decoded, any number of them\n"
    texts = {
        "torchvision.pth": ("python", _in_torchvision(what)),
        "torchvision.safetensors": (
            "python",
            'import safetensors.torch\nstate = safetensors.torch.load_file("torchvision.safetensors")  # the same state dict',
        ),
        "authors.pth.tar": (
            "python",
            'import torch\nstate = torch.load("authors.pth.tar", weights_only=True)["state_dict"]  # of module.encoder',
        ),
        "timm/config.json": ("python", 'import timm\nmodel = timm.create_model("local-dir:timm", pretrained=True)'),
        "detectron2.pkl": (
            "yaml",
            f"MODEL:\n  WEIGHTS: detectron2.pkl\n  PIXEL_MEAN: {[round(255 * x, 3) for x in IMAGENET_MEAN]}\n"
            f"  PIXEL_STD: {[round(255 * x, 3) for x in IMAGENET_STD]}\n"
            f'  RESNETS: {_detectron2_network(what)}\nINPUT: {{FORMAT: "RGB"}}',
        ),
        "stablehlo.bin": (
            "python",
            f'import jax.export, numpy\n{images}with open("stablehlo.bin", "rb") as file:\n'
            "    features = jax.export.deserialize(bytearray(file.read())).call(images)",
        ),
        "backbone.onnx": (
            "python",
            f'import numpy, onnxruntime\n{images}session = onnxruntime.InferenceSession("backbone.onnx")\n'
            'features = session.run(["features"], {"images": images})[0]',
        ),
    }
    return [text for name, text in texts.items() if name in files]


def _in_torchvision(what: Exported) -> str:
    """Torchvision's network of the same name; what its constructor cannot vary is put right afterwards."""
    arch, width = what.model["arch"], what.model["width"]
    own = "torchvision.models.resnet.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])"
    lines = [
        "import torch, torchvision",
        'state = torch.load("torchvision.pth", weights_only=True)',
        f"model = {own if arch == 'resnet10' else f'torchvision.models.{arch}()'}",
    ]
    if what.model["stem"] != "imagenet":
        lines.append("model.conv1, model.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.nn.Identity()  # the small stem")
    if width == 1:
        lines.append("model.load_state_dict(state, strict=False)  # the classifier alone is new")
    else:
        lines += [
            f"for name, value in state.items():  # which has {width:g} times the channels",
            '    place, _, leaf = name.rpartition(".")',
            '    value = torch.nn.Parameter(value) if leaf in ("weight", "bias") else value',
            "    setattr(model.get_submodule(place), leaf, value)",
            "model.fc = torch.nn.Identity()",
        ]
    return "\n".join(lines)


def _detectron2_network(what: Exported) -> str:
    arch = architecture(what.model["arch"])
    groups = f"NUM_GROUPS: {arch.groups}, WIDTH_PER_GROUP: {arch.group_width}"
    return f"{{DEPTH: {2 + 3 * sum(arch.blocks)}, {groups}, STRIDE_IN_1X1: False}}"


def _dim(what: Exported) -> int:
    return int(build_backbone({**what.model}).dim)


def _about(what: Exported) -> dict[str, str]:
    return {"arch": what.model["arch"], "stem": what.model["stem"], "width": f"{what.model['width']:g}"}
