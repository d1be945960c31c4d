"""launch/slurm.sh: the batch script it writes, run with pretended srun and scontrol."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "launch" / "slurm.sh"
OPTIONS = ("--nodes=2", "--gpus-per-node=4", "--partition=gpu", "--cpus-per-task=8")
NASTY = '--config.data.path=/data/it\'s "quoted" $HOME `id` \\ a;b & *?\t#é'
# writes down its words, and leaves with the next code of a list; a SIGTERM is what the tasks would get
SRUN = r"""#!/usr/bin/env bash
printf '%s\0' "$@" >"$FAKE/words"
trap 'echo 75 >"$FAKE/codes"; touch "$FAKE/told"' TERM
touch "$FAKE/started"
while [[ ! -e $FAKE/codes ]]; do sleep 0.05; done
read -r code <"$FAKE/codes"
exit "$code"
"""


def slurm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch job in which srun and scontrol are pretended."""
    for name, text in (("srun", SRUN), ("scontrol", '#!/usr/bin/env bash\necho "$*" >>"$FAKE/scontrol"\n')):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "FAKE": str(tmp_path), "SLURM_JOB_ID": "7"}


def job(tmp_path: Path, cluster: dict[str, str], code: int | None) -> tuple[int, str, int]:
    """Run the batch script whose step leaves with a code; (its code, what it said, how often it was put back into the queue so far)."""
    text = slurm(*OPTIONS, "--dry-run", "--", "--config=a.py", f"--workdir={tmp_path / 'run'}", NASTY).stdout
    (tmp_path / "codes").unlink(missing_ok=True)
    if code is not None:
        (tmp_path / "codes").write_text(f"{code}\n")
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, env=cluster, cwd=tmp_path, timeout=60)
    queue = tmp_path / "scontrol"
    return done.returncode, done.stdout + done.stderr, len(queue.read_text().splitlines()) if queue.exists() else 0


def test_dry_run_prints_a_batch_script_and_submits_nothing() -> None:
    done = slurm(*OPTIONS, "--time=02:00:00", "--lead=120", "--dry-run", "--", "--config=a.py", "--workdir=/shared/run")
    assert (done.returncode, done.stderr) == (0, "")
    options = {line.removeprefix("#SBATCH ") for line in done.stdout.splitlines() if line.startswith("#SBATCH ")}
    assert options >= {
        "--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--time=02:00:00", "--signal=TERM@120", "--requeue",
        "--partition=gpu", "--cpus-per-task=8",
    }  # fmt: skip
    subprocess.run(["bash", "-n", "-c", done.stdout], check=True)


def test_one_machine_may_be_one_process() -> None:
    done = slurm("--nodes=1", "--gpus-per-node=8", "--one-process", "--dry-run", "--", "--config=a.py", "--workdir=/shared/run")
    assert {"#SBATCH --ntasks-per-node=1", "#SBATCH --gpus-per-node=8"} <= set(done.stdout.splitlines())


def test_the_step_gets_the_words_as_they_were_given(tmp_path: Path, cluster: dict[str, str]) -> None:
    assert job(tmp_path, cluster, 0) == (0, "", 0)
    words = (tmp_path / "words").read_text().split("\0")[:-1]
    assert words == ["--kill-on-bad-exit=0", "python", "-m", "jigclu_jax", "--config=a.py", f"--workdir={tmp_path / 'run'}", NASTY]


def test_a_stopped_run_goes_back_into_the_queue_and_a_mistake_does_not(tmp_path: Path, cluster: dict[str, str]) -> None:
    code, said, times = job(tmp_path, cluster, 75)
    assert (code, times) == (0, 1) and "exit code 75: back into the queue" in said
    assert (tmp_path / "scontrol").read_text() == "requeue 7\n"
    code, said, times = job(tmp_path, cluster, 2)
    assert (code, times) == (2, 1) and "a person has to mend" in said


def test_failures_in_a_row_end_it_unless_there_is_a_new_checkpoint(tmp_path: Path, cluster: dict[str, str]) -> None:
    assert [job(tmp_path, cluster, 134)[::2] for _ in range(2)] == [(0, 1), (0, 2)]
    (tmp_path / "run" / "checkpoints" / "40").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "50.orbax-checkpoint-tmp").mkdir()
    assert [job(tmp_path, cluster, 1)[::2] for _ in range(2)] == [(0, 3), (0, 4)]
    code, said, times = job(tmp_path, cluster, 1)
    assert (code, times) == (1, 4) and "failure 3 since checkpoint 40" in said


def test_a_sigterm_to_the_batch_shell_reaches_the_step(tmp_path: Path, cluster: dict[str, str]) -> None:
    text = slurm(*OPTIONS, "--dry-run", "--", "--config=a.py", f"--workdir={tmp_path / 'run'}").stdout
    process = subprocess.Popen(["bash", "-c", text], env=cluster, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        for _ in range(400):
            if (tmp_path / "started").exists():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "told").exists() and (tmp_path / "scontrol").read_text() == "requeue 7\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (OPTIONS, "add -- --config"),
        ((*OPTIONS[1:], "--", "--workdir=/x"), "--nodes= is no whole number"),
        (("--nodes=1", "--gpus-per-node=0", "--", "--workdir=/x"), "--gpus-per-node=0 is no whole number"),
        ((*OPTIONS, "--lead=soon", "--", "--workdir=/x"), "--lead=soon is no whole number"),
        ((*OPTIONS, "--", "--config=a.py"), "--workdir=DIR is missing"),
        ((*OPTIONS, "--", "--workdir=runs/x"), "--workdir=runs/x is relative"),
        ((*OPTIONS, "--one-process", "--", "--workdir=/x"), "--one-process"),
        ((*OPTIONS, "gpu", "--", "--workdir=/x"), "unknown argument 'gpu'"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = slurm("--dry-run", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


def test_help_names_every_option() -> None:
    done = slurm("--help")
    assert done.returncode == 0
    for option in ("--nodes", "--gpus-per-node", "--time", "--lead", "--retries", "--python", "--dry-run"):
        assert option in done.stdout
