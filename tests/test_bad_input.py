"""What a job is given that cannot work: one line that says what and where, exit code 2, nothing half-written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from named_errors import assert_names
from refusals import FOLDER_CONFIG, PROBE_CONFIG, PROGRESS, ROOT, Refused, images, keep_signal_handler, pretrained, refused

from jigclu_jax.__main__ import main
from jigclu_jax.data.input.stream import BatchStream
from jigclu_jax.errors import ImageError

__all__ = ["images", "keep_signal_handler", "pretrained", "refused"]  # fixtures


# --- what a pretraining run is given


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        ("--config.method.name=simclear", ("config.method.name='simclear'", "'simclr'")),
        ("--config.method.name=linear", ("classes",)),
        ("--config.method.name=supervised", ("classes",)),
        ("--config.model.arch=resnet19", ('model.arch="resnet19"', '"resnet18"')),
        ("--config.model.stem=smal", ('model.stem="smal"', '"small"')),
        ("--config.model.dtype=float16", ('model.dtype="float16"', '"bfloat16"')),
        ("--config.model.width=0", ("model.width=0",)),
        ("--config.optimizer.schedule=linear", ("config.optimizer.schedule='linear'", "cosine")),
        ("--config.optimizer.warmup_epochs=5", ("config.optimizer.warmup_epochs=5.0", "0..1")),
        ("--config.saving.best_metric=acc", ("config.saving.best_metric='acc'",)),
        ("--config.method.grid=3", ("data.image_size=32", "method.grid=3", "30", "33")),
        ("--config.method.grid=1", ("config.method.grid=1",)),
        ("--config.method.overlap=0.9", ("method.overlap=0.9", "0.5")),
        ("--config.method.shuffle_group=3", ("method.shuffle_group=3",)),
        ("--config.data.on_error=ignore", ("config.data.on_error='ignore'", "stop", "skip")),
        ("--config.data.source=foldr", ("config.data.source='foldr'", "'folder'")),
        ("--config.data.split=val", ("config.data", "'val'")),
        ("--config.data.limit=100", ("limit=100", "40 images")),
        ("--config.batch_size=64", ("40 images", "config.batch_size=64")),
        ("--config.augment.crop_area=0.2", ("config.augment.crop_area=(0.2,)",)),
        ("--config.augment.hue=2", ("config.augment.hue=2.0", "0.5")),
    ],
)
def test_a_pretraining_that_cannot_work(refused: Refused, images: Path, argument: str, names: tuple[str, ...]) -> None:
    said = refused(FOLDER_CONFIG, "--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz", argument)
    assert_names(said, *names)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--config.model.arch=resnet152", "--config.model.width=64"), ("config.model.width",)),
        (
            ("--config.data.image_size=8192", "--config.batch_size=40", "--config.model.width=64"),
            ("config.batch_size", "config.data.image_size"),
        ),
    ],
)
def test_a_pretraining_that_no_memory_holds(refused: Refused, images: Path, arguments: tuple[str, ...], names: tuple[str, ...]) -> None:
    said = refused(FOLDER_CONFIG, "--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz", *arguments)
    assert_names(said, "GiB", *names)


def test_a_source_that_is_missing_or_empty(refused: Refused, images: Path) -> None:
    assert_names(refused(FOLDER_CONFIG), "config.data", "path=''", "'folder'")
    assert_names(refused(FOLDER_CONFIG, "--config.data.path=/nope"), "config.data", "/nope")
    for path in (f"{images}/empty", f"{images}/labelled.npz"):
        assert_names(refused(FOLDER_CONFIG, f"--config.data.path={path}"), "config.data", path)


# --- what a probe is given


def _probe(images: Path, checkpoint: Path | str, source: str = "labelled.npz") -> list[str]:
    place = ["--config.data.source=arrays", f"--config.data.path={images}/{source}", "--config.data.split=", "--config.eval_data.split="]
    return [PROBE_CONFIG, *place, f"--config.checkpoint={checkpoint}"]


def test_a_checkpoint_that_is_not_there(refused: Refused, images: Path, pretrained: Path, tmp_path: Path) -> None:
    assert_names(refused(PROBE_CONFIG), "config.checkpoint")
    assert_names(refused(*_probe(images, "/nope")), "checkpoint /nope")
    assert_names(refused(*_probe(images, pretrained / "checkpoints")), f"{pretrained}/checkpoints")
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    assert_names(refused(*_probe(images, tmp_path / "begun")), f"{tmp_path}/begun")
    (tmp_path / "begun" / "checkpoints" / "5.orbax-checkpoint-tmp").mkdir()
    assert_names(refused(*_probe(images, tmp_path / "begun")), f"{tmp_path}/begun")
    assert_names(refused(*_probe(images, pretrained), "--config.checkpoint_which=7"), str(pretrained), "step 7", "[5]")
    averages = refused(*_probe(images, pretrained), "--config.checkpoint_weights=ema")
    assert_names(averages, f"config.checkpoint={pretrained}", "averages")
    assert_names(refused(*_probe(images, pretrained), "--config.checkpoint_which=newest"), "'newest'")


def test_a_checkpoint_of_another_backbone(refused: Refused, images: Path, pretrained: Path) -> None:
    for argument, name, own in (("arch=resnet50", "arch", "resnet10"), ("stem=imagenet", "stem", "small"), ("width=0.5", "width", "0.05")):
        said = refused(*_probe(images, pretrained), f"--config.model.{argument}")
        assert_names(said, f"config.checkpoint={pretrained}", f"model.{name}", own)


def test_a_probe_without_labels(refused: Refused, images: Path, pretrained: Path) -> None:
    assert_names(refused(*_probe(images, pretrained, "unlabelled.npz")), "labels", "probe")
    assert_names(refused(*_probe(images, pretrained, "one_class.npz")), "two classes")
    tree = [PROBE_CONFIG, "--config.data.source=folder", f"--config.data.path={images}/tree", f"--config.checkpoint={pretrained}"]
    assert_names(refused(*tree, "--config.data.split="), "labels", "probe")
    assert_names(refused(*tree), "config.eval_data", f"{images}/tree", "'test'", "train, val")


def test_numbers_and_metrics_of_a_probe(refused: Refused, images: Path, pretrained: Path) -> None:
    for argument, names in (
        ("--config.eval_batch_size=0", ("config.eval_batch_size=0",)),
        ("--config.saving.best_metric=loss_cluster", ("config.saving.best_metric='loss_cluster'",)),
        ("--config.optimizer.multipliers=(('backbone/*', 0.1),)", ("'backbone/*'", "0.0", "finetune")),
        ("--config.method.name=jigclu", ("config.method.name='jigclu'", "probe")),
    ):
        assert_names(refused(*_probe(images, pretrained), argument), *names)


# --- mistakes that come to light while the run goes on


QUIET = ("--config.log.tensorboard=0", "--config.log.pictures=0")


def test_a_method_of_another_job(refused: Refused, images: Path) -> None:
    source = ["--config.data.source=arrays", f"--config.data.path={images}/labelled.npz", "--config.method.name=linear"]
    assert_names(refused(FOLDER_CONFIG, *source), "config.method.name='linear'", "pretrain")


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
    assert_names(said, "config.batch_size=12", "8 devices", "8 or 16")


def test_micro_batches_that_do_not_come_out_even(refused: Refused, images: Path) -> None:
    source = ["--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz", "--config.accumulate=3"]
    said = refused(FOLDER_CONFIG, *source)
    assert_names(said, "config.batch_size=8", "config.accumulate=3", "6 or 9")


@pytest.mark.slow
def test_an_image_that_cannot_be_used_stops_the_run_with_one_line(images: Path, tmp_path: Path) -> None:
    """Through the real pipeline: neither TensorFlow nor JAX may add a line of its own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, file in enumerate(sorted((images / "tree" / "train").rglob("*.png"))[:8]):  # one batch: every image is in it
        (folder / f"{index}.png").write_bytes(file.read_bytes())
    (folder / "3.png").write_bytes(b"no image at all")
    done = _process(FOLDER_CONFIG, f"--config.data.path={folder}", f"--workdir={tmp_path}/out")
    expected = f"error: {folder}/3.png: text (no image at all), which is not read as an image"
    assert done.returncode == 2
    said = done.stderr.partition("\n")[2] if done.stderr.startswith(PROGRESS) else done.stderr
    assert said.startswith(expected) and said.count("\n") == 1, done.stderr
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
    assert_names(said, "config.data", f"{images}/unlabelled.npz", "labels")
    assert_names(refused(*_evaluation(name, images, "one_class.npz", backbone)), "one class", "'0'")


