"""A workdir on an object store: every artefact of a run goes through etils.epath, and orbax's arrays through tensorstore.

Not covered here: TensorBoard's event files, which TensorFlow writes to `gs://` with its own C++ client.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import remote_bucket
from etils import epath
from named_errors import raises_naming
from refusals import ROOT, keep_signal_handler
from remote_bucket import PREFIX, Bucket
from tiny_checkpoint import make_workdir, tiny_config

from jigclu_jax.__main__ import main
from jigclu_jax.config import read_config
from jigclu_jax.encoder import load_encoder
from jigclu_jax.report.pages import write_page
from jigclu_jax.report.workdir_files import read_run, save_picture
from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.workdir import check_workdir, discard_run, open_workdir, read_result, write_result
from jigclu_jax.train.writers import create_writer, read_metrics

__all__ = ["keep_signal_handler"]  # a fixture


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    bucket, stop = remote_bucket.serve(monkeypatch, tmp_path / "bucket")
    yield bucket
    stop()


def _local_copies(bucket: Bucket, tmp_path: Path) -> list[str]:
    """Files outside of the bucket: a path whose `gs://` was lost lies in the working folder."""
    strays = [str(path) for path in tmp_path.rglob("*") if path.is_file() and bucket.root not in path.parents]
    return strays + [str(path) for path in (ROOT / "gs:", Path("gs:")) if path.exists()]


def test_config_metrics_result_pictures_and_report(bucket: Bucket, tmp_path: Path) -> None:
    root = f"{PREFIX}/runs/one"
    config = tiny_config()
    open_workdir(root, config)
    writer = create_writer(root, tensorboard=False)
    for step in (1, 2, 3):
        writer.write(step, {"epoch": step / 2, "loss": 3.0 / step})
    writer.flush()
    save_picture(root, "montages", "<svg/>")
    writer.close()
    write_result(root, {"job": "pretrain", "seed": 0, "seconds": 1.5})
    write_page(root)
    names = {path.relative_to(bucket.root / "runs/one").as_posix() for path in (bucket.root / "runs/one").rglob("*") if path.is_file()}
    assert names == {"config.json", "metrics.jsonl", "result.json", "pictures/montages.svg", "report.html"}
    assert {f"runs/one/{name}" for name in names} <= bucket.written
    assert _local_copies(bucket, tmp_path) == []
    # and back
    assert read_config(root) == read_config(bucket.root / "runs/one")
    check_workdir(root, config)
    assert [row["loss"] for row in read_metrics(root)] == [3.0, 1.5, 1.0]
    assert (read_result(root) or {})["seconds"] == 1.5
    assert read_run(root).pictures == {"montages": "<svg/>"}
    with raises_naming("gs://bucket/runs/one", "seed"):
        config.seed = 8
        check_workdir(root, config)
    # a run that goes on drops what came after its checkpoint
    again = create_writer(root, tensorboard=False, resume_step=2)
    again.close()
    assert [row["step"] for row in read_metrics(root)] == [1, 2]
    discard_run(root)
    assert {path.name for path in epath.Path(root).iterdir()} == {"report.html", "result.json"}


def test_a_checkpoint_is_written_read_and_only_counted_when_complete(bucket: Bucket, tmp_path: Path) -> None:
    make_workdir(epath.Path(f"{PREFIX}/run"))
    assert any("/state/" in name for name in bucket.uploads), "the arrays do not come through tensorstore"
    assert _local_copies(bucket, tmp_path) == []
    remote, local = read_checkpoint(f"{PREFIX}/run"), read_checkpoint(bucket.root / "run")
    assert (remote[0], remote[1]) == (local[0], local[1]) == (5, remote[1])
    kernel = remote[2]["params"]["backbone"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, local[2]["params"]["backbone"]["conv1"]["kernel"])
    assert kernel.shape == (3, 3, 3, 3) and 0.01 <= kernel.min() < kernel.max() <= 0.2
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(load_encoder(f"{PREFIX}/run")(images), load_encoder(str(bucket.root / "run"))(images))
    # an object store cannot rename a folder: the marker that is written last says that a checkpoint is whole
    (bucket.root / "run/checkpoints/5/commit_success.txt").unlink()
    with raises_naming("gs://bucket/run/checkpoints"):
        read_checkpoint(f"{PREFIX}/run")


def test_without_googles_client_a_workdir_there_is_refused_at_once(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jigclu_jax.config.stored._installed", lambda name: name != "google.cloud.storage")
    with raises_naming("--workdir=gs://bucket/run", "google-cloud-storage"):
        check_workdir(f"{PREFIX}/run", tiny_config())


@pytest.mark.slow
def test_pretrain_go_on_and_probe(bucket: Bucket, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Through the entry point, images from the bucket too."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 32, 3), np.uint8)
    np.savez(bucket.root / "images.npz", image=pixels, label=np.arange(24) % 2)
    place = ["--config.data.source=arrays", f"--config.data.path={PREFIX}/images.npz", "--config.data.split=", "--config.log.tensorboard=0"]
    place.append("--config.data.augment=device")
    pretrain = f"--config={ROOT}/configs/pretrain_folder.py:arch=resnet10,stem=small,width=0.05,image_size=32,batch_size=8,epochs=1"
    assert main([pretrain, *place, f"--workdir={PREFIX}/pretrain"]) == 0, capfd.readouterr().err
    assert main([f"--workdir={PREFIX}/pretrain"]) == 0
    assert "is complete: 3 steps, nothing left to train" in capfd.readouterr().err
    probe = [f"--config={ROOT}/configs/probe_cifar10.py:batch_size=8,epochs=1", *place, "--config.eval_data.split="]
    line = [*probe, "--config.eval_batch_size=8", f"--config.checkpoint={PREFIX}/pretrain", f"--workdir={PREFIX}/probe"]
    assert main(line) == 0, capfd.readouterr().err
    for job in ("pretrain", "probe"):
        folder = bucket.root / job
        assert {"config.json", "metrics.jsonl", "result.json", "report.html", "checkpoints"} <= {path.name for path in folder.iterdir()}
        assert json.loads((folder / "result.json").read_text())["job"] == job
        assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 3
    assert (bucket.root / "pretrain/pictures/montages.svg").exists()
    assert _local_copies(bucket, tmp_path) == []
