"""launch/machine.sh and the commands of launch/skypilot.yaml, with a pretended Python."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from pretended_cloud import LAUNCH, executable, wait_for

RUN = ("--config=a.py", "--config.note=it's $HOME")
PYTHON = r"""#!/usr/bin/env bash
printf '%s\n' "$*" >>"$FAKE/started"
echo "${CUDA_VISIBLE_DEVICES-all} ${JAX_COORDINATOR_ADDRESS-alone} ${JAX_PROCESS_ID-}" >>"$FAKE/environment"
trap 'exit 75' TERM
step=$(head -n 1 "$FAKE/plan"); sed -i 1d "$FAKE/plan"
[[ $step == stay ]] || exit "$step"
for _ in $(seq 300); do sleep 0.1; done
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    executable(tmp_path / "python", PYTHON)
    return {**os.environ, "FAKE": str(tmp_path)}


def command(tmp_path: Path, *options: str) -> list[str]:
    known = (f"--python={tmp_path / 'python'}", "--wait=0", *options)
    return ["bash", str(LAUNCH / "machine.sh"), *known, "--", *RUN, f"--workdir={tmp_path / 'run'}"]


def play(tmp_path: Path, environment: dict[str, str], plan: str, *options: str) -> tuple[int, int, str]:
    """(exit code, how often the run was started, what was said)."""
    (tmp_path / "plan").write_text(plan)
    (tmp_path / "started").unlink(missing_ok=True)
    done = subprocess.run(command(tmp_path, *options), env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, len((tmp_path / "started").read_text().splitlines()), done.stderr


def test_it_goes_on_until_it_is_done(tmp_path: Path, environment: dict[str, str]) -> None:
    assert play(tmp_path, environment, "75\n75\n1\n0\n", "--gpus=0,2")[:2] == (0, 4)
    assert set((tmp_path / "started").read_text().splitlines()) == {f"-m jigclu_jax {' '.join(RUN)} --workdir={tmp_path / 'run'}"}
    assert set((tmp_path / "environment").read_text().splitlines()) == {"0,2 alone "}


def test_a_mistake_and_failures_in_a_row_end_it(tmp_path: Path, environment: dict[str, str]) -> None:
    assert play(tmp_path, environment, "2\n0\n")[:2] == (2, 1)
    (tmp_path / "run" / "checkpoints" / "40").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "50.orbax-checkpoint-tmp").mkdir()
    code, times, said = play(tmp_path, environment, "1\n134\n0\n", "--retries=2")
    assert (code, times) == (134, 2) and "failure 2 since checkpoint 40" in said


def test_a_signal_reaches_the_run_and_ends_both(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "plan").write_text("stay\n0\n")
    process = subprocess.Popen(command(tmp_path), env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(tmp_path / "environment", "alone")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 75
    finally:
        process.kill()
        process.wait()
    assert len((tmp_path / "started").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gpus=0",), "add -- --config"),
        (("--gpus=all", "--", "--workdir=x"), "--gpus=all"),
        (("--retries=0", "--", "--workdir=x"), "--retries=0"),
        (("--wait=soon", "--", "--workdir=x"), "--wait=soon"),
        (("--python=/none", "--", "--workdir=x"), "--python=/none"),
        (("--", "--config=x"), "--workdir=DIR"),
        (("8", "--", "--workdir=x"), "'8'"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = subprocess.run(["bash", str(LAUNCH / "machine.sh"), *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert said in done.stderr


def test_a_skypilot_job_recovers_and_resumes_with_the_same_workdir(tmp_path: Path, environment: dict[str, str]) -> None:
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    recovery = task["resources"]["job_recovery"]
    assert task["resources"]["use_spot"] is True and 75 in recovery["recover_on_exit_codes"] and 2 not in recovery["recover_on_exit_codes"]
    assert recovery["max_restarts_on_errors"] > 0 and task["envs"]["WORKDIR"] is None  # None: it must be given
    config = task["envs"]["CONFIG"].partition(":")[0]
    assert (LAUNCH.parent / config).exists()
    executable(tmp_path / ".venv" / "bin" / "python", PYTHON)
    given = {**task["envs"], "WORKDIR": "gs://bucket/mine", "ARGUMENTS": "--config.note='a b'", "SKYPILOT_NUM_NODES": "2"}
    given |= {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"}
    for code in (75, 0):  # preempted, then another machine
        (tmp_path / "plan").write_text(f"{code}\n")
        done = subprocess.run(["bash", "-c", task["run"]], env=environment | given, cwd=tmp_path, timeout=60)
        assert done.returncode == code
    first, second = (tmp_path / "started").read_text().splitlines()
    assert first == second == f"-m jigclu_jax --config={task['envs']['CONFIG']} --workdir=gs://bucket/mine --config.note=a b"
    assert (tmp_path / "environment").read_text().splitlines()[0].split()[1:] == ["10.0.0.1:8476", "1"]
    subprocess.run(["bash", "-n", "-c", task["setup"]], check=True)