def test_an_evaluation_that_no_memory_holds(refused: Refused, images: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, large = f"--config.checkpoint={pretrained}", "--config.eval_data.crop=8192"
    assert_names(refused(*_evaluation("knn", images, "labelled.npz", backbone, large)), "GiB", "config.eval_data.crop")
    many = "--config.eval_batch_size=1048576"
    assert_names(refused(*_evaluation("evaluate", images, "labelled.npz", backbone, many, large)), "GiB", "config.eval_batch_size")
    assert_names(refused(*_probe(images, pretrained), large), "GiB", "config.eval_data.crop")
    embedding = [f"--config={ROOT}/configs/embed.py:crop=8192", "--config.data.source=arrays", f"--config.data.path={images}/labelled.npz"]
    assert_names(refused(*embedding, backbone), "GiB", "config.crop")
    numbers = ",".join(str(number / 10) for number in range(1000))
    heads = (f"--config.probe.learning_rates={numbers}", f"--config.probe.weight_decays={numbers}")
    monkeypatch.setattr("os.sysconf", lambda name: 2**15)  # pages, and bytes of each: one GiB
    assert_names(refused(*_evaluation("fast_probe", images, "labelled.npz", backbone, *heads)), "GiB", "config.probe.weight_decays")


def test_sizes_that_a_folder_gets_without_a_preset_are_told(
    images: Path, pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where what was given is the other preset's own: 32 pixels are CIFAR-10's."""
    line = [f"--config={ROOT}/configs/knn.py:resize=32,crop=32", f"--config.data.path={images}/tree", f"--config.checkpoint={pretrained}"]
    assert main([*line, "--config.eval_data.limit=100", f"--workdir={tmp_path}/out"]) == 2
    said = capfd.readouterr()
    assert "resized to 256, cropped to 224" in said.out.splitlines()[0] and "limit=100" in said.err


@pytest.mark.parametrize("name", EVALUATIONS)
def test_weights_that_are_none_and_workdirs_that_are_none(refused: Refused, images: Path, tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    (tmp_path / "torn.npz").write_bytes(b"PK")
    foreign = refused(*_evaluation(name, images, "labelled.npz", f"--config.weights={tmp_path}/foreign.npz"))
    assert_names(foreign, f"{tmp_path}/foreign.npz", "no ResNet")
    torn = refused(*_evaluation(name, images, "labelled.npz", f"--config.weights={tmp_path}/torn.npz"))
    assert_names(torn, f"{tmp_path}/torn.npz")
    (tmp_path / "search" / "final" / "checkpoints").mkdir(parents=True)
    above = refused(*_evaluation(name, images, "labelled.npz", f"--config.checkpoint={tmp_path}/search"))
    assert_names(above, f"{tmp_path}/search/final")


def test_an_ablation_that_cannot_begin(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = f"--config={ROOT}/configs/ablation.py:table=grid,seeds=1,epochs=1,images=40,batch_size=8"
    assert main([line, "--config.pretrain.data.path=/nope", f"--workdir={tmp_path}/out"]) == 2
    assert_names(capfd.readouterr().err, "error: config.pretrain.data", "/nope")
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there(images: Path, tmp_path: Path) -> None:
    source = ["--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz", f"--workdir={tmp_path}/out"]
    done = _process(FOLDER_CONFIG, *source, JAX_PLATFORMS="cdua")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "JAX_PLATFORMS" in done.stderr and "cdua" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_cannot_be_written_stops_no_training(images: Path, tmp_path: Path) -> None:
    source = ["--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz", f"--workdir={tmp_path}/out", *QUIET]
    line = [sys.executable, "-m", "jigclu_jax", FOLDER_CONFIG, *source]
    with open("/dev/full", "w") as full:
        assert subprocess.run(line, stdout=full, stderr=full, timeout=300, cwd=ROOT).returncode == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["job"] == "pretrain"
