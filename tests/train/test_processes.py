"""1 process with 4 devices and 4 with 1: the same numbers over three steps. 2 processes with 2 train in device/test_distributed.py."""

from pathlib import Path

import numpy as np
import processes
import pytest

SCRIPT = Path(__file__).with_name("process_equivalence.py")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What groups of 1 and of 4 processes have written."""
    found = {}
    for count in (1, 4):
        found[count] = tmp_path_factory.mktemp(f"{count}_processes")
        said = processes.finish(processes.start_group([[str(SCRIPT), str(found[count])]] * count, devices=4 // count), timeout=500)
        assert [code for code, _ in said] == [0] * count, said
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-4)])
def test_processes_compute_what_one_does(folders: dict[int, Path], dtype: str, tolerance: float) -> None:
    found = {}
    for count, folder in folders.items():
        with np.load(folder / f"{dtype}.npz") as arrays:
            found[count] = dict(arrays)
    one, four = found[1], found[4]
    losses = [name for name in one if "loss" in name]
    assert len(losses) == 6 and len({float(one[name]) for name in losses}) == 6
    assert one.keys() == four.keys()
    for name in losses:
        np.testing.assert_allclose(four[name], one[name], rtol=tolerance, err_msg=name)
    for group in ("gradient", "norm", "params", "stats"):
        names = [name for name in one if f"'{group}'" in name]
        assert names
        # beside the largest entry of a group in float32: later steps of a BatchNorm network drift there, whoever computes them
        largest = max(np.abs(one[name]).max() for name in names)
        for name in names:
            scale = max(np.abs(one[name]).max(), 1e-30) if dtype == "float64" else largest
            assert np.abs(four[name] - one[name]).max() <= tolerance * scale, name
