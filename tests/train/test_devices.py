"""One device against eight: the loss, BatchNorm and the update are those of the global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("device_equivalence.py")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-4)])
def test_eight_devices_compute_what_one_does(dtype: str, tolerance: float) -> None:
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_ENABLE_X64": str(int(dtype == "float64"))}
    run = subprocess.run([sys.executable, str(SCRIPT), dtype], capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    errors = json.loads(run.stdout.splitlines()[-1])
    assert errors.keys() == {"loss", "norm", "gradient", "params", "stats"}
    assert all(error <= tolerance for error in errors.values()), errors
