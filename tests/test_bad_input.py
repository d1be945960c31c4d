"""What a job is given that cannot work: one line that says what and where, exit code 2, nothing half-written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from refusals import FOLDER_CONFIG, PROBE_CONFIG, ROOT, Refused, images, keep_signal_handler, pretrained, refused
from tiny_checkpoint import make_workdir, tiny_config

from jigclu_jax.__main__ import main
from jigclu_jax.data.input.stream import BatchStream
from jigclu_jax.errors import ImageError

__all__ = ["images", "keep_signal_handler", "pretrained", "refused"]  # fixtures


# --- what a pretraining run is given


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--config.method.name=simclr", "config.method.name='simclr' is unknown"),
        ("--config.method.name=linear", "config.method.name='linear' is no method of a pretrain job"),
        ("--config.method.name=supervised", "needs images of at least two classes"),
        ("--config.model.arch=resnet19", 'model.arch="resnet19" is unknown: did you mean "resnet18"?'),
        ("--config.model.stem=smal", 'model.stem="smal" is unknown: did you mean "small"?'),
        ("--config.model.dtype=float16", 'model.dtype="float16" is unknown: did you mean "bfloat16"?'),
        ("--config.model.width=0", "model.width=0"),
        ("--config.optimizer.schedule=linear", "config.optimizer.schedule='linear' is unknown: "),
        ("--config.optimizer.warmup_epochs=5", "config.optimizer.warmup_epochs=5.0 must lie in 0..1"),
        ("--config.saving.best_metric=acc", "config.saving.best_metric='acc' is not measured by this run"),
        ("--config.method.grid=3", "data.image_size=32 is not a multiple of method.grid=3: the nearest that are, are 30 and 33"),
        ("--config.method.grid=1", "config.method.grid=1 must be from 2 to"),
        ("--config.method.overlap=0.9", "method.overlap=0.9 is outside of [0, 0.5]"),
        ("--config.method.shuffle_group=3", "method.shuffle_group=3 does not divide"),
        ("--config.data.on_error=ignore", "config.data.on_error='ignore' is unknown: use 'stop' or 'skip'"),
        ("--config.data.source=foldr", "config.data.source='foldr' is unknown: did you mean 'folder'?"),
        ("--config.data.split=val", "config.data: "),
        ("--config.data.limit=100", "has only 40 images"),
        ("--config.batch_size=64", "holds 40 images, fewer than one batch of config.batch_size=64"),
        ("--config.augment.crop_area=0.2", "config.augment.crop_area=(0.2,) must hold 2 numbers"),
        ("--config.augment.hue=2", "config.augment.hue=2.0 must be from 0 to 0.5"),
    ],
)
def test_a_pretraining_that_cannot_work(refused: Refused, images: Path, argument: str, expected: str) -> None:
    assert expected in refused(FOLDER_CONFIG, "--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz", argument)


def test_a_source_that_is_missing_or_empty(refused: Refused, images: Path) -> None:
    assert refused(FOLDER_CONFIG).startswith("config.data: path='': source 'folder' needs path")
    assert refused(FOLDER_CONFIG, "--config.data.path=/nope").startswith("config.data: /nope: no such folder")
    assert refused(FOLDER_CONFIG, f"--config.data.path={images}/empty").startswith(f"config.data: {images}/empty: no images in this folder")
    assert "a file, not a folder" in refused(FOLDER_CONFIG, f"--config.data.path={images}/labelled.npz")


# --- what a probe is given


def _probe(images: Path, checkpoint: Path | str, source: str = "labelled.npz") -> list[str]:
    place = ["--config.data.source=arrays", f"--config.data.path={images}/{source}", "--config.data.split=", "--config.eval_data.split="]
    return [PROBE_CONFIG, *place, f"--config.checkpoint={checkpoint}"]


def test_a_checkpoint_that_is_not_there(refused: Refused, images: Path, pretrained: Path, tmp_path: Path) -> None:
    assert refused(PROBE_CONFIG).startswith("config.checkpoint is empty: give the workdir of a pretraining run")
    assert refused(*_probe(images, "/nope")).startswith("checkpoint /nope does not exist")
    assert "holds no checkpoints/ folder" in refused(*_probe(images, pretrained / "checkpoints"))
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    assert "holds no complete checkpoint" in refused(*_probe(images, tmp_path / "begun"))
    (tmp_path / "begun" / "checkpoints" / "5.orbax-checkpoint-tmp").mkdir()
    assert "holds no complete checkpoint" in refused(*_probe(images, tmp_path / "begun"))
    assert "holds no step 7: it holds [5]" in refused(*_probe(images, pretrained), "--config.checkpoint_which=7")
    averages = refused(*_probe(images, pretrained), "--config.checkpoint_weights=ema")
    assert averages.startswith(f"config.checkpoint={pretrained} holds no moving averages")
    assert "checkpoint 'newest' is unknown" in refused(*_probe(images, pretrained), "--config.checkpoint_which=newest")


def test_a_checkpoint_of_another_backbone(refused: Refused, images: Path, pretrained: Path) -> None:
    for argument, name, own in (("arch=resnet50", "arch", "resnet18"), ("stem=imagenet", "stem", "small"), ("width=0.5", "width", "0.05")):
        said = refused(*_probe(images, pretrained), f"--config.model.{argument}")
        assert said.startswith(f"config.checkpoint={pretrained} belongs to another backbone: its model.{name} is ") and own in said


def test_a_checkpoint_of_a_probe(refused: Refused, images: Path, tmp_path: Path) -> None:
    folder = make_workdir(tmp_path / "probe", tiny_config("probe"), classes=("a", "b"))
    assert f"config.checkpoint={folder} holds a probe without a backbone" in refused(*_probe(images, folder))


def test_a_probe_without_labels(refused: Refused, images: Path, pretrained: Path) -> None:
    assert "has no labels, and a probe needs them" in refused(*_probe(images, pretrained, "unlabelled.npz"))
    assert "needs images of at least two classes" in refused(*_probe(images, pretrained, "one_class.npz"))
    tree = [PROBE_CONFIG, "--config.data.source=folder", f"--config.data.path={images}/tree", f"--config.checkpoint={pretrained}"]
    assert "has no labels, and a probe needs them" in refused(*tree, "--config.data.split=")
    assert refused(*tree).startswith(f"config.eval_data: {images}/tree: no folder 'test' in it, it has train, val")


def test_numbers_and_metrics_of_a_probe(refused: Refused, images: Path, pretrained: Path) -> None:
    assert "config.eval_batch_size=0 must be from 1" in refused(*_probe(images, pretrained), "--config.eval_batch_size=0")
    assert "config.saving.best_metric='loss_cluster' is not measured" in refused(
        *_probe(images, pretrained), "--config.saving.best_metric=loss_cluster"
    )
    pattern = "--config.optimizer.multipliers=(('backbone/*', 0.1),)"
    assert "'backbone/*' matches no parameter's path: there are classifier" in refused(*_probe(images, pretrained), pattern)
    assert "config.method.name='jigclu' is no method of a probe job" in refused(*_probe(images, pretrained), "--config.method.name=jigclu")


# --- mistakes that come to light while the run goes on


QUIET = ("--config.log.tensorboard=0", "--config.log.pictures=0")


class DamagedStream(BatchStream):
    """Batches of a source whose first image does not decode."""

    def __init__(self, *_: object, **__: object) -> None:
        self._skipped: dict[int, str] = {}

    @property
    def skipped(self) -> dict[int, str]:
        return self._skipped

    def __next__(self) -> dict[str, np.ndarray]:
        raise ImageError("/photos/7.jpg: truncated JPEG")

    def close(self) -> None:
        pass


def test_a_damaged_image_leaves_no_begun_run(refused: Refused, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jigclu_jax.train.supply.train_batches", DamagedStream)
    line = [FOLDER_CONFIG, "--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz", *QUIET]
    assert refused(*line) == "/photos/7.jpg: truncated JPEG"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert refused(*line) == "/photos/7.jpg: truncated JPEG"


# --- whole processes


def _process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "JAX_NUM"))} | environment
    return subprocess.run([sys.executable, "-m", "jigclu_jax", *arguments], capture_output=True, text=True, timeout=300, env=env, cwd=ROOT)


@pytest.mark.devices8
def test_a_batch_that_eight_devices_cannot_share(refused: Refused, images: Path) -> None:
    source = ["--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz"]
    said = refused(FOLDER_CONFIG, *source, "--config.batch_size=12")
    assert said == "config.batch_size=12 cannot be shared by 8 devices: use 8 or 16"


def test_micro_batches_that_do_not_come_out_even(refused: Refused, images: Path) -> None:
    source = ["--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz", "--config.accumulate=3"]
    said = refused(FOLDER_CONFIG, *source)
    assert said.startswith("config.batch_size=8 cannot be shared by 1 device in config.accumulate=3 micro-batches: use 6 or 9, or config.")


@pytest.mark.slow
@pytest.mark.parametrize("minimum", [-1, 64])
def test_an_image_that_cannot_be_used_stops_the_run_with_one_line(images: Path, tmp_path: Path, minimum: int) -> None:
    """Through the real pipeline: neither TensorFlow nor JAX may add a line of its own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, file in enumerate(sorted((images / "tree" / "train").rglob("*.png"))):
        (folder / f"{index}.png").write_bytes(file.read_bytes())
    if minimum < 0:
        (folder / "3.png").write_bytes(b"no image at all")
    done = _process(FOLDER_CONFIG, f"--config.data.path={folder}", f"--config.data.min_side={minimum}", f"--workdir={tmp_path}/out")
    expected = f"error: {folder}/3.png: not an image" if minimum < 0 else f"error: {folder}/"
    assert done.returncode == 2
    assert done.stderr.startswith(expected) and done.stderr.count("\n") == 1, done.stderr
    assert minimum < 0 or "the smaller side must have 64: set data.min_side=1" in done.stderr
    assert not (tmp_path / "out").exists()


