"""`jigclu doctor`: what it finds wrong, what it measures, and that a part that fails leaves the others."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jigclu_jax.__main__ import main
from jigclu_jax.config import pretrain_config
from jigclu_jax.jobs.doctor import COLUMNS, advice
from jigclu_jax.jobs.machine import Machine, problems

SMALL = ["--config=pretrain_folder:arch=resnet10,width=0.05,image_size=32,batch_size=8,stem=small", "--seconds=0.05"]
SMALL += [f"--set=augment.{name}_probability=0.0" for name in ("jitter", "grayscale", "blur")]
PACKAGES = (("jax", "0.12.0"), ("jaxlib", "0.12.0"), ("simplejpeg", "1"), ("cykooz-resizer", "4"), ("tensorflow-cpu", "2"))
GPU = Machine(
    platform="gpu", kind="H100", device_memory=78.0, driver="580.1", plugin="cuda13", packages=(*PACKAGES, ("jax-cuda13-plugin", "0.12.0"))
)


@pytest.mark.parametrize(
    ("machine", "names"),
    [
        (GPU, ()),
        (Machine(packages=PACKAGES), ("no accelerator",)),
        (Machine(packages=PACKAGES, driver="580.1"), ("jigclu_jax[cuda]",)),
        (Machine(packages=PACKAGES, driver="580.1", platforms="cpu"), ("JAX_PLATFORMS=cpu",)),
        (
            Machine(platform="", error="no CUDA", packages=GPU.packages, driver="550.9", plugin="cuda13"),
            ("no CUDA", "550.9", "jax[cuda12]"),
        ),
        (Machine("", packages=PACKAGES, error="no rocm", platforms="rocm"), ("no rocm", "JAX_PLATFORMS=rocm")),
        (Machine(packages=PACKAGES, tpu=True), ("jigclu_jax[tpu]",)),
        (Machine("gpu", packages=(*PACKAGES, ("jax-cuda13-plugin", "0.11.0")), driver="590.1", plugin="cuda13"), ("0.11.0",)),
        (Machine("tpu", packages=PACKAGES, x64=True, no_jit=True, nans=True), ("JAX_ENABLE_X64", "JAX_DISABLE_JIT", "JAX_DEBUG_NANS")),
        (Machine("tpu", packages=PACKAGES[:2]), ("simplejpeg", "cykooz-resizer", "data.augment=device")),
        (Machine("tpu", packages=PACKAGES, disk=0.5), ("0.5 GiB",)),
    ],
)
def test_what_is_wrong_is_said_and_nothing_else(machine: Machine, names: tuple[str, ...]) -> None:
    found = list(problems(machine))
    assert all(name in " ".join(found) for name in names) and bool(found) == bool(names), found


def test_advice_follows_from_the_slower_part() -> None:
    config = pretrain_config()
    config.epochs = 10
    fed = " ".join(advice(config, GPU, {"host": 300.0, "device": 900.0}, 450.0, 4_500))
    assert (
        "augment=device" in fed and "limited by the step" in fed and "0:10 an epoch" in fed and "1:40 for 10" in fed and "estimate" in fed
    )
    hungry = " ".join(advice(config, GPU, {"host": 300.0, "device": 400.0}, 2_000.0, 0))
    assert "limited by the input" in hungry and f"{GPU.cores * 5} would feed it" in hungry and "prepare" in hungry
    assert "batches of about 1024" in fed and advice(config, GPU, {}, 10.0, 0)


def test_everything_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index, image in enumerate(np.random.default_rng(0).integers(0, 255, (12, 40, 40, 3), np.uint8)):
        Image.fromarray(image).save(tmp_path / f"{index}.jpg")
    assert main(["doctor", f"--data={tmp_path}", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= COLUMNS
    text = " ".join(lines)
    assert text.count("images/s") >= 4 and "failed" not in text and "your 12 images" in text and "Python 3" in text


def test_a_part_that_fails_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", f"--data={tmp_path / 'nowhere'}", *SMALL, "--set=method.name=supervised"]) == 0
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if "failed: " in line]
    assert len(failed) == 2 and "nowhere" in failed[0] and "This machine" in lines


@pytest.mark.parametrize("argument", ["--config=pretrain_foldr", "--config=knn", "--seconds=0", "--seconds=x", "--bogus", "--set=epochs"])
def test_a_mistake_in_the_line_is_told_at_once(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", argument]) == 2
    shown = capsys.readouterr()
    assert not shown.out and shown.err.count("\n") == 1 and argument.strip("-").partition("=")[0] in shown.err
