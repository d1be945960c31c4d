#!/usr/bin/env bash
# A run on a Cloud TPU from beginning to end: asks for the TPU, trains, comes back after preemptions, removes the TPU.
# gcloud by its documentation as read in November 2026: docs.cloud.google.com/tpu/docs/queued-resources (states),
# .../tpu/docs/request-using-flex-start, and cloud.google.com/sdk/gcloud/reference/[alpha/]compute/tpus/queued-resources/create, where
# alpha alone has --provisioning-model and --max-run-duration.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/tpu.sh --name=NAME --type=TYPE --zone=ZONE [OPTION...] -- ARGUMENT...

Creates the queued resource NAME with one TPU of that name, waits until it is there, installs this checkout on all workers, starts
`python -m jigclu_jax ARGUMENT...`, and follows the log. After a preemption it asks for another TPU under the same name and starts the same
command, which goes on from its last checkpoint. At the end, after a mistake and when it is interrupted, the TPU is deleted.

  --name=NAME          of the run, of the queued resource and of the TPU
  --type=TYPE          accelerator type: v5litepod-16, v5p-8, v6e-8, ...
  --zone=ZONE          --project=PROJECT where it is not gcloud's default
  --model=MODEL        on-demand (default), spot or flex-start
  --hours=N            of flex-start: how long a TPU is lent; default 24, at most 168
  --valid-until=TIME   give up the request after that long in the queue: 6h; default: never
  --runtime=VERSION    software of the TPU VM; default: the one for the type
  --reuse              NAME exists already: use it, and follow the run that is on it
  --keep               do not delete the TPU at the end (it goes on costing)
  --images=N           images that the run sees, those of the set times epochs: says time and cost beforehand
  --rate=N             images/s of the whole TPU; default: an estimate from docs/scaling.md
  --price=USD          of a chip and hour; default: launch/prices.tsv
  --retries=N          failures in a row without a new checkpoint after which it gives up; default 3
  --restarts=N         TPUs after the first one; default 50
  --poll=SECONDS       between looks at a state; default 20
  --dry-run            print cost and commands, run nothing

example: launch/tpu.sh --name=imagenet --type=v5litepod-16 --zone=us-west4-a --model=spot --images=256233400 -- \
           --config=configs/pretrain_imagenet.py:bfloat16 --workdir=gs://my-bucket/imagenet
TEXT
}

say() { echo "launch/tpu.sh: $1" >&2; }
fail() { say "$1" && exit 2; }

name='' type='' zone='' project='' model=on-demand hours=24 until='' runtime='' reuse=no keep=no images='' rate='' price=''
retries=3 restarts=50 poll=20 dry=no separated=no
while (($#)); do
  case $1 in
    --name=* | --type=* | --zone=* | --project=* | --model=* | --hours=* | --runtime=* | --images=* | --rate=* | --price=* | \
      --retries=* | --restarts=* | --poll=*) option=${1%%=*} && printf -v "${option#--}" %s "${1#*=}" ;;
    --valid-until=*) until=${1#*=} ;;
    --reuse) reuse=yes ;;
    --keep) keep=yes ;;
    --dry-run) dry=yes ;;
    -h | --help) usage && exit 0 ;;
    --) separated=yes && shift && break ;;
    *) fail "unknown argument '$1': the arguments of jigclu_jax come after --, the others are in --help" ;;
  esac
  shift
done
[[ $separated == yes ]] || fail "the arguments of jigclu_jax are missing: add -- --config=... --workdir=..."
for option in name type zone; do [[ -n ${!option} ]] || fail "--$option=... is missing"; done
[[ $name =~ ^[a-z][a-z0-9-]{0,61}$ ]] || fail "--name=$name: use small letters, digits and -"
[[ $type =~ ^(v[0-9]+[a-z]*)-([0-9]+)$ ]] || fail "--type=$type is no accelerator type: v5litepod-16, v5p-8, v6e-8, ..."
generation=${BASH_REMATCH[1]} chips=${BASH_REMATCH[2]}
[[ $generation == v5litepod || $generation == v6e ]] || chips=$((chips / 2)) # the other names count cores, two a chip
[[ $model == on-demand || $model == spot || $model == flex-start ]] || fail "--model=$model is not on-demand, spot or flex-start"
for option in hours retries restarts; do
  [[ ${!option} =~ ^[0-9]+$ ]] || fail "--$option=${!option} is no whole number"
done
for option in images rate price poll; do
  [[ ${!option} =~ ^([0-9]+(\.[0-9]+)?)?$ ]] || fail "--$option=${!option} is no number"
