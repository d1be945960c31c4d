"""launch/tpu.sh: whole lives of a Cloud TPU on pretended gcloud and workers, and what must not be left running."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pretended_cloud import Cloud, create_cloud, wait_for

RUN = ("--config=configs/pretrain_imagenet.py", "--workdir=gs://bucket/run")
TARGET = ("--name=mine", "--type=v5litepod-16", "--zone=us-west4-a", "--poll=0.05")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = create_cloud(tmp_path)
    cloud.environment["WORKERS"] = "0"
    (tmp_path / "after_create").write_text("WAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE\n")
    yield cloud
    cloud.stop()


def actions(cloud: Cloud) -> list[str]:
    """create, delete, in their order."""
    words = [call.removeprefix("alpha ").split() for call in cloud.calls() if "queued-resources" in call]
    return [call[3] for call in words if call[3] != "describe"]


def test_created_preempted_twice_resumed_finished_removed(cloud: Cloud) -> None:
    (cloud.root / "plan").write_text("preempted\npreempted\n0\n")
    done = cloud.run("tpu.sh", *TARGET, "--model=spot", "--", *RUN, "--config.note=a b")
    assert done.returncode == 0, done.stderr
    assert actions(cloud) == ["create", "delete", "create", "delete", "create", "delete"]
    creates = [call for call in cloud.calls() if " create " in call]
    assert len(set(creates)) == 1 and {"--spot", "--node-id=mine", "--zone=us-west4-a"} <= set(creates[0].split())
    # the same command each time, with the same workdir
    words = f"-m jigclu_jax {' '.join(RUN)} --config.note=a b"
    assert (cloud.root / "started").read_text().splitlines() == [words] * 3
    assert "training" in done.stdout  # the log was followed
    assert not (cloud.root / "states").exists() and not cloud.home(0).exists()


def test_a_run_that_was_stopped_goes_on_on_the_same_tpu(cloud: Cloud) -> None:
    (cloud.root / "plan").write_text("75\n1\n0\n")
    done = cloud.run("tpu.sh", *TARGET, "--", *RUN)
    assert done.returncode == 0, done.stderr
    assert actions(cloud) == ["create", "delete"]
    assert len([call for call in cloud.calls() if " scp " in call]) == 1  # installed once


def test_a_mistake_and_failures_without_a_checkpoint_end_it(cloud: Cloud) -> None:
    (cloud.root / "plan").write_text("2\n")
    assert cloud.run("tpu.sh", *TARGET, "--", *RUN).returncode == 2
    assert actions(cloud) == ["create", "delete"]
    (cloud.root / "plan").write_text("1\n1\n134\n0\n")
    (cloud.root / "checkpoints").write_text("gs://bucket/run/checkpoints/40/\n")
    done = cloud.run("tpu.sh", *TARGET, "--retries=3", "--", *RUN)
    assert done.returncode == 1 and "failure 3 since checkpoint 40" in done.stderr
    assert actions(cloud) == ["create", "delete"] * 2


@pytest.mark.parametrize(("state", "sent"), [("ACTIVE", signal.SIGTERM), ("WAITING_FOR_RESOURCES", signal.SIGHUP)])
def test_an_interrupted_launcher_deletes_its_tpu(cloud: Cloud, state: str, sent: signal.Signals) -> None:
    (cloud.root / "after_create").write_text(f"{state}\n")
    process = subprocess.Popen(cloud.command("tpu.sh", *TARGET, "--", *RUN), env=cloud.environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(cloud.root / "calls", " create mine")
        if state == "ACTIVE":
            cloud.started(0)
        process.send_signal(sent)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
    assert actions(cloud) == ["create", "delete"] and not (cloud.root / "states").exists() and not cloud.home(0).exists()


def test_a_tpu_that_cannot_be_deleted_is_named(cloud: Cloud) -> None:
    (cloud.root / "plan").write_text("0\n")
    (cloud.root / "refuse").write_text("queued-resources delete\tthe network is down\n")
    done = cloud.run("tpu.sh", *TARGET, "--", *RUN)
    assert done.returncode == 1
    assert "gcloud compute tpus queued-resources delete mine --zone=us-west4-a --force" in done.stderr.splitlines()[-1]


def test_an_existing_one_is_used_when_asked_and_kept_when_asked(cloud: Cloud) -> None:
    (cloud.root / "states").write_text("ACTIVE\n")
    refused = cloud.run("tpu.sh", *TARGET, "--", *RUN)
    assert refused.returncode == 2 and "--reuse" in refused.stderr and actions(cloud) == []
    (cloud.root / "plan").write_text("0\n")
    done = cloud.run("tpu.sh", *TARGET, "--reuse", "--keep", "--", *RUN)
    assert done.returncode == 0 and actions(cloud) == [] and "queued-resources delete mine" in done.stderr


@pytest.mark.parametrize(
    ("refused", "code", "left"),
    [
        ("auth print-access-token\tno account", 2, []),
        ("storage ls\tgs://bucket not found: 404", 2, []),
        ("accelerator-types\tPERMISSION_DENIED on locations/us-west4-a", 2, []),
        ("queued-resources create\tQuota 'TPUV5sPreemptible' exceeded", 1, ["create"]),
        ("tpu-vm scp\tno route to host", 1, ["create", "delete"]),
    ],
)
def test_what_gcloud_refuses_is_one_line_and_leaves_nothing(cloud: Cloud, refused: str, code: int, left: list[str]) -> None:
    (cloud.root / "refuse").write_text(refused + "\n")
    (cloud.root / "after_create").write_text("ACTIVE\n")
    done = cloud.run("tpu.sh", *TARGET, "--retries=1", "--", *RUN)
    assert done.returncode == code and actions(cloud) == left
    assert refused.partition("\t")[2] in done.stderr
    if code == 2 or left == ["create"]:
        assert len(done.stderr.splitlines()) == 1
    assert not (cloud.root / "states").exists()


def test_a_request_that_fails_says_why_and_is_deleted(cloud: Cloud) -> None:
    (cloud.root / "after_create").write_text("WAITING_FOR_RESOURCES\nFAILED\n")
    done = cloud.run("tpu.sh", *TARGET, "--model=flex-start", "--hours=12", "--", *RUN)
    assert done.returncode == 1 and "no capacity" in done.stderr
    create = next(call.split() for call in cloud.calls() if " create " in call)
    assert create[0] == "alpha" and {"--provisioning-model=flex-start", "--max-run-duration=12h"} <= set(create)
    assert actions(cloud) == ["create", "delete"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model=spot",), ("16 chips x $0.48 = $7.68", "10.0 hours, $76.80")),
        ((), ("16 chips x $1.20 = $19.20", "10.0 hours, $192.00")),
        (("--model=flex-start", "--price=0.5"), ("16 chips x $0.5 = $8.00", "$80.00")),
        (("--model=flex-start",), ("--price=USD", "10.0 hours; ")),
        (("--type=v5p-8", "--zone=us-central1-a"), ("4 chips x $4.20 = $16.80",)),
    ],
)
def test_cost_and_time_are_said_beforehand(cloud: Cloud, options: tuple[str, ...], said: tuple[str, ...]) -> None:
    done = cloud.run("tpu.sh", *TARGET, "--images=36000000", "--rate=1000", *options, "--dry-run", "--", *RUN)
    assert done.returncode == 0, done.stderr
    for text in said:
        assert text in done.stdout
    assert cloud.calls() == [] and "queued-resources create mine" in done.stdout and "queued-resources delete mine" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (TARGET, "add -- --config"),
        ((*TARGET[1:], "--", *RUN), "--name=... is missing"),
        ((*TARGET[:2], "--", *RUN), "--zone=... is missing"),
        ((*TARGET, "--name=Mine", "--", *RUN), "--name=Mine"),
        ((*TARGET, "--type=tpu", "--", *RUN), "--type=tpu"),
        ((*TARGET, "--model=cheap", "--", *RUN), "--model=cheap"),
        ((*TARGET, "--retries=few", "--", *RUN), "--retries=few"),
        ((*TARGET, "--rate=fast", "--", *RUN), "--rate=fast"),
        ((*TARGET, "--", RUN[0]), "--workdir=gs://"),
        ((*TARGET, "--", "--workdir=/disk"), "--workdir=gs://"),
        ((*TARGET, "spot", "--", *RUN), "'spot'"),
    ],
)
def test_mistakes_are_one_line_and_start_nothing(cloud: Cloud, arguments: tuple[str, ...], said: str) -> None:
    done = cloud.run("tpu.sh", *arguments)
    assert (done.returncode, done.stdout, cloud.calls()) == (2, "", [])
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
