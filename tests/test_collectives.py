"""What one training step sends between eight devices, by the benchmark that reads it from the compiled program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from parts import python_path

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_a_step_sends_gradients_embeddings_and_moments_once() -> None:
    environment = os.environ | {"PYTHONPATH": python_path(ROOT)}
    command = [sys.executable, str(ROOT / "benchmarks" / "collectives.py"), "--small"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    rows = {row["name"].removeprefix("collectives resnet18 "): row for row in map(json.loads, run.stdout.splitlines())}
    # beside the embeddings of 96 patches: their cluster ids and denominators
    assert rows["embeddings"]["value"] == rows["embeddings"]["peer_value"] + 2 * 4 * 96
    assert rows["embeddings"]["arrays"] == 3
    for name in ("gradients", "batchnorm forward"):
        assert rows[name]["value"] == rows[name]["peer_value"] > 0
    assert rows["batchnorm backward"]["value"] == rows["parameters"]["value"] == rows["other"]["value"] == 0
    assert rows["scalars"]["value"] < 100
    assert rows.pop("work")["value"] > 0
    assert all(row["in_loops"] == 0 for row in rows.values())
