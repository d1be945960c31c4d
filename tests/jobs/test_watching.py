"""Pretraining that is watched: same backbone, labels in all three places of augmentation, metrics, collapse told, resume."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jobs import tiny
from named_errors import raises_naming

from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.device.feed import prepared_batch
from jigclu_jax.device.mesh import create_mesh, to_device
from jigclu_jax.jobs import pretrain
from jigclu_jax.methods import create_method
from jigclu_jax.models import build_backbone
from jigclu_jax.report.curves import draw_curves, panels
from jigclu_jax.report.workdir_files import read_run
from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.online import with_online_head
from jigclu_jax.train.run import facts_of
from jigclu_jax.train.supply import open_supply
from jigclu_jax.train.writers import read_metrics


def config(epochs: int = 2, **online: Any) -> Any:
    found = tiny.pretrain_config(epochs)
    found.online.update(online)
    found.online.eval_data.update({"split": "validation", "limit": 30})
    return found


@pytest.mark.parametrize("place", ["host", "device", "resident"])
def test_a_montage_batch_carries_the_label_of_the_image_with_each_cluster_id(place: str) -> None:
    """The images of a class are of one colour: each cell must show the colour of its cluster's label."""
    from jigclu_jax.data.sources.arrays import ArraySource

    label = np.random.default_rng(0).integers(0, 3, 24)
    image = np.broadcast_to((np.eye(3)[label] * 255).astype(np.uint8)[:, None, None], (24, 32, 32, 3))
    found = config(head=True)
    found.data.augment, found.data.image_size, found.batch_size, found.method.shuffle_group = place, 32, 12, 4
    found.augment.update({"jitter_probability": 0.0, "grayscale_probability": 0.0})
    source = ArraySource(np.ascontiguousarray(image), label)
    facts = facts_of(found, source)
    method = with_online_head(create_method(found, facts), facts, build_backbone(found.model).dim)
    supply = open_supply(found, source, method, facts, create_mesh())
    stream = supply.batches(0, 3)
    for host_batch in stream:
        batch = jax.device_get(prepared_batch(supply.feed, to_device(host_batch, supply.mesh)))
        assert batch["label"].dtype == np.int32 and batch["label"].shape == (12,)
        cells = batch["montage"]["image"].reshape(12, 2, 16, 2, 16, 3)[:, :, 8, :, 8]
        assert np.array_equal(cells.argmax(-1), batch["label"][batch["montage"]["cluster"]])
    stream.close()


def test_without_the_head_no_labels_are_sent() -> None:
    found = config()
    source = open_source(found.data)
    for place in ("host", "device", "resident"):
        found.data.augment = place
        facts = facts_of(found, source)
        supply = open_supply(found, source, create_method(found, facts), facts, create_mesh())
        stream = supply.batches(0, 1)
        assert "label" not in next(stream)
        stream.close()


@pytest.mark.slow
def test_watching_changes_nothing_and_adds_its_metrics(tmp_path: Path) -> None:
    pretrain.run(config(), tmp_path / "plain")
    pretrain.run(config(head=True, every_epochs=2), tmp_path / "watched")
    plain, watched = read_metrics(tmp_path / "plain"), read_metrics(tmp_path / "watched")
    for row, other in zip(plain, watched, strict=True):
        for name in ("loss", "loss_cluster", "loss_location", "accuracy_retrieval"):
            assert row[name] == other[name], f"{name} of step {row['step']}"
    trees = [read_checkpoint(tmp_path / name)[2] for name in ("plain", "watched")]
    jax.tree.map(np.testing.assert_array_equal, trees[0]["params"]["backbone"], trees[1]["params"]["backbone"])
    assert "online" in trees[1]["params"] and "online" not in trees[0]["params"]
    names = {"rank_features", "uniformity_features", "rank_embeddings", "uniformity_embeddings", "alignment_embeddings", "knn_top1"}
    assert names.isdisjoint(watched[5]) and names <= watched[-1].keys(), "every second epoch"
    assert 1 <= watched[-1]["rank_features"] <= 26 and 0 <= watched[-1]["knn_top1"] <= 1
    assert all("online_loss" in row for row in watched) and "online_loss" not in plain[0]
    run = read_run(tmp_path / "watched")
    shown = {name for panel, _ in draw_curves(run.rows, panels(run.specs)) for name in panel.series}
    assert names | {"online_loss", "online_top1"} <= shown


def test_without_labels_the_spread_alone_is_told_and_a_collapse_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.savez(tmp_path / "set.npz", image=np.random.default_rng(0).integers(0, 255, (32, 32, 32, 3), np.uint8))
    found = config(epochs=1, every_epochs=1, rank_warning=1000.0)
    found.data.update({"source": "arrays", "path": str(tmp_path / "set.npz"), "split": "", "limit": 0})
    with caplog.at_level(logging.WARNING):
        pretrain.run(found, tmp_path / "run")
    row = read_metrics(tmp_path / "run")[-1]
    assert "rank_features" in row and "alignment_embeddings" in row and "knn_top1" not in row
    assert "epoch 1: the effective rank of the features is" in caplog.text and "they have collapsed" in caplog.text


def test_what_cannot_be_watched(tmp_path: Path) -> None:
    found = config(every_epochs=1)
    found.online.eval_data.split = "nowhere"
    with raises_naming("config.online.eval_data", "nowhere"):
        pretrain.run(found, tmp_path / "run")
    found = config(every_epochs=-1)
    with raises_naming("config.online.every_epochs=-1"):
        pretrain.run(found, tmp_path / "run")
    assert not (tmp_path / "run").exists()
