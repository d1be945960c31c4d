"""One device against eight: the loss, BatchNorm and the update are those of the global batch."""

import jax
import numpy as np
import pytest
from train.three_steps import train


@pytest.mark.devices8
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
def test_eight_devices_compute_what_one_does(dtype: str, tolerance: float) -> None:
    with jax.enable_x64(dtype == "float64"):
        one, eight = (train(devices, dtype) for devices in (1, 8))
    assert one.keys() == eight.keys() == {"loss", "norm", "gradient", "params", "stats"}
    for name in one:
        pairs = list(zip(jax.tree.leaves(one[name]), jax.tree.leaves(eight[name]), strict=True))
        assert pairs
        # beside the largest entry of all in float32: later steps of a BatchNorm network drift there, whoever computes them
        largest = max(np.abs(a).max() for a, _ in pairs)
        for a, b in pairs:
            scale = max(np.abs(a).max(), 1e-30) if dtype == "float64" else largest
            assert np.abs(a - b).max() <= tolerance * scale, name
