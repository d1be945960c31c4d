"""JAX's distributed runtime starts when this process is one of several, and only then; two processes compute what one does."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import processes
import pytest
from jax._src.clusters import ClusterEnv, cloud_tpu_cluster

from jigclu_jax.device import distributed, peers
from jigclu_jax.errors import PeerError, UserError
from jigclu_jax.train.writers import read_metrics

ADDRESS = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234"}
LIMITS = {"initialization_timeout": 360, "heartbeat_timeout_seconds": 120}
SLURM = {
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_NODELIST": "node[007-009],spare",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}
OPEN_MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}
# "" rather than missing: JAX would ask a metadata server
ONE_SLICE = {"MEGASCALE_NUM_SLICES": "", "MEGASCALE_SLICE_ID": "", "MEGASCALE_COORDINATOR_ADDRESS": ""}
GKE = {"TPU_WORKER_HOSTNAMES": "127.0.0.1,127.0.0.2", "TPU_WORKER_ID": "1", **ONE_SLICE}
SLICES = {**GKE, "MEGASCALE_NUM_SLICES": "3", "MEGASCALE_SLICE_ID": "2", "MEGASCALE_COORDINATOR_ADDRESS": "127.0.0.1:8080"}
Calls = list[dict[str, Any]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The calls of `jax.distributed.initialize`, in an environment without any of the variables."""
    calls: Calls = []
    for name in processes.NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", lambda **named: calls.append(named))
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: bool(calls))
    return calls


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**SLURM, "SLURM_NTASKS": "1"},
        {**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1"},
        {"TPU_WORKER_HOSTNAMES": "localhost"},
        {"TPU_WORKER_HOSTNAMES": ""},
        {"JAX_COORDINATOR_ADDRESS": ""},
        {"SLURM_NTASKS": "many"},
    ],
)
def test_one_process_alone_starts_nothing(started: Calls, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    _set(monkeypatch, environment)
    assert distributed.start() is False
    assert started == []
    assert distributed.is_main() and not distributed.several()


@pytest.mark.parametrize(
    ("environment", "method", "expected"),
    [
        (SLURM, {"cluster_detection_method": "slurm"}, ("node007:61586", 8, 5, [1])),
        (OPEN_MPI, {"cluster_detection_method": "ompi"}, ("10.96.0.1:62624", 4, 3, [0])),
        ({**SLURM, **OPEN_MPI}, {"cluster_detection_method": "ompi"}, ("10.96.0.1:62624", 4, 3, [0])),
        (GKE, {}, ("127.0.0.1:8482", 2, 1, None)),
        ({"TPU_PROCESS_ADDRESSES": "127.0.0.1,127.0.0.2", "TPU_WORKER_ID": "0", **ONE_SLICE}, {}, ("127.0.0.1:8482", 2, 0, None)),
        (SLICES, {}, ("127.0.0.1:8482", 6, 5, None)),
        ({**SLICES, "TPU_WORKER_HOSTNAMES": "127.0.0.1", "TPU_WORKER_ID": "0"}, {}, ("127.0.0.1:8482", 3, 2, None)),
    ],
)
def test_a_scheduler_with_several_processes_is_left_to_jax_which_recognises_it(
    started: Calls,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    method: dict[str, str],
    expected: tuple[str, int, int, list[int] | None],
) -> None:
    _set(monkeypatch, environment)
    assert distributed.start() is True
    assert started == [{**method, **LIMITS}]
    assert distributed.start() is True  # a job inside a job
    assert len(started) == 1
    # what JAX makes of the same variables
    for module in (cloud_tpu_cluster, __import__("jax._src.clusters.cluster", fromlist=["cluster"])):
        monkeypatch.setattr(module, "running_in_cloud_tpu_vm", "TPU_WORKER_ID" in environment)
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, method.get("cluster_detection_method"), 10)
    assert found == expected


def test_a_launcher_that_knows_of_several_workers_says_so(started: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {"JIGCLU_DISTRIBUTED": "auto", "JIGCLU_HEARTBEAT_SECONDS": "10", "JIGCLU_START_SECONDS": "20"})
    assert distributed.start() is True
    assert started == [{"initialization_timeout": 80, "heartbeat_timeout_seconds": 70}]


@pytest.mark.parametrize(
    ("environment", "count", "index", "more"),
    [
        ({"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3", **SLURM}, 4, 3, {}),
        (SLURM, 8, 5, {}),
        # Open MPI 5 tells no address, but it does tell the rest
        ({k: v for k, v in OPEN_MPI.items() if k != "OMPI_MCA_orte_hnp_uri"}, 4, 3, {"local_device_ids": [0]}),
    ],
)
def test_addresses_given_by_hand_come_first(
    started: Calls, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], count: int, index: int, more: dict[str, Any]
) -> None:
    _set(monkeypatch, {**ADDRESS, **environment})
    assert distributed.start() is True
    assert started == [{"coordinator_address": "10.0.0.1:1234", "num_processes": count, "process_id": index, **more, **LIMITS}]


