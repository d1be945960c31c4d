#!/usr/bin/env python3
"""A run on Google Kubernetes Engine as a JobSet: prints the manifest, applies it with --apply, or prints the line for xpk with --xpk.

  python launch/gke.py --name=mine --image=IMAGE --tpu=v5e --topology=4x4 --spot -- --config=FILE --workdir=gs://BUCKET/mine
  python launch/gke.py --name=mine --image=IMAGE --gpu=nvidia-h100-80gb --gpus=8 --nodes=2 -- --config=FILE --workdir=gs://BUCKET/mine

The image holds jigclu_jax, for a TPU with its extra `tpu`, for GPUs with `cuda`. A pod that is preempted saves, leaves with 75, and is
made anew; a mistake (2) fails the JobSet at once; any other failure starts all pods anew, --max-restarts times.
Fields as documented in November 2026: cloud.google.com/tpu/docs/tpu-gke-multislice, jobset.sigs.k8s.io (JobSet 0.6 or later),
kubernetes.io/docs/concepts/workloads/controllers/job (podFailurePolicy).
"""

import argparse
import json
import math
import shlex
import shutil
import subprocess
import sys

# Label of the node pool, dimensions of a topology, chips of a host in a slice of several hosts and in one of a single host, xpk's name
TPUS = {
    "v4": ("tpu-v4-podslice", 3, 4, 4, "v4"),
    "v5e": ("tpu-v5-lite-podslice", 2, 4, 8, "v5litepod"),
    "v5p": ("tpu-v5p-slice", 3, 4, 4, "v5p"),
    "v6e": ("tpu-v6e-slice", 2, 4, 8, "v6e"),
}
PORT = 8476  # where process 0 waits for the others
MANIFEST = """\
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {name}
  annotations: {annotations}
spec:
  failurePolicy:
    maxRestarts: {restarts}
    rules:
      - action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: workers
      replicas: {slices}
      template:
        spec:
          parallelism: {hosts}
          completions: {hosts}
          completionMode: Indexed
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob # a mistake that a person has to mend
                onExitCodes: {{containerName: jigclu, operator: In, values: [2]}}
              - action: Ignore # stopped by a signal, saved: the pod is made anew and goes on
                onExitCodes: {{containerName: jigclu, operator: In, values: [75]}}
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: 120
              nodeSelector: {selector}
              containers:
                - name: jigclu
                  image: {image}
                  command: {command}
                  env: {environment}
                  ports: [{{containerPort: {port}}}]
                  resources:
                    requests: {resources}
                    limits: {resources}
                  volumeMounts:
                    - {{name: shared-memory, mountPath: /dev/shm}}
              volumes:
                - {{name: shared-memory, emptyDir: {{medium: Memory}}}}
"""


