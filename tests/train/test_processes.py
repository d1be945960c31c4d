"""1 process with 4 devices, 2 with 2 and 4 with 1: the same losses, gradients, parameters and statistics over three steps."""

from pathlib import Path

import numpy as np
import processes
import pytest

SCRIPT = Path(__file__).with_name("process_equivalence.py")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-4)])
def test_processes_compute_what_one_does(tmp_path: Path, dtype: str, tolerance: float) -> None:
    found = {}
    for count in (1, 2, 4):
        path = tmp_path / f"{count}.npz"
        commands = [[str(SCRIPT), dtype, str(path)]] * count
        group = processes.start_group(commands, devices=4 // count, JAX_ENABLE_X64=str(int(dtype == "float64")))
        said = processes.finish(group, timeout=500)
        assert [code for code, _ in said] == [0] * count, said
        with np.load(path) as arrays:
            found[count] = dict(arrays)
    one = found[1]
    losses = [name for name in one if "loss" in name]
    assert len(losses) == 6 and len({float(one[name]) for name in losses}) == 6
    for count in (2, 4):
        assert one.keys() == found[count].keys()
        for name in losses:
            np.testing.assert_allclose(found[count][name], one[name], rtol=tolerance, err_msg=f"{count} processes: {name}")
        for group in ("gradient", "norm", "params", "stats"):
            names = [name for name in one if f"'{group}'" in name]
            assert names
            # beside the largest entry of a group in float32: later steps of a BatchNorm network drift there, whoever computes them
            largest = max(np.abs(one[name]).max() for name in names)
            for name in names:
                scale = max(np.abs(one[name]).max(), 1e-30) if dtype == "float64" else largest
                assert np.abs(found[count][name] - one[name]).max() <= tolerance * scale, f"{count} processes: {name}"
