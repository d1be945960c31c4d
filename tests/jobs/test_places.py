"""Whole runs with each place of augmentation: the same rows whatever makes the pictures' last step, resumed runs, no TensorFlow."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import tiny

from jigclu_jax.data.sources.toy import load_embedded
from jigclu_jax.errors import Preempted
from jigclu_jax.jobs import pretrain, probe
from jigclu_jax.train.stop import STOP
from jigclu_jax.train.writers import read_metrics


def config(place: str, **data: Any) -> Any:
    found = tiny.pretrain_config()
    found.data.update({"augment": place} | data)
    return found


def losses(workdir: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(workdir)]


def test_device_trains_as_host_does_and_resident_learns_from_the_same_images(tmp_path: Path) -> None:
    for place in ("host", "device", "resident"):
        pretrain.run(config(place), tmp_path / place)
    host, device, resident = (losses(tmp_path / place) for place in ("host", "device", "resident"))
    assert host[0] == pytest.approx(device[0], abs=2e-3), "the same pictures to a rounding: the same first loss"
    assert len(host) == len(device) == len(resident) == 12
    assert host[0] == pytest.approx(resident[0], rel=0.05) and np.isfinite(resident).all()


@pytest.mark.parametrize("dispatch", [1, 4])
def test_a_resident_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path, dispatch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with several steps a call, where the stop comes between two calls."""
    options = {"dispatch_steps": dispatch}
    changed = config("resident", **options)
    changed.log_every_steps = 4
    pretrain.run(changed, tmp_path / "straight")
    seen = iter([False] * 2 + [True] + [False] * 100)
    monkeypatch.setattr(type(STOP), "requested", property(lambda self: next(seen)))
    with pytest.raises(Preempted):
        pretrain.run(changed, tmp_path / "stopped")
    monkeypatch.undo()
    pretrain.run(changed, tmp_path / "stopped")
    straight, resumed = read_metrics(tmp_path / "straight"), read_metrics(tmp_path / "stopped")
    assert [(row["step"], row["loss"]) for row in straight] == [(row["step"], row["loss"]) for row in resumed]


def test_steps_of_one_call_are_those_of_single_calls(tmp_path: Path) -> None:
    for dispatch in (1, 5):
        pretrain.run(config("resident", dispatch_steps=dispatch), tmp_path / str(dispatch))
    np.testing.assert_allclose(losses(tmp_path / "5")[:4], losses(tmp_path / "1")[:4], rtol=2e-3)
    assert len(losses(tmp_path / "5")) == 12, "every logged step ends a call"


@pytest.mark.parametrize("place", ["host", "resident"])
def test_pictures_of_the_three_places_are_in_the_report(tmp_path: Path, place: str) -> None:
    changed = config(place)
    changed.log.pictures = True
    pretrain.run(changed, tmp_path / "run")
    assert {path.stem for path in (tmp_path / "run" / "pictures").iterdir()} == {"montages", "patches", "places"}
    assert "three places" in (tmp_path / "run" / "report.html").read_text()


def test_pretraining_and_probe_from_resident_data_need_no_tensorflow(tmp_path: Path) -> None:
    images, labels, classes = load_embedded("train")
    held_out, held_labels, _ = load_embedded("validation")
    np.savez(
        tmp_path / "set.npz",
        train_image=images[:96],
        train_label=labels[:96],
        val_image=held_out[:40],
        val_label=held_labels[:40],
        classes=np.array(classes),
    )
    code = f"""
import sys
sys.modules.update(dict.fromkeys(["tensorflow", "tensorflow_datasets", "clu"]))  # importing them raises ImportError
sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})
from jobs import tiny
from jigclu_jax.jobs import pretrain, probe
config = tiny.pretrain_config(1)
config.data.update({{"source": "arrays", "path": {str(tmp_path / "set.npz")!r}, "split": "train", "limit": 0, "augment": "resident"}})
config.log.tensorboard = config.log.pictures = True
pretrain.run(config, {str(tmp_path / "run")!r})
config = tiny.probe_config({str(tmp_path / "run")!r}, 1)
config.data.update({{"source": "arrays", "path": {str(tmp_path / "set.npz")!r}, "split": "train", "limit": 0, "augment": "resident"}})
config.eval_data.update({{"split": "val", "limit": 0}})
probe.run(config, {str(tmp_path / "probe")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((tmp_path / "probe" / "result.json").read_text())
    assert 0 <= result["probe_top1_last"] <= 1


def test_a_probe_from_resident_crops_sees_each_label(tmp_path: Path) -> None:
    """One class a colour: a linear layer on random features tells them apart only if labels go with their images."""
    rng = np.random.default_rng(0)
    label = np.arange(96) % 3
    image = np.clip(np.eye(3)[label][:, None, None] * 200 + rng.integers(0, 40, (96, 32, 32, 3)), 0, 255).astype(np.uint8)
    np.savez(
        tmp_path / "set.npz", train_image=image, train_label=label, val_image=image[:48], val_label=label[:48], classes=["r", "g", "b"]
    )
    changed = config("resident", limit=48)
    pretrain.run(changed, tmp_path / "run")
    found = tiny.probe_config(str(tmp_path / "run"), 4)
    found.data.update({"source": "arrays", "path": str(tmp_path / "set.npz"), "split": "train", "limit": 0, "augment": "resident"})
    found.eval_data.update({"split": "val", "limit": 0})
    probe.run(found, tmp_path / "probe")
    assert json.loads((tmp_path / "probe" / "result.json").read_text())["probe_top1_best"] > 0.9
