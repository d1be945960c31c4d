"""The library in one call, and the same as verbs of the command line: which configs they make, and that they run."""

import inspect
import logging
import os
import signal
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
from named_errors import raises_naming
from PIL import Image
from tiny_checkpoint import make_workdir

import jigclu_jax
from jigclu_jax.__main__ import main
from jigclu_jax.calls import VERBS, Run, parse_verb
from jigclu_jax.config import prepare_config
from jigclu_jax.jobs import prepare


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("calls")
    make_workdir(root / "run")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), np.uint8)
    (root / "photos").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(root / "photos" / f"{index}.png")
    return root


def test_defaults_follow_from_the_images(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = VERBS["pretrain"]("out", str(place / "photos"), image_size=32, settings={"model.width": 0.05})
    assert (config.batch_size, config.epochs, config.model.stem) == (8, 800, "small")  # a quarter of 40 images, to a power of two
    assert config.optimizer.learning_rate == pytest.approx(0.12 * 8 / 256)
    assert "800 epochs, batch 8, learning rate 0.00375" in capsys.readouterr().out
    given = VERBS["pretrain"]("out", "embedded", model="resnet50", method="simclr", epochs=3, batch_size=16)
    assert (given.method.name, given.epochs, given.batch_size, given.data.split) == ("simclr", 3, 16, "train")
    assert given.is_locked


@pytest.mark.parametrize(("side", "chosen", "stem"), [(20, 32, "small"), (32, 32, "small"), (100, 96, "imagenet"), (300, 224, "imagenet")])
def test_the_side_follows_from_the_images(tmp_path: Path, capsys: pytest.CaptureFixture[str], side: int, chosen: int, stem: str) -> None:
    np.savez(tmp_path / "set.npz", image=np.zeros((3, side, side + 9, 3), np.uint8))
    config = VERBS["pretrain"]("out", str(tmp_path / "set.npz"), epochs=1, batch_size=2)
    assert (config.data.source, config.data.image_size, config.model.stem) == ("arrays", chosen, stem)
    assert f"{chosen} pixels" in capsys.readouterr().out
    given = VERBS["pretrain"]("out", str(tmp_path / "set.npz"), epochs=1, batch_size=2, settings={"data.image_size": 64})
    assert (given.data.image_size, given.model.stem) == (64, "small")
    one = VERBS["pretrain"]("out", str(tmp_path / "set.npz"), settings={"epochs": "1", "batch_size": 2})
    assert (one.epochs, one.batch_size, one.optimizer.warmup_epochs) == (1, 2, 0.05)
    assert one.optimizer.learning_rate == config.optimizer.learning_rate
    tuned = VERBS["finetune"]("out", "embedded", "random", settings={"epochs": "10", "data.image_size": 64})
    assert (tuned.optimizer.milestones, tuned.data.image_size, tuned.eval_data.crop) == ((3, 6, 9), 64, 64)


def test_prepared_shards_are_known_by_their_look(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), np.uint8)
    np.savez(tmp_path / "set.npz", image=images)
    config = prepare_config()
    config.data.update({"source": "arrays", "path": str(tmp_path / "set.npz"), "split": ""})
    config.output = str(tmp_path / "shards")
    prepare.run(config, tmp_path / "run")
    found = VERBS["pretrain"]("out", config.output, epochs=1, batch_size=2)
    assert (found.data.source, found.data.path, found.data.image_size) == ("prepared", config.output, 32)


def test_later_jobs_take_the_side_of_the_run(place: Path) -> None:
    assert VERBS["embed"]("out", "embedded", str(place / "run")).crop == 32
    assert VERBS["evaluate"]("out", "embedded", str(place / "run")).eval_data.crop == 32
    assert VERBS["finetune"]("out", "embedded", str(place / "run")).data.image_size == 32
    assert VERBS["finetune"]("out", "embedded", "random").data.image_size == 224


def test_a_plus_is_a_method_with_settings_of_its_own() -> None:
    plain, plus = (VERBS["pretrain"]("out", "embedded", method=name, epochs=20, batch_size=64) for name in ("jigclu", "jigclu+"))
    assert (plus.method.name, plus.method.temperature) == ("jigclu", 0.1)
    assert plus.method.projection_norm and plus.method.mirrored_location
    assert plus.optimizer.learning_rate == pytest.approx(4 * plain.optimizer.learning_rate)
    assert (plus.optimizer.per_epoch, plus.optimizer.warmup_epochs, plain.optimizer.warmup_epochs) == (False, 1.0, 0.0)
    assert plus.method.base_temperature == plain.method.base_temperature
    assert VERBS["pretrain"]("out", "embedded", epochs=20, batch_size=64).to_dict() == plus.to_dict()  # what own images get
    with raises_naming("simclr+"):
        VERBS["pretrain"]("out", "embedded", method="simclr+", epochs=1, batch_size=8)


