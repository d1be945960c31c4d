"""Stand-ins for gcloud and uv: they write down what they are called with, run what workers would run, and play scripted answers.

Files of the folder $FAKE: `calls` (one line a call), `states` (what `queued-resources describe` says, one line a call, the last one for
ever; no file: there is no such resource), `refuse` (a line `WORDS<tab>MESSAGE`: a call that has these words fails with that message),
`plan` (what each start of the run does: an exit code, or
`preempted`), `homeN` (the disk of worker N of $WORKERS; gone when the TPU is deleted).
"""

import os
import signal
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

LAUNCH = Path(__file__).resolve().parents[1] / "launch"

GCLOUD = r"""#!/usr/bin/env bash
set -eu
echo "$*" | head -n 1 >>"$FAKE/calls"
if [[ -e $FAKE/refuse ]]; then
  while IFS=$'\t' read -r words message; do
    [[ $* != *"$words"* ]] || { echo "Some advice." >&2; echo "ERROR: (gcloud) $message" >&2; exit 1; }
  done <"$FAKE/refuse"
fi
gone() {  # the machines: their processes, then their disks
  for home in "$FAKE"/home*; do
    [[ ! -e $home/jigclu_jax/run.pid ]] || kill -KILL -- "-$(cat "$home/jigclu_jax/run.pid")" 2>/dev/null || true
    rm -rf "$home"
  done
}
[[ $1 != alpha ]] || shift
case "$1 $2 ${3:-}" in
  "auth print-access-token " | "compute tpus accelerator-types" | "storage ls gs://bucket") exit 0 ;;
  "storage ls gs://bucket/run/checkpoints/") cat "$FAKE/checkpoints" 2>/dev/null || exit 1; exit 0 ;;
  "compute tpus queued-resources")
    case $4 in
      create) cp "$FAKE/after_create" "$FAKE/states" ;;
      delete) gone; rm -f "$FAKE/states" ;;
      describe)
        [[ $* != *failedData* ]] || { echo "no capacity"; exit 0; }
        [[ -e $FAKE/states ]] || { echo "ERROR: NOT_FOUND: no such resource" >&2; exit 1; }
        head -n 1 "$FAKE/states"
        [[ $(wc -l <"$FAKE/states") == 1 ]] || sed -i 1d "$FAKE/states" ;;
    esac
    exit 0 ;;
esac
[[ "$1 $2 $3" == "compute tpus tpu-vm" ]]
action=$4; shift 4
[[ $action != describe ]] || { echo READY; exit 0; }
workers=${WORKERS:-0 1 2}
for argument in "$@"; do
  case $argument in
    --command=*) text=${argument#*=} ;;
    --worker=0) workers=0 ;;
    --worker=all | --zone=us-central2-b | --zone=us-west4-a | --project=p) ;;
    --*) exit 9 ;;
  esac
done
for worker in $workers; do
  home=$FAKE/home$worker
  mkdir -p "$home"
  if [[ $action == scp ]]; then
    [[ $2 == v4-32:* || $2 == mine:* ]]
    cp "$1" "$home/${2#*:}"
    continue
  fi
  [[ $action == ssh && ( $1 == v4-32 || $1 == mine ) ]]
  cd "$home"
  HOME=$home WORKER=$worker bash -c "$text" &
  shell=$!
  while kill -0 $shell 2>/dev/null; do  # a connection ends with its machine
    if [[ -e $FAKE/preempted ]]; then
      gone; rm "$FAKE/preempted"; echo SUSPENDED >"$FAKE/states"
      pkill -P $shell || true; kill $shell; exit 255
    fi
    sleep 0.02
  done
  wait $shell
done
"""
# Its "Python" writes down what it was started with, and stays until told; with a plan it does what the next line says
UV = r"""#!/usr/bin/env bash
set -eu
echo "$*" >>"$HOME/uv_calls"
[[ $1 == venv ]] || exit 0
mkdir -p .venv/bin
cat >.venv/bin/python <<'TEXT'
#!/usr/bin/env bash
trap 'exit 75' TERM
printf '%s\0' "$PWD" "$JIGCLU_DISTRIBUTED" "$@" >"$HOME/started.partial"
mv "$HOME/started.partial" "$HOME/started"
echo training
if [[ -e $FAKE/plan ]]; then
  [[ $WORKER == 0 ]] || exit 0
  echo "$*" >>"$FAKE/started"
  step=$(head -n 1 "$FAKE/plan"); sed -i 1d "$FAKE/plan"
  [[ $step == preempted ]] && touch "$FAKE/preempted" || exit "$step"
fi
for _ in $(seq 300); do [[ -e $FAKE/finish ]] && exit 0; sleep 0.1; done
TEXT
chmod +x .venv/bin/python
"""


@dataclass
class Cloud:
    """A checkout with the launchers in it, and the environment in which gcloud and uv are pretended."""

    root: Path
    environment: dict[str, str]

    def command(self, script: str, *arguments: str) -> list[str]:
        return ["bash", str(self.root / "checkout" / "launch" / script), *arguments]

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = self.command(script, *arguments)
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, cwd=self.root, timeout=60)

    def calls(self) -> list[str]:
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def home(self, worker: int) -> Path:
        return self.root / f"home{worker}"

    def started(self, worker: int) -> list[str]:
        """Words of the Python that was started on a worker."""
        wait_for(self.home(worker) / "started")
        return (self.home(worker) / "started").read_text().split("\0")[:-1]

    def stop(self) -> None:
        """Let every pretended run end: nothing may outlive a test."""
        (self.root / "finish").touch()
        for pid in self.root.glob("home*/jigclu_jax/run.pid"):
            for _ in range(100):
                if not pid.exists():  # removed by the run itself as it ends
                    break
                time.sleep(0.05)
            else:
                os.killpg(int(pid.read_text()), signal.SIGKILL)


def create_cloud(root: Path) -> Cloud:
    """A checkout with one tracked and one other file, below `root`."""
    checkout = root / "checkout"
    (checkout / "jigclu_jax").mkdir(parents=True)
    (checkout / "launch").mkdir()
    for path in LAUNCH.iterdir():
        if path.is_file():
            (checkout / "launch" / path.name).write_bytes(path.read_bytes())
            (checkout / "launch" / path.name).chmod(path.stat().st_mode)
    (checkout / "jigclu_jax" / "a file.py").write_text("tracked")
    (checkout / "secret.txt").write_text("not tracked")
    for command in (["init", "-q"], ["add", "launch", "jigclu_jax"]):
        subprocess.run(["git", *command], cwd=checkout, check=True)
    executable(root / "bin" / "gcloud", GCLOUD)
    executable(root / "bin" / "uv", UV)
    (root / "temporary").mkdir()
    path = f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # a true gcloud, should one ever be reached, finds nobody's credentials
    none = {"CLOUDSDK_CONFIG": str(root / "no_credentials"), "CLOUDSDK_CORE_PROJECT": "pretended"}
    return Cloud(root, {**os.environ, **none, "PATH": path, "FAKE": str(root), "TMPDIR": str(root / "temporary")})


def wait_for(path: Path, text: str = "") -> None:
    """Until a file is there that has a text."""
    for _ in range(200):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came: {path.read_text() if path.exists() else 'missing'}")


def executable(path: Path, text: str) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
