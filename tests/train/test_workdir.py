"""Opening a workdir that other processes write to, or were killed in."""

import os
import time
from pathlib import Path

from ml_collections import ConfigDict

from jigclu_jax.train.workdir import open_workdir


def test_files_of_killed_writers_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    killed, living = tmp_path / ".result.json.11.partial", tmp_path / ".result.json.12.partial"
    for file in (killed, living):
        file.write_text("half")
    os.utime(killed, (time.time() - 7200,) * 2)
    open_workdir(tmp_path, ConfigDict({"job": "compare"}))
    assert not killed.exists() and living.read_text() == "half"
