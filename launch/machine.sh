#!/usr/bin/env bash
# A run on one machine, all of its GPUs in one process, started again until it is done. No scheduler.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/machine.sh [--gpus=0,1,...] [--retries=N] [--wait=SECONDS] [--python=PATH] [--dry-run] -- ARGUMENT...

Runs `python -m jigclu_jax ARGUMENT...`, and the same again where it was stopped or has failed: it goes on from its last checkpoint.
SIGTERM and Ctrl-C that come to this script go to the run and end both.

  --gpus=0,1     only these; default: all that there are
  --retries=N    failures in a row without a new checkpoint after which it gives up; default 3
  --wait=SECONDS before another start; default 10
  --python=PATH  Python with jigclu_jax; default: the one in PATH
  --dry-run      print the command and run nothing

example: launch/machine.sh -- --config=configs/pretrain_folder.py --workdir=runs/mine --config.data.path=/data/images
TEXT
}

say() { echo "launch/machine.sh: $1" >&2; }
fail() { say "$1" && exit 2; }

gpus='' retries=3 pause=10 python=python dry=no separated=no
while (($#)); do
  case $1 in
    --gpus=*) gpus=${1#*=} ;;
    --retries=*) retries=${1#*=} ;;
    --wait=*) pause=${1#*=} ;;
    --python=*) python=${1#*=} ;;
    --dry-run) dry=yes ;;
    -h | --help) usage && exit 0 ;;
    --) separated=yes && shift && break ;;
    *) fail "unknown argument '$1': the arguments of jigclu_jax come after --, the others are in --help" ;;
  esac
  shift
done
[[ $separated == yes ]] || fail "the arguments of jigclu_jax are missing: add -- --config=... --workdir=..."
[[ $retries =~ ^[1-9][0-9]*$ ]] || fail "--retries=$retries is no whole number from 1 on"
[[ $pause =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "--wait=$pause is no number of seconds"
[[ -z $gpus || $gpus =~ ^[0-9]+(,[0-9]+)*$ ]] || fail "--gpus=$gpus is no list of numbers: 0,1"
workdir=''
for argument in "$@"; do [[ $argument == --workdir=* ]] && workdir=${argument#*=}; done
[[ -n $workdir ]] || fail "--workdir=DIR is missing after --"

command=("$python" -m jigclu_jax "$@")
if [[ $dry == yes ]]; then
  printf '%s' "${gpus:+CUDA_VISIBLE_DEVICES=$gpus }" && printf '%q ' "${command[@]}" && echo && exit 0
fi
command -v "$python" >/dev/null || fail "--python=$python is not there"
[[ -z $gpus ]] || export CUDA_VISIBLE_DEVICES=$gpus

newest_checkpoint() {
  find "$workdir/checkpoints" -mindepth 1 -maxdepth 1 -name '[0-9]*' ! -name '*[!0-9]*' -exec basename {} \; 2>/dev/null \
    | sort -n | tail -n 1
}
child='' asked=no
trap 'asked=yes; kill -TERM "$child" 2>/dev/null || true' TERM HUP
trap 'asked=yes; kill -INT "$child" 2>/dev/null || true' INT
failures=0 checkpoint=none
while true; do
  # a job of its own group: Ctrl-C reaches it by the trap alone, once
  set -m
  "${command[@]}" </dev/null &
  set +m
  child=$! code=0
  wait "$child" || code=$?
  while kill -0 "$child" 2>/dev/null; do # a signal ends a wait early
    code=0
    wait "$child" || code=$?
  done
  [[ $asked == no ]] || exit "$code"
  case $code in
    0) exit 0 ;;
    2 | 130) exit "$code" ;;
    75) failures=0 ;;
    *)
      newest=$(newest_checkpoint) || true
      [[ ${newest:-none} == "$checkpoint" ]] || failures=0
      checkpoint=${newest:-none} failures=$((failures + 1))
      if ((failures >= retries)); then
        say "exit code $code, failure $failures since checkpoint $checkpoint: not started again"
        exit "$code"
      fi ;;
  esac
  say "exit code $code: starting again"
  sleep "$pause" &
  child=$!
  wait "$child" || true
  [[ $asked == no ]] || exit 75
done
