"""The jobs on features end to end, on a backbone that was never trained: figures against oracles, files, refusals."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jobs import tiny
from named_errors import raises_naming
from PIL import Image
from tiny_checkpoint import make_workdir

from jigclu_jax.config import knn_config
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.data.sources.toy import load_embedded
from jigclu_jax.encoder import Encoder
from jigclu_jax.errors import Preempted, UserError
from jigclu_jax.interop import to_torchvision
from jigclu_jax.jobs import evaluate, fast_probe, knn
from jigclu_jax.jobs.backbones import open_backbone, random_backbone
from jigclu_jax.jobs.evaluations import neighbours_of
from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.stop import STOP


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workdir(tmp_path_factory.mktemp("backbone") / "run", tiny.pretrain_config())


def config(job: str, pretrained: Path) -> Any:
    found = tiny.features_config(job, str(pretrained))
    if job == "evaluate":
        found.reading.update({"views": 16, "cells": 64, "queries": 3, "map_points": 30})
        found.probe.checks = ("ridge",)
        found.random_init = False
    return found


def result(workdir: Path) -> dict[str, Any]:
    return json.loads((workdir / "result.json").read_text())


def test_knn_is_that_of_the_encoders_features(pretrained: Path, tmp_path: Path) -> None:
    """An oracle that shares neither the pass nor the neighbours: encoder, float64, sorting; the weights are drawn as a network's are."""
    settings = config("knn", pretrained)
    drawn = random_backbone(open_backbone(settings).model, 1)
    np.savez(tmp_path / "drawn.npz", **to_torchvision(drawn.params, drawn.stats))
    settings.checkpoint, settings.weights = "", str(tmp_path / "drawn.npz")
    knn.run(settings, tmp_path / "knn")
    encoder, sides = Encoder(drawn.params, drawn.stats, tiny.pretrain_config(), 0, None), []
    for group in ("data", "eval_data"):
        fields = settings[group].copy_and_resolve_references()
        fields.source = fields.source or settings.data.source
        source = open_source(fields)
        images = [np.asarray(Image.fromarray(source.read(i)).resize((32, 32), Image.Resampling.BILINEAR)) for i in range(len(source))]
        features = encoder(np.stack(images)).astype(np.float64)
        sides.append((features / np.linalg.norm(features, axis=1, keepdims=True), source.labels))
    (bank, labels), (queries, truth) = sides
    similarity = queries @ bank.T
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :20]
    votes = np.stack([[np.exp(similarity[q, order[q]] / 0.07)[labels[order[q]] == c].sum() for c in range(16)] for q in range(40)])
    found = result(tmp_path / "knn")
    assert found["knn_top1_weighted_20"] == pytest.approx((votes.argmax(1) == truth).mean(), abs=1.01 / 40)
    plain = np.stack([np.bincount(labels[row[:5]], minlength=16) for row in order]).argmax(1)
    assert found["knn_top1_majority_5"] == pytest.approx((plain == truth).mean(), abs=1.01 / 40)
    low, high = found["knn_top1_weighted_20_interval"]
    assert low <= found["knn_top1_weighted_20"] <= high
    assert (found["train_images"], found["test_images"], found["images_skipped"]) == (96, 40, 0)


