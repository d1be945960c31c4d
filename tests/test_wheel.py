"""The wheel in an environment that has nothing else of the library: its files, its command, and a demo, from a folder without a checkout.

The environment sees the tests' packages through a .pth file, so that nothing is downloaded; .pth files of theirs, as that of an editable
installation, are not read there.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import jigclu_jax

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "requirements.txt", "requirements", "configs", "jigclu_jax")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wheel")
    (root / "source").mkdir()
    for name in SOURCES:  # a copy: building leaves files beside the sources
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / "source" / name)
    _run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(root), "./source"], root)
    (found,) = root.glob("jigclu_jax-*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the environment's programs."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, symlinks=True)
    python = root / "bin" / "python"
    packages = Path(_run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], root).strip())
    (packages / "tests.pth").write_text("\n".join(dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))) + "\n")
    _run([sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "-q", str(wheel)], root)
    return python.parent


def _run(command: Sequence[str], folder: Path, code: int = 0) -> str:
    """What the command prints; the environment's variables name no checkout."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=590)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_it_holds_what_a_user_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        (metadata,) = (opened.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    own = {path.relative_to(ROOT).as_posix() for path in (ROOT / "jigclu_jax").rglob("*") if path.suffix in (".py", ".jinja", ".css")}
    configs = {f"jigclu_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    assert names >= own | configs | {"jigclu_jax/py.typed"}
    outside = {name for name in names if not name.startswith("jigclu_jax/") and ".dist-info/" not in name}
    assert not outside
    assert (ROOT / "README.md").read_text().strip() in metadata


def test_its_command_works_without_a_checkout(environment: Path, tmp_path: Path) -> None:
    jigclu = str(environment / "jigclu")
    home = _run([str(environment / "python"), "-c", "import jigclu_jax; print(jigclu_jax.__file__)"], tmp_path)
    assert Path(home).is_relative_to(environment.parent)
    assert _run([jigclu, "--version"], tmp_path).strip() == jigclu_jax.__version__
    told = _run([jigclu, "--help"], tmp_path)
    assert all(f"  {path.stem} " in told for path in (ROOT / "configs").glob("*.py"))
    # the config is found, its images are not
    assert "no_images" in _run([jigclu, "--config=pretrain_folder", "--workdir=run", "--config.data.path=no_images"], tmp_path, code=2)
    assert "--config=pretrain_folder" in _run([jigclu, "--config=configs/pretrain_folder.py", "--workdir=run"], tmp_path, code=2)
    assert not any(tmp_path.iterdir())


def test_the_demo_runs(environment: Path, tmp_path: Path) -> None:
    small = "--arguments=epochs=1,probe_epochs=1,supervised_epochs=1,limit=64,width=0.05"
    own = ("model.arch=resnet10", "log.pictures=False", *(f"augment.{name}_probability=0.0" for name in ("jitter", "grayscale", "blur")))
    parts = [f"{part}.{field}" for part in ("pretrain", "supervised") for field in own]
    fields = ("log.tensorboard=False", "data.augment=device")
    less = [*parts, "probe.eval_data.limit=64", *(f"{part}.{field}" for part in ("pretrain", "supervised", "probe") for field in fields)]
    told = _run([str(environment / "jigclu"), "demo", small, *(f"--set={field}" for field in less)], tmp_path)
    assert "report: runs/demo/report.html" in told
    steps = {"pretrain", "probe", "supervised", "probe_supervised"}
    assert {"report.html", "result.json", *steps} <= {path.name for path in (tmp_path / "runs" / "demo").iterdir()}