done
workdir=''
for argument in "$@"; do [[ $argument == --workdir=* ]] && workdir=${argument#*=}; done
[[ $workdir == gs://?* ]] || fail "--workdir=gs://BUCKET/FOLDER is missing after --: a TPU's own disk goes with it"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

where=("--zone=$zone")
[[ -z $project ]] || where+=("--project=$project")
case $generation in
  v5litepod) : "${runtime:=v2-alpha-tpuv5-lite}" ;;
  v5p) : "${runtime:=v2-alpha-tpuv5}" ;;
  v6e) : "${runtime:=v2-alpha-tpuv6e}" ;;
  *) : "${runtime:=tpu-ubuntu2204-base}" ;;
esac
export CLOUDSDK_CORE_DISABLE_PROMPTS=1 # gcloud asks nothing, neither here nor in tpu_vm.sh
create=(compute tpus queued-resources create "$name" "--node-id=$name" "--accelerator-type=$type" "--runtime-version=$runtime")
create+=("${where[@]}")
[[ -z $until ]] || create+=("--valid-until-duration=$until")
case $model in
  spot) create+=(--spot) ;;
  flex-start) create=(alpha "${create[@]}" --provisioning-model=flex-start "--max-run-duration=${hours}h") ;;
esac
delete=(compute tpus queued-resources delete "$name" "${where[@]}" --force)

# Cost and time, from list prices and images/s
column=$([[ $model == spot ]] && echo 4 || echo 3)
[[ -n $price || $model == flex-start ]] ||
  price=$(awk -F '\t' -v g="$generation" -v r="${zone%-*}" -v c="$column" '$1 == g && $2 == r { print $c }' "$here/prices.tsv")
note=''
if [[ -z $rate ]]; then
  case $generation in v5litepod) rate=$((1655 * chips)) ;; v5p) rate=$((3857 * chips)) ;; v6e) rate=$((7714 * chips)) ;; esac
  note=' (ResNet-50 at a fifth of the peak, an assumption: docs/scaling.md)'
fi
awk -v c="$chips" -v p="$price" -v n="$images" -v r="$rate" -v note="$note" -v what="$type, $model, $zone" 'BEGIN {
  if (p == "") print what ": no list price here for " c " chips, give --price=USD a chip and hour"
  else printf "%s: %d chips x $%s = $%.2f an hour\n", what, c, p, c * p
  if (n != "" && r == "") print "no rate known for this type, give --rate=IMAGES_A_SECOND"
  else if (n != "") {
    hours = n / r / 3600
    printf "%s images at %s images/s%s: %.1f hours", n, r, note, hours
    if (p != "") printf ", $%.2f", hours * c * p
    print "; each preemption adds a start of some minutes"
  }
}'

if [[ $dry == yes ]]; then
  printf 'gcloud' && printf ' %q' "${create[@]}" && echo
  "$here/tpu_vm.sh" "--tpu=$name" "${where[@]}" --dry-run -- "$@"
  printf '# once it is over\ngcloud' && printf ' %q' "${delete[@]}" && echo
  exit 0
fi

# A command whose errors are one line of ours, the rest of what it says is dropped; $1: what it means
quietly() {
  local meaning=$1 said && shift
  said=$("$@" 2>&1 >/dev/null) || { say "$meaning: $(grep -m 1 ERROR <<<"$said" || tail -n 1 <<<"$said")" && return 1; }
}
command -v gcloud >/dev/null || fail "gcloud is not installed: https://cloud.google.com/sdk/docs/install"
quietly "no credentials, call gcloud auth login" gcloud auth print-access-token || exit 2
bucket=${workdir#gs://}
quietly "the bucket of --workdir cannot be listed" gcloud storage ls "gs://${bucket%%/*}" || exit 2
quietly "--type=$type is not offered in --zone=$zone" gcloud compute tpus accelerator-types describe "$type" "${where[@]}" || exit 2

# MISSING where there is none; UNKNOWN where gcloud cannot say, as without a network
state() {
  local said
  if said=$(gcloud compute tpus queued-resources describe "$name" "${where[@]}" '--format=value(state.state)' 2>&1); then
    grep -oE '^[A-Z_]+$' <<<"$said" | tail -n 1
  elif grep -qiE 'NOT_FOUND|not found' <<<"$said"; then
    echo MISSING
  else
    echo UNKNOWN
  fi
}
# Whether the TPU was taken away; a node may say so before its request does
lost() {
  case $(state) in SUSPENDING | SUSPENDED | FAILED | DELETING | MISSING) return 0 ;; esac
  case $(gcloud compute tpus tpu-vm describe "$name" "${where[@]}" '--format=value(state)' 2>/dev/null) in
    PREEMPTED | TERMINATED) return 0 ;;
  esac
  return 1
}
on_first_worker() { gcloud compute tpus tpu-vm ssh "$name" --worker=0 "${where[@]}" "--command=$1"; }
newest_checkpoint() { gcloud storage ls "$workdir/checkpoints/" 2>/dev/null | grep -oE '/[0-9]+/?$' | tr -d / | sort -n | tail -n 1; }