@pytest.mark.slow
def test_a_fast_probe_and_its_files(pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = config("fast_probe", pretrained)
    settings.random_init = True
    fast_probe.run(settings, tmp_path / "probe")
    found = result(tmp_path / "probe")
    assert found["job"] == "fast_probe" and len(found["heads"]) == 24 and found["backbone_unchanged"] is True
    best = max(head["held_out_top1"] for head in found["heads"])
    assert found["head"]["held_out_top1"] == best and found["head"] in found["heads"]
    low, high = found["head"]["held_out_top1_interval"]
    assert low <= best <= high and found["held_out_images"] == 16  # of 6 images of each class at least one
    assert f"{100 * best:.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %." in (tmp_path / "probe" / "report.html").read_text()
    for name in ("probe_top1_last", "probe_top5_last", "probe_top1_random_init", "ridge_top1", "lbfgs_top1", "ridge_top1_random_init"):
        low, high = found[f"{name}_interval"]
        assert 0 <= low <= found[name] <= high <= 1
    assert found["probe_top5_last"] >= found["probe_top1_last"] and found["probe_top1_best"] is None
    assert "top-5, linear heads, best of the grid" in (tmp_path / "probe" / "report.html").read_text()
    assert "seed 0)" in capsys.readouterr().out
    kept = sorted((tmp_path / "features").iterdir())
    assert len(kept) == 4, "two backbones, two sets"
    stamps = [path.stat().st_mtime_ns for path in kept]
    capsys.readouterr()
    fast_probe.run(settings, tmp_path / "again")
    assert "features of" not in capsys.readouterr().err, "the second time features come from disk"
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    again = result(tmp_path / "again")
    assert {name: value for name, value in again.items() if "seconds" not in name} == {
        name: value for name, value in found.items() if "seconds" not in name
    }


def test_evaluate_leaves_one_page_with_everything(pretrained: Path, tmp_path: Path) -> None:
    settings = config("evaluate", pretrained)
    settings.crops = 2
    evaluate.run(settings, tmp_path / "all")
    found = result(tmp_path / "all")
    assert found["crops"]["count"] == 2 and 0 <= found["crops"]["probe_top1_last"] <= 1
    names = {"probe_top1_last", "ridge_top1", "knn_top1_weighted_20", "location_top1", "rank_features", "rank_embeddings", "class_top1"}
    assert names | {"alignment_features", "uniformity_embeddings"} <= found.keys()
    confusion = np.array(found["confusion"])
    assert found["class_top1"].keys() == found["class_top1_interval"].keys()
    assert all(low <= found["class_top1"][name] <= high for name, (low, high) in found["class_top1_interval"].items())
    assert confusion.sum() == 40 and confusion.trace() / 40 == pytest.approx(found["probe_top1_last"])
    page = (tmp_path / "all" / "report.html").read_text()
    for heading in (
        "Accuracy",
        "Features averaged over crops",
        "Heads",
        "Classes",
        "Nearest neighbours",
        "Map of the features",
        "Where the head of the pretraining is wrong",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert not (tmp_path / "all" / "checkpoints").exists()


@pytest.mark.parametrize("job", ["fast_probe", "knn"])
def test_weights_from_a_file_are_those_of_the_checkpoint(pretrained: Path, tmp_path: Path, job: str) -> None:
    _, _, tree = read_checkpoint(pretrained)
    np.savez(tmp_path / "weights.npz", **to_torchvision(tree["params"]["backbone"], tree["stats"]["backbone"]))
    settings = config(job, pretrained)
    settings.checkpoint, settings.weights = "", str(tmp_path / "weights.npz")
    backbone = open_backbone(settings)
    assert (backbone.model["arch"], backbone.model["stem"]) == ("resnet10", "small")
    jax.tree.map(np.testing.assert_array_equal, backbone.params, tree["params"]["backbone"])
    jax.tree.map(np.testing.assert_array_equal, backbone.stats, tree["stats"]["backbone"])


def set_of(folder: Path, train: np.ndarray, test: np.ndarray, classes: tuple[str, ...] | None = None) -> Path:
    images, _, _ = load_embedded("train")
    named = {} if classes is None else {"classes": np.array(classes)}
    path = folder / "set.npz"
    np.savez(path, train_image=images[: len(train)], train_label=train, val_image=images[50 : 50 + len(test)], val_label=test, **named)
    return path


def from_file(job: str, pretrained: Path, path: Path) -> Any:
    settings = config(job, pretrained)
    settings.data.update({"source": "arrays", "path": str(path), "split": "train", "limit": 0})
    settings.eval_data.update({"split": "val", "limit": 0})
    return settings


@pytest.mark.parametrize("job", ["fast_probe", "knn", "evaluate"])
@pytest.mark.parametrize(
    ("train", "test", "line"),
    [
        (np.zeros(30, int), np.arange(10) % 1, "all training images are of one class"),
        (np.arange(30) % 3, np.arange(10) % 5, "classes that the training does not know"),
    ],
)
def test_labels_that_cannot_work(pretrained: Path, tmp_path: Path, job: str, train: Any, test: Any, line: str) -> None:
    with pytest.raises(UserError, match=line):
        {"fast_probe": fast_probe, "knn": knn, "evaluate": evaluate}[job].run(
            from_file(job, pretrained, set_of(tmp_path, train, test)), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists() and not (tmp_path / "features").exists()


def test_a_damaged_training_image_is_told_with_the_field_that_leaves_it_out(pretrained: Path, tmp_path: Path) -> None:
    images, labels, _ = load_embedded("train")
    for index in range(12):
        path = tmp_path / "images" / ("val" if index < 4 else "train") / str(labels[index] % 2) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[index]).save(path)
    damaged = next((tmp_path / "images" / "train").glob("*/*.png"))
    damaged.write_bytes(b"junk")
    settings = config("knn", pretrained)
    settings.knn.neighbours = (2,)
    settings.data.update({"source": "folder", "path": str(tmp_path / "images"), "split": "train", "limit": 0})
    settings.eval_data.update({"split": "val", "limit": 0, "on_error": "skip"})
    with pytest.raises(UserError, match=rf"{damaged.name}: .* or set data\.on_error=skip to leave such images out"):
        knn.run(settings, tmp_path / "out")
    settings.data.on_error = "skip"
    knn.run(settings, tmp_path / "out")


def test_labels_with_gaps_and_a_class_that_training_lacks(pretrained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Labels 0, 2 and 5 of six classes in training, 1 and 5 asked for: told, and what cannot be known counts as wrong."""
    classes = ("a", "b", "c", "d", "e", "f")
    path = set_of(tmp_path, np.array([0, 2, 5] * 10), np.array([1, 1, 1, 5]), classes)
    settings = from_file("fast_probe", pretrained, path)
    settings.probe.checks = ("ridge",)
    fast_probe.run(settings, tmp_path / "out")
    found = result(tmp_path / "out")
    line = "3 of 4 evaluation images are of classes without a training image, and count as wrong: b"
    assert found["oddities"][0] == line and line in caplog.text and found["probe_top1_last"] <= 0.25


@pytest.mark.parametrize(
    ("job", "changes", "named"),
    [
        ("fast_probe", {"checkpoint": ""}, ("config.checkpoint", "config.weights")),
        ("fast_probe", {"weights": "w.npz"}, ("config.checkpoint", "config.weights")),
        ("fast_probe", {"probe.learning_rates": ()}, ("config.probe.learning_rates=()",)),
        ("fast_probe", {"probe.weight_decays": (-0.1,)}, ("config.probe.weight_decays=(-0.1,)", "0")),
        ("fast_probe", {"probe.held_out": 1.0}, ("config.probe.held_out=1.0",)),
        ("fast_probe", {"probe.checks": ("svm",)}, ("config.probe.checks=('svm',)", "'ridge'", "'lbfgs'")),
        ("fast_probe", {"probe.epochs": 0}, ("config.probe.epochs=0", "1")),
        ("fast_probe", {"model.arch": "resnet34"}, ("model.arch", "'resnet10'", "'resnet34'")),
        ("knn", {"knn.neighbours": (0,)}, ("config.knn.neighbours=(0,)", "1")),
        ("knn", {"knn.temperature": 0.0}, ("config.knn.temperature=0.0",)),
        ("knn", {"eval_data.split": "nowhere"}, ("config.eval_data", "'nowhere'")),
        ("evaluate", {"eval_data.limit": 1}, ("config.eval_data",)),
        ("evaluate", {"reading.queries": 0}, ("config.reading.queries=0", "1")),
        ("evaluate", {"eval_batch_size": 0}, ("config.eval_batch_size=0", "1")),
    ],
)
def test_fields_that_cannot_work(pretrained: Path, tmp_path: Path, job: str, changes: dict[str, Any], named: tuple[str, ...]) -> None:
    settings = config(job, pretrained)
    for name, value in changes.items():
        *groups, leaf = name.split(".")
        node = settings
        for group in groups:
            node = node[group]
        node[leaf] = value
    with raises_naming(*named):
        {"fast_probe": fast_probe, "knn": knn, "evaluate": evaluate}[job].run(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_evaluation_that_is_asked_to_stop_leaves_its_features_and_goes_on(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request comes when the first set's features are kept: the second call computes those of the other set alone."""
    settings = config("knn", pretrained)
    settings.cache, settings.eval_batch_size = str(tmp_path / "features"), 16
    kept = tmp_path / "features"
    monkeypatch.setattr(type(STOP), "requested", property(lambda self: kept.exists() and bool(list(kept.glob("*.npz")))))
    with pytest.raises(Preempted, match=r"^after 0 of 40 images: features that are complete stay .*, start the same command again"):
        knn.run(settings, tmp_path / "stopped")
    assert not (tmp_path / "stopped").exists()
    monkeypatch.undo()
    first = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    knn.run(settings, tmp_path / "stopped")
    assert first.items() < {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}.items()
    settings.cache = "none"
    knn.run(settings, tmp_path / "straight")
    names = ("knn_top1_weighted_20", "knn_top1_majority_20")
    assert [result(tmp_path / "stopped")[name] for name in names] == [result(tmp_path / "straight")[name] for name in names]


def test_more_neighbours_than_training_images_are_lowered_and_told(caplog: pytest.LogCaptureFixture) -> None:
    settings = knn_config()
    assert settings.knn.neighbours == (20, 200)
    assert neighbours_of(settings, 96) == (20, 96) and "lowered to (20, 96)" in caplog.text
    assert neighbours_of(settings, 7) == (7,)
    caplog.clear()
    assert neighbours_of(settings, 200) == (20, 200) and not caplog.text
