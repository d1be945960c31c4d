#!/usr/bin/env bash
# A run on a Slurm cluster that comes back by itself: writes a batch script and submits it.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/slurm.sh --nodes=N --gpus-per-node=G [OPTION...] [SBATCH-OPTION...] -- ARGUMENT...

Submits one job that starts `python -m jigclu_jax ARGUMENT...` once for every GPU (--one-process: once for all of a machine). Slurm
signals the job before its time is over or when it is preempted; the run saves, leaves with exit code 75, and the job is put into the
queue again, to go on from there. It is put back as well after a failure (a lost node, say), at most --retries times in a row without a
new checkpoint.

  --nodes=N            nodes
  --gpus-per-node=G    GPUs, and so processes, on each
  --one-process        of --nodes=1: one process for all of its GPUs, which needs no network; --cpus-per-task counts for all of them
  --time=T             time limit, as sbatch takes it; default 1-00:00:00
  --lead=SECONDS       SIGTERM that long before the limit; a save must fit into it; default 300
  --retries=N          failures in a row after which the job stays away; default 3
  --python=PATH        Python with jigclu_jax, on every node; default: the one in PATH
  --dry-run            print the batch script and submit nothing
  other options        go to sbatch as they are: --partition=..., --account=..., --cpus-per-task=...

examples: launch/slurm.sh --nodes=1 --gpus-per-node=8 --one-process --partition=gpu --cpus-per-task=64 -- \
           --config=configs/pretrain_imagenet.py:bfloat16 --workdir=/shared/runs/imagenet
         launch/slurm.sh --nodes=2 --gpus-per-node=8 --partition=gpu --cpus-per-task=8 -- \
           --config=configs/pretrain_imagenet.py:bfloat16 --workdir=/shared/runs/imagenet
TEXT
}

fail() {
  echo "launch/slurm.sh: $1" >&2
  exit 2
}

nodes='' gpus='' limit='1-00:00:00' lead=300 retries=3 python=python dry=no separated=no one=no options=()
while (($#)); do
  case $1 in
    --nodes=*) nodes=${1#*=} ;;
    --gpus-per-node=*) gpus=${1#*=} ;;
    --time=*) limit=${1#*=} ;;
    --lead=*) lead=${1#*=} ;;
    --retries=*) retries=${1#*=} ;;
    --python=*) python=${1#*=} ;;
    --one-process) one=yes ;;
    --dry-run) dry=yes ;;
    -h | --help) usage && exit 0 ;;
    --) separated=yes && shift && break ;;
    --*=*) options+=("$1") ;;
    *) fail "unknown argument '$1': the arguments of jigclu_jax come after --, options of sbatch are --name=value" ;;
  esac
  shift
done
[[ $separated == yes ]] || fail "the arguments of jigclu_jax are missing: add -- --config=... --workdir=..."
for option in nodes gpus lead retries; do
  [[ ${!option} =~ ^[1-9][0-9]*$ ]] || fail "--${option/gpus/gpus-per-node}=${!option} is no whole number from 1 on"
done
tasks=$gpus
[[ $one == no ]] || tasks=1
[[ $one == no || $nodes == 1 ]] || fail "--one-process is for --nodes=1: several machines are several processes"
workdir=''
for argument in "$@"; do
  [[ $argument == --workdir=* ]] && workdir=${argument#*=}
done
[[ -n $workdir ]] || fail "--workdir=DIR is missing after --"
[[ $workdir == *://* || $workdir == /* ]] || fail "--workdir=$workdir is relative: give a folder that all nodes share"
[[ $dry == yes ]] || command -v sbatch >/dev/null || fail "sbatch is not installed here"

# Quoted once, for the shell of the batch script
command=$(printf ' %q' "$python" -m jigclu_jax "$@")
checkpoints=$(printf '%q' "$workdir/checkpoints")
extra=''
for option in "${options[@]}"; do
  extra+=$'\n'"#SBATCH $option"
done

script=$(
  cat <<TEXT
#!/usr/bin/env bash
#SBATCH --job-name=jigclu
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=$tasks
#SBATCH --gpus-per-node=$gpus
#SBATCH --time=$limit
#SBATCH --signal=TERM@$lead
#SBATCH --requeue
#SBATCH --open-mode=append$extra

# One step, in the background: the batch shell must be able to catch what Slurm sends to it on a preemption, and pass it on.
# The tasks get the SIGTERM of --signal from Slurm itself.
srun --kill-on-bad-exit=0$command &
step=\$!
trap 'kill -TERM \$step' TERM
wait \$step
code=\$?
while kill -0 \$step 2>/dev/null; do  # a signal ends a wait early
  wait \$step
  code=\$?
done
trap - TERM

# Failures in a row: the count begins anew with every new checkpoint
count=\$PWD/jigclu-\$SLURM_JOB_ID.failures
newest=\$(ls $checkpoints 2>/dev/null | grep -E '^[0-9]+\$' | sort -n | tail -n 1)
case \$code in
  0) rm -f "\$count"; exit 0 ;;
  2) echo 'a mistake that a person has to mend: see the line above'; exit 2 ;;
  75) rm -f "\$count" ;;
  *)
    read -r before failures 2>/dev/null <"\$count" || { before=none failures=0; }
    [[ \$before == "\${newest:-none}" ]] || failures=0
    echo "\${newest:-none} \$((failures + 1))" >"\$count"
    if ((failures + 1 >= $retries)); then
      echo "exit code \$code, failure \$((failures + 1)) since checkpoint \${newest:-none}: not started again"
      exit \$code
    fi
    ;;
esac
echo "exit code \$code: back into the queue"
scontrol requeue "\$SLURM_JOB_ID"
TEXT
)

if [[ $dry == yes ]]; then
  echo "$script"
else
  sbatch <<<"$script"
fi
