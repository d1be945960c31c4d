"""Commands that must be refused: what the tests of the command line and of bad input share."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_checkpoint import make_workdir

from jigclu_jax.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
FOLDER_CONFIG = f"--config={ROOT}/configs/pretrain_folder.py:stem=small,width=0.05,image_size=32,batch_size=8,epochs=1"
PROBE_CONFIG = f"--config={ROOT}/configs/probe_cifar10.py:batch_size=8,epochs=1"
Refused = Callable[..., str]
INTRODUCTION = ("data: ", "eval_data: ", "devices: ", "input: ", "pictures: ")  # what a job says of images that it could open
PROGRESS = "compiling the step for "  # what is said before a run's first batch, on stderr


@pytest.fixture(autouse=True)
def keep_signal_handler() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command that must be refused, with `--workdir` appended, and gives what it said after `error: `."""

    def run(*arguments: str, workdir: str | None = "out") -> str:
        before = tree(tmp_path)
        line = [*arguments, f"--workdir={tmp_path / workdir}"] if workdir else list(arguments)
        code = main(line)
        out, err = capfd.readouterr()
        assert code == 2, err
        assert not [line for line in out.splitlines() if not line.startswith(INTRODUCTION)], out
        err = err.partition("\n")[2] if err.startswith(PROGRESS) else err
        assert err.startswith("error: ") and err.count("\n") == 1, err
        assert tree(tmp_path) == before, "something was written"
        return err.removeprefix("error: ").rstrip("\n")

    return run


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Array files and folders of small images."""
    root = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 40, 3), np.uint8)
    np.savez(root / "labelled.npz", image=pixels, label=np.arange(40) % 4)
    np.savez(root / "unlabelled.npz", image=pixels)
    np.savez(root / "one_class.npz", image=pixels, label=np.zeros(40, np.int32))
    for split, count in (("train", 12), ("val", 4)):
        for index in range(count):
            folder = root / "tree" / split / f"class{index % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[index]).save(folder / f"{index}.png")
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workdir(tmp_path_factory.mktemp("pretrained") / "run")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and folder below, with the files' content."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}
