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
    found = tiny.pretrain_config(colours=True)
    found.data.update({"augment": place} | data)
    return found


def losses(workdir: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(workdir)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workdirs `host`, `device` and `resident`, two of them with pictures."""
    root = tmp_path_factory.mktemp("places")
    for place in ("host", "device", "resident"):
        changed = config(place)
        changed.log.pictures = place != "device"
        pretrain.run(changed, root / place)
    return root


def test_device_trains_as_host_does_and_resident_learns_from_the_same_images(trained: Path) -> None:
    host, device, resident = (losses(trained / place) for place in ("host", "device", "resident"))
    assert host[0] == pytest.approx(device[0], abs=2e-3), "the same pictures to a rounding: the same first loss"
    assert len(host) == len(device) == len(resident) == 12
    assert host[0] == pytest.approx(resident[0], rel=0.05) and np.isfinite(resident).all()


@pytest.mark.parametrize(("dispatch", "rows"), [(1, 12), (4, 4)])
def test_a_resident_run_that_was_stopped_ends_as_one_that_was_not(
    trained: Path, tmp_path: Path, dispatch: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with several steps a call, where the stop comes between two calls."""
    changed, straight = config("resident", dispatch_steps=dispatch), trained / "resident"
    if dispatch > 1:
        changed.log_every_steps, straight = dispatch, tmp_path / "straight"
        pretrain.run(changed, straight)
    seen = iter([False] * 2 + [True] + [False] * 100)
    monkeypatch.setattr(type(STOP), "requested", property(lambda self: next(seen)))
    with pytest.raises(Preempted):
        pretrain.run(changed, tmp_path / "stopped")
    monkeypatch.undo()
    pretrain.run(changed, tmp_path / "stopped")
    expected, found = ([(row["step"], row["loss"]) for row in read_metrics(workdir)] for workdir in (straight, tmp_path / "stopped"))
    assert found == expected and len(found) == rows


def test_steps_of_one_call_are_those_of_single_calls(trained: Path, tmp_path: Path) -> None:
    pretrain.run(config("resident", dispatch_steps=5), tmp_path / "5")
    np.testing.assert_allclose(losses(tmp_path / "5")[:4], losses(trained / "resident")[:4], rtol=2e-3)
    assert len(losses(tmp_path / "5")) == 12, "every logged step ends a call"


@pytest.mark.parametrize("place", ["host", "resident"])
def test_pictures_of_the_three_places_are_in_the_report(trained: Path, place: str) -> None:
    assert {path.stem for path in (trained / place / "pictures").iterdir()} == {"montages", "patches", "places"}
    assert "three places" in (trained / place / "report.html").read_text()


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


def test_a_probe_from_resident_crops_sees_each_label(trained: Path, tmp_path: Path) -> None:
    """One class a colour: a linear layer on random features tells them apart only if labels go with their images."""
    rng = np.random.default_rng(0)
    label = np.arange(96) % 3
    image = np.clip(np.eye(3)[label][:, None, None] * 200 + rng.integers(0, 40, (96, 32, 32, 3)), 0, 255).astype(np.uint8)
    np.savez(
        tmp_path / "set.npz", train_image=image, train_label=label, val_image=image[:48], val_label=label[:48], classes=["r", "g", "b"]
    )
    found = tiny.probe_config(str(trained / "resident"), 4)
    found.data.update({"source": "arrays", "path": str(tmp_path / "set.npz"), "split": "train", "limit": 0, "augment": "resident"})
    found.eval_data.update({"split": "val", "limit": 0})
    probe.run(found, tmp_path / "probe")
    assert json.loads((tmp_path / "probe" / "result.json").read_text())["probe_top1_best"] > 0.9