NUMBERS = {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (ADDRESS, "JAX_COORDINATOR_ADDRESS is set but JAX_NUM_PROCESSES and JAX_PROCESS_ID not: set all three, or none of them"),
        (ADDRESS | {"JAX_NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS is set but JAX_PROCESS_ID not: set all three, or none of them"),
        (ADDRESS | NUMBERS | {"JAX_NUM_PROCESSES": "two"}, "environment variable JAX_NUM_PROCESSES='two' is not a whole number"),
        (ADDRESS | NUMBERS | {"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID=2 is not in 0..1 (JAX_NUM_PROCESSES=2)"),
        (ADDRESS | NUMBERS | {"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID=-1 is not in 0..1 (JAX_NUM_PROCESSES=2)"),
        (NUMBERS | {"JAX_COORDINATOR_ADDRESS": "node1"}, "JAX_COORDINATOR_ADDRESS='node1' is no address: give HOST:PORT of process 0"),
        (
            ADDRESS | NUMBERS | {"JIGCLU_START_SECONDS": "1"},
            "environment variable JIGCLU_START_SECONDS=1 must be at least 5 seconds",
        ),
        (ADDRESS | NUMBERS | {"JIGCLU_START_SECONDS": "x"}, "environment variable JIGCLU_START_SECONDS='x' is not a whole number"),
        (
            {"SLURM_NTASKS": "8", "SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},  # a batch script without srun
            "SLURM_NTASKS=8 but SLURM_STEP_NODELIST not set: start the tasks with `srun python -m jigclu_jax ...`, "
            "or unset SLURM_NTASKS to run one process alone",
        ),
        (
            {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
            "this Open MPI does not tell where process 0 is: add `-x JAX_COORDINATOR_ADDRESS=HOST:PORT` "
            "(the first host, a free port) to mpirun",
        ),
    ],
)
def test_a_mistake_in_the_environment_is_one_line(
    started: Calls, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    _set(monkeypatch, environment)
    with pytest.raises(UserError) as raised:
        distributed.start()
    assert str(raised.value) == expected
    assert started == []


def test_a_runtime_that_does_not_start_is_one_line(started: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("UNKNOWN: Failed to start\nRPC server")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    _set(monkeypatch, {**ADDRESS, **NUMBERS})
    expected = r"cannot come together at 10\.0\.0\.1:1234 \(process 0 of 2\): UNKNOWN: Failed to start RPC server$"
    with pytest.raises(PeerError, match=expected):
        distributed.start()


def _set(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(peers, "join", lambda seconds: None)


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["host", "resident"])
def test_two_processes_train_as_one_does(tmp_path: Path, augment: str) -> None:
    """2 processes of 2 devices against 1 process of 1 device: the same batches, losses within 1e-4, files written once."""
    resident = augment == "resident"
    # pictures of resident data need all processes: one alone makes none
    more: dict[str, object] = {"data__augment": augment, "method__shuffle_group": 8, "log__pictures": not resident}
    more["optimizer__shard_state"] = resident
    # a backbone and pictures on which float32 drifts little in four steps, and every operation on colours
    more |= {"model__arch": "resnet18", "data__source": "embedded", "data__path": "", "data__split": "train", "data__limit": 64}
    more |= {f"augment__{name}_probability": chance for name, chance in (("jitter", 0.8), ("grayscale", 0.2), ("blur", 0.5))}
    compiled = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}  # as users compile: without optimizations float32 drifts further by step 4
    said = processes.finish(processes.start_group([processes.command(tmp_path / "two", **more)] * 2, devices=2, **compiled))
    assert [code for code, _ in said] == [0, 0], said
    code, text = processes.finish([processes.start(processes.command(tmp_path / "one", **more), JAX_NUM_CPU_DEVICES="1", **compiled)])[0]
    assert code == 0, text
    two, one = read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one")
    assert [row["step"] for row in two] == [row["step"] for row in one] == [1, 2, 3, 4]
    for name in ("loss", "loss_cluster", "loss_location", "gradient_norm"):
        np.testing.assert_allclose([row[name] for row in two], [row[name] for row in one], rtol=1e-4, err_msg=name)
    assert len({row["loss"] for row in one}) == 4
    kept = [{path.name for path in (tmp_path / name).iterdir()} for name in ("two", "one")]
    assert kept[0] == kept[1] >= {"config.json", "metrics.jsonl", "result.json", "report.html", "checkpoints"}
    assert "step 4/4" in said[0][1] and "step 4/4" not in said[1][1], "one process speaks"
