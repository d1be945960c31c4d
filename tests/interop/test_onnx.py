"""The ONNX graph in onnxruntime against our modules, for every family; its names, its free sizes, and what is said without the package."""

import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.torch_numbers import drawn
from named_errors import raises_naming

from jigclu_jax.interop import from_torchvision, to_torchvision
from jigclu_jax.interop.export_formats import Exported, files_of, loading
from jigclu_jax.models import build_backbone
from jigclu_jax.ops.normalize import normalize

onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
FAMILIES = [
    ("resnet18", "small"),
    ("resnet18", "imagenet"),
    ("resnet50", "imagenet"),
    ("resnext50_32x4d", "small"),
    ("wide_resnet50_2", "imagenet"),
]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 40, 32, 3), np.uint8)


def drawn_backbone(arch: str, stem: str) -> Exported:
    """A narrow backbone whose activations neither vanish nor explode."""
    model = {"arch": arch, "stem": stem, "width": 0.05}
    shapes = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.int8), jax.eval_shape(build_backbone(model).init, jax.random.key(0)))
    params, stats = from_torchvision({name: drawn(name, value.shape) for name, value in to_torchvision(*shapes).items() if value.shape})
    return Exported(params, stats, model, 32)


def features(what: Exported, images: np.ndarray) -> np.ndarray:
    backbone = build_backbone(what.model)
    return np.asarray(
        jax.jit(lambda *trees: backbone.apply(*trees, normalize(jnp.asarray(images)), False)[0].features)(what.params, what.stats)
    )


def served(data: bytes, images: np.ndarray) -> np.ndarray:
    found: Any = onnxruntime.InferenceSession(data).run(["features"], {"images": images})[0]
    return np.asarray(found)


@pytest.mark.parametrize(("arch", "stem"), FAMILIES)
def test_onnxruntime_agrees_for_any_batch(arch: str, stem: str) -> None:
    what = drawn_backbone(arch, stem)
    data = files_of(what, ("onnx",))["backbone.onnx"]
    expected = features(what, IMAGES)
    assert np.abs(expected).max() > 0.1
    for count in (1, 3):
        np.testing.assert_allclose(served(data, IMAGES[:count]), expected[:count], rtol=0, atol=1e-4 * np.abs(expected).max())


def test_names_metadata_and_validity() -> None:
    what = drawn_backbone("resnet10", "small")
    files = files_of(what, ("onnx",))
    model = onnx.load_from_string(files["backbone.onnx"])
    onnx.checker.check_model(model, full_check=True)
    arrays = {weight.name: onnx.numpy_helper.to_array(weight) for weight in model.graph.initializer}
    for name, value in what.state.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(arrays.pop(name), value)
    assert set(arrays) == {"mean", "std"}
    assert {entry.key: entry.value for entry in model.metadata_props} == {"arch": "resnet10", "stem": "small", "width": "0.05"}
    assert any("backbone.onnx" in text for _, text in loading(what, files))


def test_swapped_weights_are_seen() -> None:
    what = drawn_backbone("resnet10", "small")
    changed = drawn_backbone("resnet10", "small")
    block = changed.params["layer2"]["block0"]
    block["bn1"], block["bn2"] = block["bn2"], block["bn1"]
    one, other = (served(files_of(which, ("onnx",))["backbone.onnx"], IMAGES[:1]) for which in (what, changed))
    assert np.abs(one - other).max() > 1e-3


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    what, find = drawn_backbone("resnet10", "small"), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else find(name, *rest))
    with raises_naming("config.formats", "onnx", "pip install 'jigclu_jax[onnx]'"):
        files_of(what, ("onnx",))
    assert "backbone.onnx" not in files_of(what, ())
