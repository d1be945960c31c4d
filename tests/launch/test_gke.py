"""launch/gke.py: the JobSet's fields, and kubectl pretended."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pretended_cloud import executable

SCRIPT = Path(__file__).resolve().parents[2] / "launch" / "gke.py"
COMMON = ("--name=mine", "--image=registry/jigclu:1")
RUN = ("--config=configs/pretrain_imagenet.py", "--workdir=gs://bucket/mine", 'it\'s "quoted": {x} #')
KUBECTL = """#!/usr/bin/env bash
echo "$*" >>"$FAKE/calls"
[[ $1 != get || -e $FAKE/exists ]] || exit 1
[[ $1 != apply ]] || { cat >"$FAKE/applied"; [[ ! -e $FAKE/refuse ]] || { echo "first" >&2; cat "$FAKE/refuse" >&2; exit 1; }; }
"""


def gke(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", str(SCRIPT), *COMMON, *arguments]  # -S: the standard library is enough
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def job(*arguments: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The manifest, its Job and its pod."""
    done = gke(*arguments, "--", *RUN)
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)
    spec = found["spec"]["replicatedJobs"][0]["template"]["spec"]
    return found, spec, spec["template"]["spec"]


@pytest.mark.parametrize(
    ("tpu", "topology", "hosts", "chips", "label"),
    [
        ("v5e", "2x4", 1, 8, "tpu-v5-lite-podslice"),
        ("v5e", "4x4", 4, 4, "tpu-v5-lite-podslice"),
        ("v5p", "2x2x4", 4, 4, "tpu-v5p-slice"),
        ("v6e", "1x1", 1, 1, "tpu-v6e-slice"),
        ("v6e", "16x16", 64, 4, "tpu-v6e-slice"),
        ("v4", "2x2x1", 1, 4, "tpu-v4-podslice"),
    ],
)
def test_one_pod_a_host_of_a_tpu(tpu: str, topology: str, hosts: int, chips: int, label: str) -> None:
    found, spec, pod = job(f"--tpu={tpu}", f"--topology={topology}", "--spot")
    assert (found["apiVersion"], found["kind"], found["metadata"]["name"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet", "mine")
    assert (spec["parallelism"], spec["completions"]) == (hosts, hosts)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": label,
        "cloud.google.com/gke-tpu-topology": topology,
        "cloud.google.com/gke-spot": "true",
    }
    container = pod["containers"][0]
    assert container["resources"] == {"limits": {"google.com/tpu": chips}, "requests": {"google.com/tpu": chips}}
    assert container["command"] == ["python", "-m", "jigclu_jax", *RUN] and container["image"] == "registry/jigclu:1"


def test_a_preemption_is_no_failure_and_a_mistake_ends_it() -> None:
    found, spec, pod = job("--tpu=v5e", "--topology=4x4", "--slices=2", "--max-restarts=7")
    assert found["spec"]["failurePolicy"] == {
        "maxRestarts": 7,
        "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
    }
    rules = {rule["onExitCodes"]["values"][0]: rule["action"] for rule in spec["podFailurePolicy"]["rules"]}
    assert rules == {2: "FailJob", 75: "Ignore"} and spec["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert found["spec"]["replicatedJobs"][0]["replicas"] == 2
    assert "alpha.jobset.sigs.k8s.io/exclusive-topology" in found["metadata"]["annotations"]


def test_gpu_nodes_know_where_process_0_is() -> None:
    _, spec, pod = job("--gpu=nvidia-h100-80gb", "--gpus=8", "--nodes=2")
    assert (spec["parallelism"], spec["completions"], spec["completionMode"]) == (2, 2, "Indexed")
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    container = pod["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert variables == {"JAX_COORDINATOR_ADDRESS": "mine-workers-0-0.mine:8476", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": None}
    assert job("--gpu=nvidia-l4", "--gpus=1")[2]["containers"][0]["env"] == []


def test_the_line_for_xpk() -> None:
    done = gke("--tpu=v5p", "--topology=2x2x4", "--xpk", "--cluster=c", "--zone=z", "--", *RUN)
    words = shlex.split(done.stdout)
    assert words[:3] == ["xpk", "workload", "create"]
    options = dict(word.split("=", 1) for word in words[3:])
    assert (options["--tpu-type"], options["--num-slices"], options["--cluster"]) == ("v5p-32", "1", "c")
    assert shlex.split(options["--command"]) == ["python", "-m", "jigclu_jax", *RUN]


def test_applied_once_and_refusals_are_one_line(tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "kubectl", KUBECTL)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "FAKE": str(tmp_path)}
    line = ("--tpu=v5e", "--topology=4x4", "--apply")
    assert gke(*line, "--dry-run", "--", *RUN, environment=environment).returncode == 0 and not (tmp_path / "calls").exists()
    done = gke(*line, "--", *RUN, environment=environment)
    assert done.returncode == 0 and "kubectl delete jobset mine" in done.stderr
    assert yaml.safe_load((tmp_path / "applied").read_text()) == yaml.safe_load(done.stdout)
    (tmp_path / "refuse").write_text("error: no credentials")
    done = gke(*line, "--", *RUN, environment=environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1) and "no credentials" in done.stderr
    (tmp_path / "exists").touch()
    (tmp_path / "applied").unlink()
    done = gke(*line, "--", *RUN, environment=environment)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1) and not (tmp_path / "applied").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tpu=v5e", "--topology=4x4"), "add -- --config"),
        (("--", *RUN), "--tpu=TYPE"),
        (("--tpu=v5e", "--gpu=x", "--", *RUN), "--tpu=TYPE"),
        (("--tpu=v9", "--", *RUN), "--tpu"),
        (("--tpu=v5e", "--topology=4x4x4", "--", *RUN), "--topology=4x4x4"),
        (("--tpu=v5e", "--topology=3x3", "--", *RUN), "--topology=3x3"),
        (("--tpu=v5e", "--topology=4x4", "--", "--workdir=runs/x"), "--workdir=gs://"),
        (("--gpu=x", "--nodes=0", "--", *RUN), "--nodes=0"),
        (("--gpu=x", "--xpk", "--", *RUN), "--xpk"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = gke(*arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert said in done.stderr
