"""Files of weights: which backbone they are is read off their shapes; what is no ResNet is told in one line."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
from named_errors import raises_naming

from jigclu_jax import load_encoder, models
from jigclu_jax.errors import UserError
from jigclu_jax.interop import to_authors, to_torchvision
from jigclu_jax.interop.torch_saving import torch_bytes
from jigclu_jax.interop.weights import load_weights, model_of


def backbone_trees(arch: str, stem: str, width: float) -> Any:
    shapes = jax.eval_shape(models.build_backbone({"arch": arch, "stem": stem, "width": width}).init, jax.random.key(0))
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes)


@pytest.mark.parametrize(
    ("arch", "stem", "width"), [("resnet18", "small", 0.0625), ("resnet50", "imagenet", 0.0625), ("wide_resnet50_2", "imagenet", 0.125)]
)
def test_the_architecture_is_read_off_the_shapes(arch: str, stem: str, width: float) -> None:
    assert model_of(*backbone_trees(arch, stem, width)) == {"arch": arch, "stem": stem, "width": width}


def test_files_of_both_kinds_with_and_without_prefix(tmp_path: Path) -> None:
    params, stats = backbone_trees("resnet18", "small", 0.0625)
    heads = {
        "projection": {name: {"kernel": np.ones((32, 32), np.float32), "bias": np.zeros(32)} for name in ("hidden", "output")},
        "location": {"kernel": np.ones((32, 4)), "bias": np.zeros(4)},
    }
    states = {
        "torchvision": to_torchvision(params, stats),
        "prefixed": {f"module.{name}": value for name, value in to_torchvision(params, stats).items()},
        "authors": {
            f"module.encoder.{name}": value for name, value in to_authors({"backbone": params, **heads}, {"backbone": stats}).items()
        },
    }
    for name, state in states.items():
        np.savez(tmp_path / f"{name}.npz", **state)
        found, found_stats, model, _ = load_weights(tmp_path / f"{name}.npz")
        assert model == {"arch": "resnet18", "stem": "small", "width": 0.0625}
        jax.tree.map(np.testing.assert_array_equal, (params, stats), (found, found_stats))


def test_what_is_no_file_of_weights(tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    np.savez(tmp_path / "other.npz", image=np.zeros(3))
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    (tmp_path / "weights.h5").write_bytes(b"")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name, line in (
        ("empty.npz", "cannot be read as a .npz file"),
        ("missing.npz", "no such file of weights"),
        ("broken.npz", "cannot be read as a .npz file"),
        ("single.npz", "cannot be read as a .npz file"),
        ("other.npz", "holds no ResNet"),
        ("weights.h5", ".safetensors, .npz, .pth"),
    ):
        with pytest.raises(UserError) as raised:
            load_weights(tmp_path / name)
        assert str(raised.value).startswith(str(tmp_path / name)) and line in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_any_precision_becomes_float32(tmp_path: Path, dtype: type) -> None:
    params, stats = backbone_trees("resnet18", "small", 0.0625)
    state = {name: value.astype(dtype) for name, value in to_torchvision(params, stats).items()}
    np.savez(tmp_path / "weights.npz", **state)
    found = load_weights(tmp_path / "weights.npz")[:2]
    jax.tree.map(np.testing.assert_array_equal, (params, stats), found)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("layer3.0.bn1.running_var", np.float32(np.nan), "layer3.0.bn1.running_var holds values that are no finite float32 numbers"),
        ("conv1.weight", np.float64(1e300), "conv1.weight holds values that are no finite float32 numbers"),
        ("bn1.running_var", np.float32(-1), "bn1.running_var holds negative variances"),
        ("conv1.weight", np.int8(3), "conv1.weight has dtype int8: save the weights as float32"),
        ("conv1.weight", np.complex64(1), "conv1.weight has dtype complex64"),
        ("conv1.weight", np.array(b"ab", "V2"), "conv1.weight has dtype |V2"),  # what numpy saves of bfloat16
        ("conv1.weight", np.str_("x"), "conv1.weight has dtype <U1"),
    ],
)
def test_numbers_that_would_make_features_void_are_refused(tmp_path: Path, name: str, value: np.generic, line: str) -> None:
    state = to_torchvision(*backbone_trees("resnet18", "small", 0.0625))
    np.savez(tmp_path / "weights.npz", **state | {name: np.full(state[name].shape, value)})
    with pytest.raises(UserError) as raised:
        load_weights(tmp_path / "weights.npz")
    assert str(raised.value).startswith(f"{tmp_path / 'weights.npz'}: {line}") and "\n" not in str(raised.value)


def test_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "weights.npz", **to_torchvision(*backbone_trees("resnet18", "small", 0.0625)))
    assert load_weights("~/weights.npz")[2]["arch"] == "resnet18"


def small_state() -> dict[str, np.ndarray]:
    return to_torchvision(*backbone_trees("resnet18", "small", 0.0625))


def refused(path: Path) -> str:
    with pytest.raises(UserError) as raised:
        load_weights(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_that_claims_terabytes_takes_no_memory(tmp_path: Path, compression: int) -> None:
    with zipfile.ZipFile(tmp_path / "weights.npz", "w", compression) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)})
        archive.writestr("conv1.weight.npy", header.getvalue() + bytes(1000))
    assert "conv1.weight claims 4,000,000,000,000 bytes" in refused(tmp_path / "weights.npz")


@pytest.mark.parametrize("suffix", [".NPZ", ".Npz"])
def test_suffixes_count_in_any_case(tmp_path: Path, suffix: str) -> None:
    np.savez(tmp_path / "weights.npz", **small_state())
    (tmp_path / "weights.npz").rename(tmp_path / f"weights{suffix}")
    assert load_weights(tmp_path / f"weights{suffix}")[2]["arch"] == "resnet18"


def test_what_is_no_file_of_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>")
    (tmp_path / "pointer.npz").write_text("version https://git-lfs.github.com/spec/v1\n")
    np.savez(tmp_path / "objects.npz", **{"conv1.weight": np.array([None])})
    for name, said in (
        ("page.pth", "HTML page"),
        ("pointer.npz", "git lfs pull"),
        ("objects.npz", "objects"),
    ):
        assert said in refused(tmp_path / name)


def test_the_network_that_a_folder_names_counts(tmp_path: Path) -> None:
    """resnetblur18 has the arrays of resnet18, and computes otherwise."""
    safetensors.numpy.save_file(small_state(), tmp_path / "model.safetensors")
    config = tmp_path / "config.json"
    for found in ("tv_resnet18", "resnet18", ""):
        config.write_text(json.dumps({"architecture": found} if found else {}))
        assert load_weights(tmp_path)[2]["arch"] == "resnet18"
    config.write_text(json.dumps({"architecture": "resnetblur18"}))
    assert "resnetblur18" in refused(tmp_path)
    assert load_weights(tmp_path / "model.safetensors")[2]["arch"] == "resnet18"
    config.write_text("{")
    assert "config.json" in refused(tmp_path)


def test_what_a_folder_says_of_its_network(tmp_path: Path) -> None:
    """Networks built otherwise are refused; images normalised otherwise are told."""
    safetensors.numpy.save_file(small_state(), tmp_path / "model.safetensors")
    config = {"architecture": "resnet18", "model_args": {"num_classes": 3, "drop_rate": 0.5}}
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_args": {"output_stride": 8}}))
    assert "output_stride" in refused(tmp_path)
    for mean, told in ((0.5, True), (0.485, False)):
        images = {"mean": [mean, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
        (tmp_path / "config.json").write_text(json.dumps(config | {"pretrained_cfg": images}))
        assert any("0.456" in line for line in load_weights(tmp_path).report) == told


def test_folders_of_weights(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "pytorch_model.bin").write_bytes(torch_bytes(small_state()))
    assert load_encoder(tmp_path / "hub").config.model.width == 0.0625
    (tmp_path / "hub" / "pytorch_model.bin").rename(tmp_path / "hub" / "mine.bin")
    for load in (load_weights, load_encoder):
        with raises_naming(str(tmp_path / "hub"), "mine.bin"):
            load(tmp_path / "hub")
