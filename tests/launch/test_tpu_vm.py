"""launch/tpu_vm.sh: its rehearsal, and whole runs on pretended workers, so that quoting is proved and not read."""

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "launch" / "tpu_vm.sh"
TARGET = ("--tpu=v4-32", "--zone=us-central2-b")
RUN = ("--config=configs/pretrain_imagenet.py", "--workdir=gs://bucket/run")
NASTY = '--config.data.path=/data/it\'s "quoted" $HOME `id` \\ a;b & *?\t#é'

# Stands for gcloud and runs what it is given in the home of each of three workers, as ssh does: text for a shell
GCLOUD = """#!/usr/bin/env bash
set -eu
echo "$*" | head -n 1 >>"$FAKE/calls"
[[ "$1 $2 $3" == "compute tpus tpu-vm" ]]
action=$4; shift 4
for argument in "$@"; do
  case $argument in
    --command=*) text=${argument#*=} ;;
    --worker=all | --zone=us-central2-b | --project=p) ;;
    --*) exit 9 ;;
  esac
done
for worker in 0 1 2; do
  mkdir -p "$FAKE/home$worker"
  if [[ $action == scp ]]; then
    [[ $2 == v4-32:* ]]
    cp "$1" "$FAKE/home$worker/${2#*:}"
  else
    [[ $action == ssh && $1 == v4-32 ]]
    (cd "$FAKE/home$worker" && HOME=$FAKE/home$worker WORKER=$worker bash -c "$text")
  fi
done
"""
# Stands for uv: its "Python" writes down what it was started with, and stays until told
UV = """#!/usr/bin/env bash
set -eu
echo "$*" >>"$HOME/uv_calls"
[[ $1 == venv ]] || exit 0
mkdir -p .venv/bin
cat >.venv/bin/python <<'TEXT'
#!/usr/bin/env bash
trap 'exit 75' TERM
printf '%s\\0' "$PWD" "$JIGCLU_DISTRIBUTED" "$@" >"$HOME/started.partial"
mv "$HOME/started.partial" "$HOME/started"
echo training
for _ in $(seq 300); do [[ -e $FAKE/finish ]] && exit 0; sleep 0.1; done
TEXT
chmod +x .venv/bin/python
"""


@dataclass
class Pretended:
    """A checkout with the script in it, and the environment in which gcloud and uv are pretended."""

    root: Path
    environment: dict[str, str]

    def script(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = self.root / "checkout" / "launch" / "tpu_vm.sh"
        return subprocess.run(
            ["bash", str(script), *arguments], capture_output=True, text=True, env=self.environment, cwd=self.root, timeout=60
        )

    def home(self, worker: int) -> Path:
        return self.root / f"home{worker}"

    def started(self, worker: int) -> list[str]:
        wait_for(self.home(worker) / "started")
        return (self.home(worker) / "started").read_text().split("\0")[:-1]


def wait_for(path: Path, text: str = "") -> None:
    for _ in range(200):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came: {path.read_text() if path.exists() else 'missing'}")


def split_by_bash(line: str) -> list[str]:
    return subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def pretended(tmp_path: Path) -> Iterator[Pretended]:
    checkout = tmp_path / "checkout"
    (checkout / "launch").mkdir(parents=True)
    (checkout / "jigclu_jax").mkdir()
    shutil.copy(SCRIPT, checkout / "launch")
    (checkout / "jigclu_jax" / "a file.py").write_text("tracked")
    (checkout / "secret.txt").write_text("not tracked")
    for command in (["init", "-q"], ["add", "launch", "jigclu_jax"]):
        subprocess.run(["git", *command], cwd=checkout, check=True)
    executable(tmp_path / "bin" / "gcloud", GCLOUD)
    executable(tmp_path / "bin" / "uv", UV)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    yield Pretended(tmp_path, {**os.environ, "PATH": path, "FAKE": str(tmp_path), "TMPDIR": str(temporary)})
    (tmp_path / "finish").touch()
    for worker in range(3):  # nothing may outlive the test
        pid = tmp_path / f"home{worker}" / "jigclu_jax" / "run.pid"
        for _ in range(100):
            if not pid.exists():  # removed by the run itself as it ends
                break
            time.sleep(0.05)
        else:
            os.killpg(int(pid.read_text()), signal.SIGKILL)


def test_dry_run_prints_the_commands_and_runs_nothing(pretended: Pretended) -> None:
    done = pretended.script("--dry-run", *TARGET, "--project=p", "--", *RUN, NASTY)
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


def test_same_command_starts_on_every_worker_and_outlives_the_connection(pretended: Pretended) -> None:
    done = pretended.script(*TARGET, "--", *RUN, NASTY, "", "--config.seed=1")
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


def test_second_start_is_refused_while_the_first_runs_and_resumes_after(pretended: Pretended) -> None:
    assert pretended.script(*TARGET, "--", *RUN).returncode == 0
    for worker in range(3):
        pretended.started(worker)
    for extra in ((), ("--no-install",)):
        again = pretended.script(*TARGET, *extra, "--", *RUN)
        assert again.returncode != 0 and "runs here" in again.stderr
    # the line that the script prints for stopping
    printed = pretended.script("--dry-run", *TARGET, "--", *RUN).stdout
    stop = next(line for line in printed.splitlines() if "pkill" in line)
    subprocess.run(["bash", "-c", stop], env=pretended.environment, check=True, timeout=60)
    for worker in range(3):
        log = pretended.home(worker) / "jigclu_jax" / "run.log"
        wait_for(log, "exit code 75")
        (pretended.home(worker) / "started").unlink()
    (pretended.root / "calls").unlink()
    resumed = pretended.script(*TARGET, "--no-install", "--", *RUN)
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
def test_mistakes_are_one_line_and_start_nothing(pretended: Pretended, arguments: tuple[str, ...], said: str) -> None:
    done = pretended.script(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (pretended.root / "calls").exists()


def test_a_worker_that_fails_to_install_stops_the_launch(pretended: Pretended) -> None:
    executable(pretended.root / "bin" / "uv", '#!/usr/bin/env bash\necho "no Python" >&2; exit 1\n')
    done = pretended.script(*TARGET, "--", *RUN)
    assert done.returncode != 0 and "no Python" in done.stderr
    calls = (pretended.root / "calls").read_text().splitlines()
    assert [call.split()[3] for call in calls] == ["scp", "ssh"]  # nothing was started


def test_help_names_every_option() -> None:
    done = subprocess.run(["bash", str(SCRIPT), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for option in ("--tpu", "--zone", "--project", "--no-install", "--dry-run", "gs://"):
        assert option in done.stdout


def test_shellcheck_has_nothing_to_say() -> None:
    found = shutil.which("shellcheck")
    if found is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([found, "--format=json", str(SCRIPT)], capture_output=True, text=True)
    assert json.loads(done.stdout) == []
