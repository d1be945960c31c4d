#!/usr/bin/env bash
# Installs this checkout on every worker of a Cloud TPU VM and starts the same command there.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/tpu_vm.sh --tpu=NAME --zone=ZONE [--project=PROJECT] [--no-install] [--dry-run] -- ARGUMENT...

Copies the files of this checkout that git tracks to every worker of the TPU VM, installs them with the tpu extra
(Python 3.12 by uv), and starts `python -m jigclu_jax ARGUMENT...` on all workers, detached: the run goes on when
your connection ends. Give a workdir that every worker reaches: gs://BUCKET/FOLDER, or a folder mounted on all.

  --tpu=NAME         name of the TPU VM (it must exist: gcloud compute tpus tpu-vm create ...)
  --zone=ZONE        its zone
  --project=PROJECT  its project, where it is not gcloud's default
  --no-install       start only: the workers have this version already
  --dry-run          print the gcloud commands and run nothing

example: launch/tpu_vm.sh --tpu=v4-32 --zone=us-central2-b -- \
           --config=configs/pretrain_imagenet.py --workdir=gs://my-bucket/jigclu
The same line again resumes a run that has stopped: it goes on from its last checkpoint.
TEXT
}

fail() {
  echo "launch/tpu_vm.sh: $1" >&2
  exit 2
}

tpu='' zone='' project='' install=yes dry=no separated=no
while (($#)); do
  case $1 in
    --tpu=*) tpu=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --no-install) install=no ;;
    --dry-run) dry=yes ;;
    -h | --help) usage && exit 0 ;;
    --) separated=yes && shift && break ;;
    *) fail "unknown argument '$1': the arguments of jigclu_jax come after --, the others are in --help" ;;
  esac
  shift
done
[[ $separated == yes ]] || fail "the arguments of jigclu_jax are missing: add -- --config=... --workdir=..."
[[ -n $tpu ]] || fail "--tpu=NAME is missing"
[[ -n $zone ]] || fail "--zone=ZONE is missing"
workdir=''
for argument in "$@"; do
  [[ $argument == --workdir=* ]] && workdir=${argument#*=}
done
[[ -n $workdir ]] || fail "--workdir=DIR is missing after --"
[[ $workdir == gs://* || $workdir == /* ]] || fail "--workdir=$workdir is relative: give gs://BUCKET/FOLDER, or a folder mounted on every worker"
[[ $dry == yes ]] || command -v gcloud >/dev/null || fail "gcloud is not installed"

# Prints a command so that it can be pasted into a shell, and runs it unless this is a rehearsal
run() {
  printf '%q ' "$@"
  echo
  [[ $dry == yes ]] || "$@"
}

on_all_workers=(--worker=all "--zone=$zone")
[[ -z $project ]] || on_all_workers+=("--project=$project")
remote() { run gcloud compute tpus tpu-vm ssh "$tpu" "${on_all_workers[@]}" "--command=$1"; }

# A TPU serves one process, and files must not change under it
# shellcheck disable=SC2016  # here and below: $(...) and $HOME are the worker's
refuse_if_running='if [ -e jigclu_jax/run.pid ] && kill -0 "$(cat jigclu_jax/run.pid)" 2>/dev/null; then
  echo "process $(cat jigclu_jax/run.pid) runs here: stop it first (not a run of jigclu_jax? rm jigclu_jax/run.pid)" >&2; exit 1
fi'

if [[ $install == yes ]]; then
  folder=/tmp
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  if [[ $dry == no ]]; then
    folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
    git ls-files -z | tar --create --gzip --file "$folder/jigclu_jax.tar.gz" --null --files-from=- \
      || fail "the files that git tracks cannot be packed: is $PWD a whole git checkout?"
  fi
  run gcloud compute tpus tpu-vm scp "$folder/jigclu_jax.tar.gz" "$tpu:jigclu_jax.tar.gz" "${on_all_workers[@]}"
  # uv brings its own Python: the one of the TPU images is too old. The second pip is for systems that guard their Python
  # shellcheck disable=SC2016
  remote "$refuse_if_running"'
set -e
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || python3 -m pip install -q --user uv || python3 -m pip install -q --user --break-system-packages uv
mkdir -p jigclu_jax && cd jigclu_jax && rm -rf jigclu_jax configs && tar -xzf ../jigclu_jax.tar.gz
[ -x .venv/bin/python ] || uv venv -q --python 3.12 .venv
uv pip install -q --python .venv/bin/python -e ".[tpu]"'
fi

# Quoted once, for the worker's bash; gcloud hands the text on as it is
arguments=$(printf ' %q' "$@")
# nohup and setsid: no hang-up when the connection ends. The variable has jax.distributed find the other workers. The command returns
# once there is run.pid (it runs) or run.code (it is over)
remote "$refuse_if_running
cd jigclu_jax || exit 1
rm -f run.pid run.code
JIGCLU_DISTRIBUTED=auto nohup setsid bash -c 'echo \$\$ >run.pid; \"\$@\"; code=\$?; echo \"exit code \$code\"; echo \$code >run.code; rm -f run.pid' run .venv/bin/python -m jigclu_jax$arguments >>run.log 2>&1 </dev/null &
until [ -e run.pid ] || [ -e run.code ]; do sleep 0.1; done"

cat <<TEXT

Follow the log of the first worker (the others log to the same file of their own):
  gcloud compute tpus tpu-vm ssh $tpu --worker=0 ${on_all_workers[*]:1} --command='tail -n 50 -F jigclu_jax/run.log'
Stop the run, saved (SIGTERM to the Python process of every worker):
  gcloud compute tpus tpu-vm ssh $tpu ${on_all_workers[*]} --command='pkill -TERM -P "\$(cat jigclu_jax/run.pid)"'
TEXT
