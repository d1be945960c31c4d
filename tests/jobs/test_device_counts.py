"""A run that goes on with other numbers of devices ends as one that kept its own, but for rounding."""

from pathlib import Path

import jax
import numpy as np
import processes
import pytest

from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.writers import read_metrics

SCRIPT = str(Path(__file__).with_name("device_counts.py"))


@pytest.mark.slow
def test_one_then_four_then_two_devices(tmp_path: Path) -> None:
    def run(workdir: str, devices: int, stop_after: int) -> None:
        environment = {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_ENABLE_X64": "1"}
        [(code, text)] = processes.finish([processes.start([SCRIPT, str(tmp_path / workdir), str(stop_after)], **environment)], timeout=500)
        assert code == 0, text

    run("straight", 1, 99)
    for devices, stop_after in ((1, 3), (4, 8), (2, 99)):
        run("changing", devices, stop_after)
    rows = [read_metrics(tmp_path / name) for name in ("straight", "changing")]
    assert [row["step"] for row in rows[1]] == list(range(1, 13))
    for name in ("loss", "loss_cluster", "loss_location", "gradient_norm"):
        np.testing.assert_allclose([row[name] for row in rows[1]], [row[name] for row in rows[0]], rtol=1e-6, err_msg=name)
    (step, _, straight), (same, _, changing) = (read_checkpoint(tmp_path / name) for name in ("straight", "changing"))
    assert step == same == 12
    for group in ("params", "stats", "opt"):
        for (path, left), right in zip(jax.tree_util.tree_leaves_with_path(straight[group]), jax.tree.leaves(changing[group]), strict=True):
            error = np.abs(np.asarray(left) - np.asarray(right)).max() / max(np.abs(left).max(), 1e-30)
            assert error <= 1e-6, f"{group}{jax.tree_util.keystr(path)}: {error}"
