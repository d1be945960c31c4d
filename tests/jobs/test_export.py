"""Exports: read back to the bit, key by key as other programs name them, and what cannot be is refused."""

import ast
import json
import pickle
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from named_errors import raises_naming
from tiny_checkpoint import make_workdir, tiny_config

from jigclu_jax import load_encoder
from jigclu_jax.config import load_config
from jigclu_jax.interop import from_authors
from jigclu_jax.interop.export_formats import Exported, files_of, loading
from jigclu_jax.interop.torch_saving import torch_bytes
from jigclu_jax.interop.weights import load_weights
from jigclu_jax.jobs import export
from jigclu_jax.models import build_backbone
from jigclu_jax.ops.normalize import IMAGENET_MEAN, IMAGENET_STD
from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.workdir import read_result

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "export.py"


def exported(checkpoint: Path, folder: Path, formats: str = "", **changes: Any) -> Path:
    config = load_config(CONFIG, f"formats={formats}")
    config.update({"checkpoint": str(checkpoint), **changes})
    export.run(config, folder)
    return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workdir(tmp_path_factory.mktemp("export") / "run", classes=("daisy", "rose | pipe"))


@pytest.fixture(scope="module")
def folder(workdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(workdir, tmp_path_factory.mktemp("exported") / "out")


@pytest.mark.parametrize("name", ["torchvision.safetensors", "torchvision.pth", "authors.pth.tar"])
def test_ours_there_and_back_to_the_bit(workdir: Path, folder: Path, name: str) -> None:
    encoder = load_encoder(workdir)
    found = load_weights(folder / name)
    jax.tree.map(np.testing.assert_array_equal, (encoder.params, encoder.stats), (found.params, found.stats))
    assert found.model == {name: encoder.config.model[name] for name in ("arch", "stem", "width")}


def test_the_authors_file_holds_their_heads(workdir: Path, folder: Path) -> None:
    from etils import epath

    from jigclu_jax.interop.weight_files import opened_arrays

    with opened_arrays(epath.Path(folder / "authors.pth.tar")) as contents:
        state = {name.removeprefix("state_dict."): stored.read() for name, stored in contents.arrays.items()}
    params, _ = from_authors(state)
    _, _, tree = read_checkpoint(workdir)
    jax.tree.map(np.testing.assert_array_equal, params, tree["params"])


def lines_of(folder: Path, file: str, language: str = "python") -> str:
    """The lines of the card that load a file."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return next(block for block in blocks if file in block)


def run_lines(folder: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Their variables, once they have run where the files lie."""
    monkeypatch.chdir(folder)
    scope: dict[str, Any] = {}
    exec(lines_of(folder, file), scope)
    return scope


def test_stablehlo_gives_the_encoders_features_for_any_batch(workdir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, served = load_encoder(workdir), jax.export.deserialize(bytearray((folder / "stablehlo.bin").read_bytes()))
    assert set(served.platforms) == {"cpu", "cuda", "tpu"}
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(served.call(images), encoder(images), rtol=1e-5, atol=1e-6)
    by_card = run_lines(folder, "stablehlo.bin", monkeypatch)
    np.testing.assert_allclose(by_card["features"], encoder(by_card["images"]), rtol=1e-5, atol=1e-6)


def test_onnxruntime_gives_the_encoders_features(workdir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = pytest.importorskip("onnxruntime").InferenceSession(folder / "backbone.onnx")
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(session.run(["features"], {"images": images})[0], load_encoder(workdir)(images), rtol=1e-4, atol=1e-5)
    assert run_lines(folder, "backbone.onnx", monkeypatch)["features"].shape == (2, load_encoder(workdir).dim)


def test_torchvisions_network_by_the_lines_of_the_card(workdir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another stem and width than torchvision's constructor knows."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    model = run_lines(folder, "torchvision.pth", monkeypatch)["model"].eval()
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
    pixels = ((images / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        features = model(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(features, load_encoder(workdir)(images), rtol=1e-4, atol=1e-5)
    state = run_lines(folder, "torchvision.safetensors", monkeypatch)["state"]
    assert torch.equal(state["conv1.weight"], model.conv1.weight)
    assert "module.encoder.conv1.weight" in run_lines(folder, "authors.pth.tar", monkeypatch)["state"]


def test_card_constants_and_classes(workdir: Path, folder: Path) -> None:
    about = json.loads((folder / "preprocessing.json").read_text())
    assert about["images"]["mean"] == [0.485, 0.456, 0.406] and about["images"]["side"] == 32
    assert about["classes"] == ["daisy", "rose | pipe"]
    card = (folder / "README.md").read_text()
    assert "resnet10, stem small, width 0.05" in card and about["digest"] in card and "torch.load" in card
    result = read_result(folder)
    assert result is not None and result["job"] == "export" and result["checkpoint_step"] == 5
    assert set(result["files"]) == {"torchvision.safetensors", "torchvision.pth", "authors.pth.tar", "stablehlo.bin", "backbone.onnx"}
    assert all(f'"{name}"' in card for name in result["files"])


def test_a_format_that_the_backbone_cannot_have(workdir: Path, tmp_path: Path) -> None:
    for formats in ("timm", "detectron2"):
        with raises_naming("config.formats", formats):
            exported(workdir, tmp_path / formats, formats)
    plain = make_workdir(tmp_path / "supervised", tiny_config("probe"), classes=("a", "b"))
    with raises_naming("authors"):
        exported(plain, tmp_path / "authors", "authors")
    assert not (tmp_path / "timm").exists()


def whole(arch: str) -> Exported:
    """A backbone of full width, whose arrays take no memory."""
    shapes = jax.eval_shape(build_backbone({"arch": arch}).init, jax.random.key(0))
    params, stats = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float16), shapes)
    return Exported(params, stats, {"arch": arch, "stem": "imagenet", "width": 1.0}, 224)


def test_timms_folder_and_detectron2s_file() -> None:
    timm = files_of(whole("resnet18"), ("timm",))
    config = json.loads(timm["timm/config.json"])
    assert (config["architecture"], config["num_classes"], config["num_features"]) == ("resnet18", 0, 512)
    what = whole("resnext50_32x4d")
    files = files_of(what, ("detectron2",))
    network = yaml.safe_load(dict(loading(what, files))["yaml"])["MODEL"]["RESNETS"]
    assert network == {"DEPTH": 50, "NUM_GROUPS": 32, "WIDTH_PER_GROUP": 4, "STRIDE_IN_1X1": False}
    found = pickle.loads(files["detectron2.pkl"])
    assert found["matching_heuristics"] is True and len(found["model"]) == 265
    assert found["model"]["res2.0.shortcut.weight"].shape == (256, 64, 1, 1)
    assert found["model"]["stem.conv1.norm.running_var"].shape == (64,)
    assert {name.split(".")[0] for name in found["model"]} == {"stem", "res2", "res3", "res4", "res5"}


@pytest.mark.parametrize("name", ["syncbn", "voc"])
def test_detectron2s_configs_name_data_sets_as_tuples(name: str) -> None:
    """Its reader takes a text in parentheses as Python; a name without quotes leaves the text, which it refuses."""
    path = Path(__file__).parents[2] / "examples" / "detectron2" / f"faster_rcnn_R_50_FPN_{name}.yaml"
    for value in yaml.safe_load(path.read_text())["DATASETS"].values():
        found = ast.literal_eval(value)
        assert isinstance(found, tuple) and all(isinstance(each, str) for each in found)


def test_equal_weights_are_equal_files() -> None:
    state = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((), np.int64)}
    assert torch_bytes(state) == torch_bytes(dict(state))


@pytest.mark.parametrize("change", ["swap", "transpose", "drop"])
def test_mutations_of_an_export_are_seen(workdir: Path, folder: Path, tmp_path: Path, change: str) -> None:
    """By the digest that preprocessing.json holds, or by name."""
    from safetensors.numpy import load_file, save_file

    from jigclu_jax.jobs.backbones import Backbone

    state = load_file(folder / "torchvision.safetensors")
    if change == "swap":
        one, other = "layer1.0.conv1.weight", "layer1.0.conv2.weight"
        state[one], state[other] = state[other], state[one]
    elif change == "transpose":
        state["layer1.0.conv1.weight"] = np.ascontiguousarray(state["layer1.0.conv1.weight"].transpose(1, 0, 2, 3))
    else:
        del state["layer1.0.conv1.weight"]
    save_file(state, tmp_path / "changed.safetensors")
    if change == "drop":
        with raises_naming("layer1.0.conv1.weight"):
            load_weights(tmp_path / "changed.safetensors")
        return
    digest = json.loads((folder / "preprocessing.json").read_text())["digest"]
    same, changed = (load_weights(path) for path in (folder / "torchvision.safetensors", tmp_path / "changed.safetensors"))
    assert Backbone(same.params, same.stats, same.model, "").digest == digest
    assert Backbone(changed.params, changed.stats, changed.model, "").digest != digest