class Mistake(Exception):
    """Something in the arguments, in one line."""


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Options, and what comes after -- for jigclu_jax."""
    parser = argparse.ArgumentParser(prog="launch/gke.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument("--name", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--tpu", choices=sorted(TPUS))
    parser.add_argument("--topology", default="", help="of a slice: 2x4, 4x4x4")
    parser.add_argument("--slices", type=int, default=1)
    parser.add_argument("--gpu", default="", help="label of the node pool: nvidia-h100-80gb, nvidia-l4")
    parser.add_argument("--gpus", type=int, default=8, help="of a node")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--spot", action="store_true")
    parser.add_argument("--max-restarts", type=int, default=10)
    parser.add_argument("--cluster", default="CLUSTER", help="of --xpk")
    parser.add_argument("--zone", default="ZONE", help="of --xpk")
    parser.add_argument("--xpk", action="store_true", help="print the line for xpk instead")
    parser.add_argument("--apply", action="store_true", help="kubectl apply it, too")
    parser.add_argument("--dry-run", action="store_true", help="only print, whatever else is asked for")
    if "--" not in arguments and not {"-h", "--help"} & set(arguments):
        raise Mistake("the arguments of jigclu_jax are missing: add -- --config=... --workdir=...")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    given, rest = parser.parse_args(arguments[:cut]), arguments[cut + 1 :]
    if bool(given.tpu) == bool(given.gpu):
        raise Mistake("give --tpu=TYPE with --topology=..., or --gpu=LABEL with --gpus=N")
    if not any(word.startswith("--workdir=") and "://" in word for word in rest):
        raise Mistake("--workdir=gs://BUCKET/FOLDER is missing after --: a pod's own disk goes with it")
    for name in ("slices", "gpus", "nodes", "max_restarts"):
        if getattr(given, name) < (name != "max_restarts"):
            raise Mistake(f"--{name.replace('_', '-')}={getattr(given, name)} is too small")
    return given, rest


def manifest(given: argparse.Namespace, arguments: list[str]) -> str:
    """The JobSet: one pod a host."""
    spot = {"cloud.google.com/gke-spot": "true"} if given.spot else {}
    if given.tpu:
        label, _, shared, alone, _ = TPUS[given.tpu]
        chips = chips_of(given)
        each = chips if chips <= alone else shared
        hosts, resources = chips // each, {"google.com/tpu": each}
        selector = {"cloud.google.com/gke-tpu-accelerator": label, "cloud.google.com/gke-tpu-topology": given.topology}
        environment: list[dict[str, object]] = []  # GKE tells the pods of a slice about each other
    else:
        hosts, resources = given.nodes, {"nvidia.com/gpu": given.gpus}
        selector = {"cloud.google.com/gke-accelerator": given.gpu}
        environment = _addresses(given.name, hosts) if hosts > 1 else []
    return MANIFEST.format(
        name=json.dumps(given.name),
        # a slice has a node pool of its own
        annotations=json.dumps(
            {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"} if given.slices > 1 else {}
        ),
        restarts=given.max_restarts,
        slices=given.slices,
        hosts=hosts,
        selector=json.dumps(selector | spot),
        image=json.dumps(given.image),
        command=json.dumps(["python", "-m", "jigclu_jax", *arguments]),
        environment=json.dumps(environment),
        resources=json.dumps(resources),
        port=PORT,
    )


def xpk_line(given: argparse.Namespace, arguments: list[str]) -> str:
    """The same run by xpk (github.com/AI-Hypercomputer/xpk, 0.14), which writes a JobSet of its own."""
    if not given.tpu:
        raise Mistake("--xpk is for --tpu=TYPE here: for GPUs apply the manifest")
    name = TPUS[given.tpu][4]
    size = chips_of(given) * (1 if given.tpu in ("v5e", "v6e") else 2)  # the other names count cores
    command = shlex.join(["python", "-m", "jigclu_jax", *arguments])
    words = ["xpk", "workload", "create", f"--cluster={given.cluster}", f"--zone={given.zone}", f"--workload={given.name}"]
    words += [f"--tpu-type={name}-{size}", f"--num-slices={given.slices}", f"--docker-image={given.image}"]
    return shlex.join([*words, f"--max-restarts={given.max_restarts}", "--restart-on-exit-codes=75,1,134", f"--command={command}"])


def chips_of(given: argparse.Namespace) -> int:
    """Chips of a slice, from its topology."""
    _, dimensions, shared, alone, _ = TPUS[given.tpu]
    sides = given.topology.split("x")
    if len(sides) != dimensions or not all(side.isdigit() and int(side) for side in sides):
        raise Mistake(f"--topology={given.topology} is none of a {given.tpu}: give {'x'.join(['4'] * dimensions)}, for example")
    chips = math.prod(int(side) for side in sides)
    if chips > alone and chips % shared:
        raise Mistake(f"--topology={given.topology} has {chips} chips, which is no multiple of a host's {shared}")
    return chips


def _addresses(name: str, hosts: int) -> list[dict[str, object]]:
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    return [
        {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{name}-workers-0-0.{name}:{PORT}"},
        {"name": "JAX_NUM_PROCESSES", "value": str(hosts)},
        {"name": "JAX_PROCESS_ID", "valueFrom": index},
    ]


def _refuse(message: str) -> None:
    raise Mistake(message)


def main(arguments: list[str]) -> int:
    """Exit code."""
    try:
        given, rest = parse(arguments)
        text = xpk_line(given, rest) + "\n" if given.xpk else manifest(given, rest)
        print(text, end="")
        if not given.apply or given.xpk or given.dry_run:
            return 0
        if shutil.which("kubectl") is None:
            raise Mistake("kubectl is not installed")
        if subprocess.run(["kubectl", "get", "jobset", given.name], capture_output=True).returncode == 0:
            raise Mistake(f"a JobSet {given.name} exists: take another --name, or kubectl delete jobset {given.name}")
        done = subprocess.run(["kubectl", "apply", "-f", "-"], input=text, capture_output=True, text=True)
        if done.returncode:
            raise Mistake(f"kubectl refuses it: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        watch = f"kubectl logs -f -l jobset.sigs.k8s.io/jobset-name={given.name}"
        print(f"watch: {watch}; remove: kubectl delete jobset {given.name}", file=sys.stderr)
    except Mistake as mistake:
        print(f"launch/gke.py: {mistake}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