# --- what an evaluation is given

EVALUATIONS = ("fast_probe", "knn", "evaluate")


def _evaluation(name: str, images: Path, source: str, *more: str) -> list[str]:
    place = ["--config.data.source=arrays", f"--config.data.path={images}/{source}", "--config.data.split=", "--config.eval_data.split="]
    return [f"--config={ROOT}/configs/{name}.py:preset=folder,resize=32,crop=32", *place, *more]


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_without_labels_or_classes(refused: Refused, images: Path, pretrained: Path, name: str) -> None:
    backbone = f"--config.checkpoint={pretrained}"
    said = refused(*_evaluation(name, images, "unlabelled.npz", backbone))
    assert said == f"config.data: {images}/unlabelled.npz:image has no labels: give folders split/class/file, or a label array"
    assert "all training images are of one class ('0')" in refused(*_evaluation(name, images, "one_class.npz", backbone))


@pytest.mark.parametrize("name", EVALUATIONS)
def test_weights_that_are_none_and_workdirs_that_are_none(refused: Refused, images: Path, tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    (tmp_path / "torn.npz").write_bytes(b"PK")
    foreign = refused(*_evaluation(name, images, "labelled.npz", f"--config.weights={tmp_path}/foreign.npz"))
    assert "not a ResNet's state dict; missing: bn1.bias" in foreign and foreign.endswith("or of the authors' checkpoint")
    assert refused(*_evaluation(name, images, "labelled.npz", f"--config.weights={tmp_path}/torn.npz")).endswith("fetch or export it again")
    (tmp_path / "search" / "final" / "checkpoints").mkdir(parents=True)
    above = refused(*_evaluation(name, images, "labelled.npz", f"--config.checkpoint={tmp_path}/search"))
    assert above.endswith(f"the folder above checkpoints/; there is one in {tmp_path}/search/final")


def test_an_ablation_that_cannot_begin(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = f"--config={ROOT}/configs/ablation.py:table=grid,seeds=1,epochs=1,images=40,batch_size=8"
    assert main([line, "--config.pretrain.data.path=/nope", f"--workdir={tmp_path}/out"]) == 2
    assert capfd.readouterr().err == "error: config.pretrain.data: /nope: no such folder: set path to the folder that holds the images\n"
    assert not (tmp_path / "out").exists()
