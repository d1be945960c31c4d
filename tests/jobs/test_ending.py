"""First and last lines of jobs: images and devices, paths of report and results, a command that goes on."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from jigclu_jax.config import embed_config, knn_config, load_config, parse, pretrain_config, source_config
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.jobs.ending import next_command, say_end
from jigclu_jax.train.introduction import about_to_compile, arithmetic, introduce
from jigclu_jax.train.workdir import write_result


def test_the_first_lines_say_images_classes_and_devices(capsys: pytest.CaptureFixture[str]) -> None:
    config = source_config()
    config.source = "embedded"
    introduce(open_source(config), "data", {"dtype": "bfloat16"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("data: ") and "images" in lines[0] and "classes" in lines[0]
    assert lines[1].startswith("devices: ") and " GiB" in lines[1] and "bfloat16" in lines[1]
    introduce(open_source(config), "eval_data")
    assert "devices" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "precision", "told"),
    [
        ("cpu", None, "float32", "default", "float32"),
        ("gpu", "9.0", "float32", "default", "TF32"),
        ("gpu", "9.0", "float32", "highest", "float32"),
        ("gpu", "7.5", "float32", "default", "float32"),  # Turing knows no TF32
        ("gpu", "9.0", "bfloat16", "default", "bfloat16"),
        ("gpu", "9.0", "float64", "default", "float64"),
        ("tpu", None, "float32", "default", "bfloat16"),
    ],
)
def test_what_float32_really_is_on_a_device_is_told(platform: str, capability: str | None, dtype: str, precision: str, told: str) -> None:
    with jax.default_matmul_precision(None):  # whatever the environment says
        said = arithmetic({"dtype": dtype, "precision": precision}, SimpleNamespace(platform=platform, compute_capability=capability))
    assert told in said and (told == dtype) == (said == dtype)


def test_the_line_before_compilation_says_what_a_device_gets() -> None:
    assert "64 a device" in about_to_compile(50_000, 512, 8, 97) and "97 steps" in about_to_compile(50_000, 512, 8, 97)


def test_the_last_lines_say_where_the_result_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.html").write_text("")
    (tmp_path / "result.json").write_text("{}")
    config = knn_config()
    config.checkpoint = "runs/mine"
    say_end(config, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"report: {tmp_path}/report.html", f"results: {tmp_path}/result.json"]
    assert lines[2].startswith("next: python -m jigclu_jax ")


@pytest.mark.parametrize(
    ("source", "path", "name", "split"),
    [
        ("folder", "my photos", "", "train"),
        ("tfds", "", "cifar10", "train"),
        ("embedded", "", "", "train"),
        ("folder", "my photos", "", ""),
    ],
)
def test_what_follows_pretraining_is_a_command_that_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, path: str, name: str, split: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("train", "val"):
        (tmp_path / "my photos" / folder).mkdir(parents=True)
    config = pretrain_config()
    config.data.update({"source": source, "path": path, "name": name, "split": split})
    words = shlex.split(next_command(config, "runs/mine"))
    assert words[:3] == ["python", "-m", "jigclu_jax"]
    found, workdir = parse(words[3:])
    assert found.job == "evaluate" and found.checkpoint == "runs/mine" and workdir == "runs/mine_evaluation"
    assert found.data.source == source and found.data.path == path and found.data.name == name
    tuned, place = parse(shlex.split(next_command(found, workdir))[3:])
    assert (tuned.job, tuned.checkpoint, tuned.data.source, tuned.data.name) == ("finetune", "runs/mine", source, name)
    assert tuned.data.image_size == found.eval_data.crop or name
    assert parse(shlex.split(next_command(tuned, place))[3:])[0].checkpoint == place


@pytest.mark.parametrize(("source", "split"), [("folder", ""), ("folder", "train"), ("prepared", "train")])
def test_what_follows_pretraining_on_images_that_no_accuracy_is_measured_on(tmp_path: Path, source: str, split: str) -> None:
    (tmp_path / "train").mkdir()
    config = pretrain_config()
    config.data.update({"source": source, "path": str(tmp_path), "split": split})
    found, _ = parse(shlex.split(next_command(config, "runs/mine"))[3:])
    assert (found.job, found.checkpoint, found.data.source, found.data.path) == ("embed", "runs/mine", source, str(tmp_path))


@pytest.mark.parametrize(("images", "batch_size"), [(16, 8), (2, 1), (1000, 64)])
def test_what_follows_on_few_images_has_a_batch_that_they_fill(tmp_path: Path, images: int, batch_size: int) -> None:
    probe, prepare = knn_config(), load_config("configs/prepare.py")
    probe.checkpoint, prepare.output = "runs/mine", "shards"
    for config, fields in ((probe, {"train_images": images}), (prepare, {"images": images})):
        write_result(tmp_path, {"job": config.job, **fields})
        assert parse(shlex.split(next_command(config, tmp_path))[3:])[0].batch_size == batch_size


def test_what_follows_features_of_somebodys_weights() -> None:
    config = knn_config()
    config.weights, config.data.source, config.data.name, config.data.path = "their.pth", "folder", "cifar10", "mine"  # a preset's rest
    tuned, _ = parse(shlex.split(next_command(config, "runs/knn"))[3:])
    assert (tuned.job, tuned.init, tuned.weights) == ("finetune", "weights", "their.pth")
    assert tuned.eval_data.split == "val"
    alone = load_config("configs/evaluate.py")
    alone.checkpoint, alone.data.path = "runs/mine", "photos"  # where a path alone stands for a folder
    assert parse(shlex.split(next_command(alone, "runs/page"))[3:])[0].data.source == "folder"
    features = embed_config()
    assert "near_duplicates('runs/my features/features.npz')" in shlex.split(next_command(features, "runs/my features"))[2]


def test_what_follows_prepare_reads_the_shards() -> None:
    config = load_config("configs/prepare.py")
    config.output, config.data.split = "shards", "train"
    found, _ = parse(shlex.split(next_command(config, "runs/prepare"))[3:])
    assert (found.data.source, found.data.path, found.data.split) == ("prepared", "shards", "train")