def test_the_command_line_makes_the_same_config(place: Path) -> None:
    line = ["pretrain", "--out=out", f"--data={place / 'photos'}", "--epochs", "3", "--batch-size=8", "--image_size=32"]
    found, out = parse_verb([*line, "--set", "optimizer.learning_rate=0.1", "--set=augment.crop_area=0.3,1"])
    settings = {"optimizer.learning_rate": 0.1, "augment.crop_area": (0.3, 1.0)}
    called = VERBS["pretrain"]("out", str(place / "photos"), epochs=3, batch_size=8, image_size=32, settings=settings)
    assert out == "out" and found.to_dict() == called.to_dict() and found.optimizer.learning_rate == 0.1


@pytest.mark.parametrize("name", sorted(VERBS))
def test_a_verb_has_a_typed_signature_and_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    function = getattr(jigclu_jax, name)
    parameters = inspect.signature(function).parameters
    assert next(iter(parameters)) == "out" and set(parameters) | {"return"} == set(typing.get_type_hints(VERBS[name]))
    with pytest.raises(SystemExit):
        parse_verb([name, "--help"])
    said = capsys.readouterr().out
    assert all(f"--{parameter}" in said for parameter in parameters if parameter != "settings") and "--set" in said


def test_calls_that_cannot_be(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with raises_naming("optimizer.learning_rate"):
        VERBS["pretrain"]("out", "embedded", epochs=1, batch_size=8, settings={"optimizer.lerning_rate": 1})
    with raises_naming("nothing.pth"):
        jigclu_jax.export(str(place / "out"), "nothing.pth")
    twice = {"checkpoint": place / "run"}
    with raises_naming("checkpoint and weights"):
        jigclu_jax.export(str(place / "out"), str(place / "run"), **twice)
    with raises_naming("checkpoint and weights"):
        jigclu_jax.export(str(place / "out"), weights=str(place / "run"), **twice)
    for line, name in (
        (["export", "--out=x"], "--weights"),
        (["export", "--out=x", "--checkpoint=nothing.pth"], "nothing.pth"),
        (["export", "--out=x", f"--checkpoint={place / 'run'}", f"--weights={place / 'run'}"], "--checkpoint and --weights"),
        (["export", "--out=x", f"--weights={place / 'run'}", "--set", "formats"], "--set formats"),
        (["embed", "--out=x", "--data=y", "--weights=z", "--epochs=1"], "--epochs"),
        (["exprot", "--out=x"], "'export'"),
    ):
        assert main(line) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1 and name in err


def test_calls_in_a_row_leave_nothing_behind(place: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), dict(os.environ), sys.stdout
    run = jigclu_jax.export(str(tmp_path / "exported"), str(place / "run"), formats=["torchvision"])
    assert isinstance(run, Run) and run.result["files"] == ["torchvision.pth", "torchvision.safetensors"]
    small = {"eval_batch_size": 8}
    given = {"checkpoint": place / "run"}  # LightlyTrain's name of `weights`
    first = jigclu_jax.embed(out=tmp_path / "a", data=place / "photos", image_size=32, settings=small, **given)
    file = f"{run.out}/torchvision.safetensors"
    second = jigclu_jax.embed(str(tmp_path / "b"), str(place / "photos"), file, image_size=32, settings=small)
    both = [np.load(f"{found.out}/{found.result['features']}")["features"] for found in (first, second)]
    np.testing.assert_array_equal(*both)
    assert both[0].shape == (40, first.result["dim"]) and first.report is None
    assert (signal.getsignal(signal.SIGTERM), dict(os.environ), sys.stdout) == before
    assert jigclu_jax.neighbours(f"{first.out}/features.npz", "3.png", 2)


def test_what_a_module_does_to_logging_when_it_is_imported_ends_with_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "noisy_module.py").write_text("import logging\nlogging.basicConfig()\nthing = len(logging.root.handlers)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(jigclu_jax._HOMES, "thing", "noisy_module")
    monkeypatch.setattr(logging.root, "handlers", [])
    assert getattr(jigclu_jax, "thing") == 1 and not logging.root.handlers  # noqa: B009


@pytest.mark.slow
def test_pretrain_and_its_encoder(tmp_path: Path) -> None:
    small = {
        "model.arch": "resnet10",
        "model.width": 0.05,
        "data.augment": "device",
        "data.limit": 64,
        "log.pictures": False,
        "log.tensorboard": False,
    }
    run = jigclu_jax.pretrain(str(tmp_path / "run"), "embedded", epochs=1, batch_size=16, image_size=32, settings=small)
    assert run.result["job"] == "pretrain" and run.figures["images_per_second"] > 0 and run.report
    assert run.encoder(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, run.encoder.dim)


def test_the_installed_script() -> None:
    code = "import sys; sys.argv = ['jigclu', 'export', '--out=x']; from jigclu_jax.__main__ import command; command()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "--weights" in done.stderr
