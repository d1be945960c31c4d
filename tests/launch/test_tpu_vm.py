"""launch/tpu_vm.sh: its rehearsal, and whole runs on pretended workers, so that quoting is proved and not read."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pretended_cloud import Cloud, create_cloud, executable, wait_for

TARGET = ("--tpu=v4-32", "--zone=us-central2-b")
RUN = ("--config=configs/pretrain_imagenet.py", "--workdir=gs://bucket/run")
NASTY = '--config.data.path=/data/it\'s "quoted" $HOME `id` \\ a;b & *?\t#é'


def split_by_bash(line: str) -> list[str]:
    return subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


@pytest.fixture
def pretended(tmp_path: Path) -> Iterator[Cloud]:
    cloud = create_cloud(tmp_path)
    yield cloud
    cloud.stop()


def test_dry_run_prints_the_commands_and_runs_nothing(pretended: Cloud) -> None:
    done = pretended.run("tpu_vm.sh", "--dry-run", *TARGET, "--project=p", "--", *RUN, NASTY)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (pretended.root / "calls").exists() and list((pretended.root / "temporary").iterdir()) == []
    lines = [line for line in done.stdout.splitlines() if line.startswith("gcloud ")]
    # what bash would hand to gcloud
    words = [split_by_bash(line) for line in lines]
    where = ["--worker=all", "--zone=us-central2-b", "--project=p"]
    assert words[0] == ["gcloud", "compute", "tpus", "tpu-vm", "scp", "/tmp/jigclu_jax.tar.gz", "v4-32:jigclu_jax.tar.gz", *where]
    for line in words[1:]:
        assert line[:-1] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "v4-32", *where]
        assert line[-1].startswith("--command=")
        subprocess.run(["bash", "-n", "-c", line[-1].removeprefix("--command=")], check=True)  # parses
    assert len(words) == 3 and "[tpu]" in words[1][-1]
    # the command that was shown is a Python started with exactly these words
    command = split_by_bash(words[2][-1].split("' run ")[1].split(" >>run.log")[0])
    assert command == [".venv/bin/python", "-m", "jigclu_jax", *RUN, NASTY]
    assert "tail -n 50 -F jigclu_jax/run.log" in done.stdout


def test_same_command_starts_on_every_worker_and_outlives_the_connection(pretended: Cloud) -> None:
    done = pretended.run("tpu_vm.sh", *TARGET, "--", *RUN, NASTY, "", "--config.seed=1")
    assert done.returncode == 0, done.stderr
    for worker in range(3):
        home = pretended.home(worker)
        # gcloud and the script have ended; the runs have not
        assert pretended.started(worker) == [str(home / "jigclu_jax"), "auto", "-m", "jigclu_jax", *RUN, NASTY, "", "--config.seed=1"]
        wait_for(home / "jigclu_jax" / "run.log", "training")
        pid = int((home / "jigclu_jax" / "run.pid").read_text())
        assert os.getsid(pid) == pid  # a session of its own: no terminal can hang it up
        assert (home / "jigclu_jax" / "jigclu_jax" / "a file.py").read_text() == "tracked"
        assert not (home / "jigclu_jax" / "secret.txt").exists()
        assert (home / "uv_calls").read_text().splitlines()[-1].endswith("-e .[tpu]")
    (pretended.root / "finish").touch()
    for worker in range(3):
        wait_for(pretended.home(worker) / "jigclu_jax" / "run.log", "exit code 0")
    assert list((pretended.root / "temporary").iterdir()) == []


def test_second_start_is_refused_while_the_first_runs_and_resumes_after(pretended: Cloud) -> None:
    assert pretended.run("tpu_vm.sh", *TARGET, "--", *RUN).returncode == 0
    for worker in range(3):
        pretended.started(worker)
    for extra in ((), ("--no-install",)):
        again = pretended.run("tpu_vm.sh", *TARGET, *extra, "--", *RUN)
        assert again.returncode != 0 and "runs here" in again.stderr
    # the line that the script prints for stopping
    printed = pretended.run("tpu_vm.sh", "--dry-run", *TARGET, "--", *RUN).stdout
    stop = next(line for line in printed.splitlines() if "pkill" in line)
    subprocess.run(["bash", "-c", stop], env=pretended.environment, check=True, timeout=60)
    for worker in range(3):
        log = pretended.home(worker) / "jigclu_jax" / "run.log"
        wait_for(log, "exit code 75")
        (pretended.home(worker) / "started").unlink()
    (pretended.root / "calls").unlink()
    resumed = pretended.run("tpu_vm.sh", *TARGET, "--no-install", "--", *RUN)
    assert resumed.returncode == 0, resumed.stderr
    assert pretended.started(2)[2:] == ["-m", "jigclu_jax", *RUN]
    assert len([call for call in (pretended.root / "calls").read_text().splitlines() if " ssh " in call]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*TARGET,), "add -- --config"),
        (("--zone=z", "--", *RUN), "--tpu=NAME is missing"),
        (("--tpu=t", "--", *RUN), "--zone=ZONE is missing"),
        ((*TARGET, "--", "--config=configs/demo.py"), "--workdir=DIR is missing"),
        ((*TARGET, "--", "--workdir=runs/demo"), "--workdir=runs/demo is relative"),
        ((*TARGET, "--config=x.py", "--", *RUN), "unknown argument '--config=x.py'"),
        (("v4-32", *TARGET, "--", *RUN), "unknown argument 'v4-32'"),
    ],
)
def test_mistakes_are_one_line_and_start_nothing(pretended: Cloud, arguments: tuple[str, ...], said: str) -> None:
    done = pretended.run("tpu_vm.sh", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (pretended.root / "calls").exists()


def test_a_worker_that_fails_to_install_stops_the_launch(pretended: Cloud) -> None:
    executable(pretended.root / "bin" / "uv", '#!/usr/bin/env bash\necho "no Python" >&2; exit 1\n')
    done = pretended.run("tpu_vm.sh", *TARGET, "--", *RUN)
    assert done.returncode != 0 and "no Python" in done.stderr
    calls = (pretended.root / "calls").read_text().splitlines()
    assert [call.split()[3] for call in calls] == ["scp", "ssh"]  # nothing was started


def test_help_names_every_option(pretended: Cloud) -> None:
    done = subprocess.run(pretended.command("tpu_vm.sh", "--help"), capture_output=True, text=True)
    assert done.returncode == 0
    for option in ("--tpu", "--zone", "--project", "--no-install", "--dry-run", "gs://"):
        assert option in done.stdout
