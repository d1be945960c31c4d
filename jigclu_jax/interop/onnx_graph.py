"""Writes a backbone as an ONNX graph: uint8 images in, features out, normalisation inside, for any batch and size."""

import importlib.util
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jigclu_jax.models.layers import BATCH_NORM_EPSILON
from jigclu_jax.ops.normalize import IMAGENET_MEAN, IMAGENET_STD

_OPSET = 17  # of the operators, and
_IR = 8  # of the file: what runtimes since 2022 read


def has_onnx() -> bool:
    """Whether the package onnx is installed."""
    return importlib.util.find_spec("onnx") is not None


def to_onnx(state: Mapping[str, np.ndarray], stem: str, about: Mapping[str, str]) -> bytes:
    """The file of an ONNX model: input `images` uint8[b, h, w, 3], output `features` float32[b, D].

    Args:
      state: torchvision's state dict; its names are those of the graph's weights, which are float32.
      stem: "imagenet" or "small".
      about: kept as the model's metadata.
    """
    from onnx import TensorProto, helper

    graph = _Graph(state)
    x = graph.normalised("images")
    x = graph.node("Relu", [graph.layer(x, "conv1", "bn1", 2 if stem == "imagenet" else 1)])
    if stem == "imagenet":
        x = graph.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage in range(1, 5):
        for block in itertools.count():
            if f"layer{stage}.{block}.conv1.weight" not in state:
                break
            x = graph.block(x, f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1)
    graph.node("Flatten", [graph.node("GlobalAveragePool", [x])], output="features", axis=1)
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", graph.channels])
    drawn = helper.make_graph(graph.nodes, "backbone", [images], [features], graph.weights)
    model = helper.make_model(drawn, producer_name="jigclu_jax", opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    helper.set_model_props(model, dict(about))
    data: bytes = model.SerializeToString()
    return data


class _Graph:
    """Nodes and weights of a graph in the order in which they are computed.

    Attributes:
      channels: of the last convolution's output.
    """

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.channels = 3
        self._state = state

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Adds a node; gives the name of its output."""
        from onnx import helper

        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str, value: np.ndarray) -> str:
        """Adds a float32 constant."""
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def normalised(self, images: str) -> str:
        """RGB of 0..255, channels last, to what a backbone takes, channels first."""
        mean, std = (255 * np.array(numbers, np.float64) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
        x = self.node("Cast", [images], to=1)  # TensorProto.FLOAT
        x = self.node("Div", [self.node("Sub", [x, self.weight("mean", mean)]), self.weight("std", std)])
        return self.node("Transpose", [x], perm=[0, 3, 1, 2])

    def layer(self, x: str, conv: str, norm: str, stride: int) -> str:
        """A convolution, as many groups as its weight lacks of the channels, and its BatchNorm."""
        weight = self._state[f"{conv}.weight"]
        pad, groups = (weight.shape[2] - 1) // 2, self.channels // weight.shape[1]
        x = self.node("Conv", [x, self.weight(f"{conv}.weight", weight)], strides=[stride] * 2, pads=[pad] * 4, group=groups)
        self.channels = len(weight)
        leaves = [f"{norm}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
        return self.node("BatchNormalization", [x, *(self.weight(name, self._state[name]) for name in leaves)], epsilon=BATCH_NORM_EPSILON)

    def block(self, x: str, name: str, stride: int) -> str:
        """A residual block; the first 3x3 carries the stride."""
        shortcut, outer = x, self.channels
        if f"{name}.downsample.0.weight" in self._state:
            shortcut = self.layer(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            self.channels = outer
        count = 3 if f"{name}.conv3.weight" in self._state else 2
        for i in range(1, count + 1):
            x = self.layer(x, f"{name}.conv{i}", f"{name}.bn{i}", stride if i == count - 1 else 1)
            x = self.node("Relu", [x]) if i < count else x
        return self.node("Relu", [self.node("Add", [x, shortcut])])