# In the background and a process group of its own: a signal is met at once, and ends all of it
child=''
wait_for() {
  set -m
  "$@" </dev/null &
  set +m
  child=$!
  wait "$child"
}

ours=no
# shellcheck disable=SC2329  # called by the trap
remove() {
  local code=$?
  trap '' INT TERM HUP
  [[ -z $child ]] || kill -- "-$child" 2>/dev/null || true
  if [[ $ours == yes && $keep == yes ]]; then
    say "the TPU is kept and goes on costing; delete it with: gcloud ${delete[*]}"
  elif [[ $ours == yes ]]; then
    quietly "the TPU may still be there and cost, delete it with: gcloud ${delete[*]}" gcloud "${delete[@]}" || code=$((code ? code : 1))
  fi
  exit "$code"
}
trap remove EXIT
trap 'say interrupted; exit 130' INT TERM HUP

# Returns once the TPU is there; 1 where it was taken away before
await_tpu() {
  local before='' now
  while true; do
    now=$(state)
    [[ $now == "$before" ]] || say "$name is $now"
    before=$now
    case $now in
      ACTIVE) return 0 ;;
      SUSPENDING | SUSPENDED | DELETING | MISSING) return 1 ;;
      FAILED)
        say "the request failed: $(gcloud compute tpus queued-resources describe "$name" "${where[@]}" \
          '--format=value(state.failedData.error.message)' 2>/dev/null)"
        exit 1 ;;
    esac
    wait_for sleep "$poll"
  done
}

# Starts the run where none is running, follows its log, and leaves its exit code in `code`; "" where the connection ended before
run_once() {
  code=''
  if ! on_first_worker "$runs" >/dev/null 2>&1; then
    wait_for "$here/tpu_vm.sh" "--tpu=$name" "${where[@]}" "${installed[@]}" -- "$@" >/dev/null || return 0
    installed=(--no-install)
  fi
  wait_for on_first_worker "$follow" || true
  code=$(on_first_worker 'cat jigclu_jax/run.code' 2>/dev/null | tail -n 1) || true
}
# shellcheck disable=SC2016  # here and below: expanded by the worker
follow='cd jigclu_jax || exit 1
tail -n 50 -F run.log 2>/dev/null & log=$!
until [ -e run.code ] || ! kill -0 "$(cat run.pid)" 2>/dev/null; do sleep '"$poll"'; done
sleep 0.2; kill $log'
# shellcheck disable=SC2016
runs='kill -0 "$(cat jigclu_jax/run.pid)"'

existing=$(state)
[[ $existing != UNKNOWN ]] || fail "queued resources in $zone cannot be read: see gcloud compute tpus queued-resources list --zone=$zone"
[[ $existing == MISSING || $reuse == yes ]] || fail "a queued resource $name exists in $zone ($existing): take another --name, or --reuse it"
failures=0 checkpoint=none
for ((attempt = 0; attempt <= restarts; attempt++)); do
  if [[ $attempt == 0 && $existing != MISSING ]]; then
    ours=yes
  else
    if ((attempt > 0)) && [[ $(state) != MISSING ]]; then
      quietly "the lost TPU cannot be deleted" gcloud "${delete[@]}" || exit 1
    fi
    ours=yes # from here on there may be something to delete
    if ! quietly "the TPU is refused" gcloud "${create[@]}"; then
      [[ $(state) != MISSING ]] || ours=no
      exit 1
    fi
  fi
  await_tpu || { say "the TPU was taken away; asking for another one" && continue; }
  installed=()
  while ! lost; do
    run_once "$@"
    case $code in
      0) say "done" && exit 0 ;;
      2 | 130) say "exit code $code: a mistake that a person has to mend, see the line above" && exit "$code" ;;
      75) ;; # stopped by a signal, saved
      *)
        ! lost || break
        if [[ $(state) != UNKNOWN ]]; then
          newest=$(newest_checkpoint) || true
          [[ ${newest:-none} == "$checkpoint" ]] || failures=0
          checkpoint=${newest:-none} failures=$((failures + 1))
          [[ -n $code ]] && what="exit code $code" || what="not started, or the connection was lost"
          say "$what: failure $failures since checkpoint $checkpoint"
          ((failures < retries)) || { say "given up" && exit 1; }
        fi ;;
    esac
    wait_for sleep "$poll"
  done
  say "the TPU was taken away; asking for another one"
done
say "the TPU was taken away $((restarts + 1)) times: given up"
exit 1
