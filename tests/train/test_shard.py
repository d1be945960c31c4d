"""Optimizer's state and moving averages shared among devices: the same numbers, a share of the memory, any number of devices after."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from jigclu_jax.device.mesh import create_mesh, share

SCRIPT = Path(__file__).with_name("shard_equivalence.py")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "lars"])
def test_shared_state_gives_the_same_numbers(tmp_path: Path, name: str) -> None:
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_ENABLE_X64": "1", "PYTHONPATH": f"{Path.cwd()}:{SCRIPT.parents[1]}"}
    command = [sys.executable, str(SCRIPT), str(tmp_path / "run"), name]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["difference"] < 1e-9
    # of the leaves only some scalars and the location head's bias do not divide by 8
    assert found["shared"] < found["whole"] / 7
    assert found["bytes on 1"] == found["whole"]
    assert found["shared"] < found["bytes on 4"] < found["whole"] / 3
    assert found["restored on 4"] == found["restored on 1"] == 0


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((3, 3, 64, 128), (None, None, None, "data")), ((3, 3, 128, 64), (None, None, "data")), ((8,), ("data",)), ((6, 3), ()), ((), ())],
)
def test_the_longest_axis_that_divides_is_shared(shape: tuple[int, ...], axes: tuple[str | None, ...]) -> None:
    mesh = AbstractMesh((4,), ("data",))
    assert share(shape, mesh).spec == PartitionSpec(*axes)
    assert share(shape, create_mesh(jax.devices()[:1])).spec == PartitionSpec(), "one device holds everything"
