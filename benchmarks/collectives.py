"""What the devices of one pretraining step send each other, read from the compiled program.

    python benchmarks/collectives.py                             # ResNet-18 and ResNet-50, batch 256, 224 pixels, 8 devices
    python benchmarks/collectives.py --archs resnet50 --image-size 64 --batch-size 64
    python benchmarks/collectives.py --small                     # a thin ResNet-18 on 32 pixels, for a try
    python benchmarks/collectives.py --small --accumulate 2      # micro-batches; --shard-state: optimizer's state shared by devices

The step is that of `configs/pretrain_imagenet.py` as a job compiles it, on fake CPU devices, compiled and never run (a compiler for
another accelerator may group the same arrays otherwise). One JSON row a group: bytes of the arrays that are summed over or
gathered by all devices, beside the least possible; `calls` collectives of `arrays` arrays; `sent` bytes leave each device if
they form a ring. The groups:

- gradients: sums of arrays with the shapes of parameters; least: each parameter once.
- embeddings: what the losses gather, embeddings, cluster ids and denominators; least: the embeddings once.
- batchnorm forward: moments; least: a mean and a variance for each channel.
- batchnorm backward: sums beyond the gradients of scale and bias; least: none, for those two are the sums that are needed.
- parameters: gathered after an update where devices share the optimizer's state.
- scalars: losses and metrics. other: anything else; least: none.
"""

import argparse
import collections
import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

from absent import batch_of
from rows import print_row

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "pretrain_imagenet.py"
GROUPS = ("gradients", "embeddings", "batchnorm forward", "batchnorm backward", "parameters", "scalars", "other")
FLOAT32 = 4


@dataclasses.dataclass(frozen=True)
class Step:
    """A compiled step: its HLO, and what must be sent at least.

    Attributes:
      text: the program.
      parameters: the shape of each parameter.
      channels: of every BatchNorm.
      patches: rows of the losses.
      embeddings: bytes of all embeddings.
      work: FLOP of the step for an image, as XLA counts them.
    """

    text: str
    parameters: list[tuple[int, ...]]
    channels: list[int]
    patches: int
    embeddings: int
    work: float


def compile_one(arguments: argparse.Namespace, arch: str) -> Step:
    """In the child: the step of a pretraining job on `devices` fake devices, from shapes alone."""
    import jax

    from jigclu_jax.config import load_config
    from jigclu_jax.device.mesh import create_mesh
    from jigclu_jax.methods import DataFacts, create_method
    from jigclu_jax.train.optimizer import create_optimizer
    from jigclu_jax.train.schedule import create_schedule
    from jigclu_jax.train.state import abstract_state
    from jigclu_jax.train.step import Update, compile_step

    assert jax.device_count() == arguments.devices
    config = load_config(str(CONFIG), "")
    config.model.update({"arch": arch, "dtype": arguments.dtype})
    if arguments.small:
        config.model.update({"stem": "small", "width": 0.125})
    batch, side, grid = arguments.batch_size, arguments.image_size, config.method.grid
    config.data.image_size = side
    facts = DataFacts(10 * batch, None, batch, 10)
    mesh, method, optimizer = create_mesh(), create_method(config, facts), create_optimizer(config.optimizer)
    state = abstract_state(method, facts, optimizer, mesh, shard=arguments.shard_state)
    update = Update(optimizer, create_schedule(config.optimizer, 10, 1), 10, accumulate=arguments.accumulate)
    step = compile_step(method, update, mesh, target=state)
    lowered = step.lower(state, batch_of(method, facts))  # type: ignore[attr-defined]
    return Step(
        lowered.compile().as_text(),
        [leaf.shape for leaf in jax.tree.leaves(state.params)],
        [leaf.size for path, leaf in jax.tree.leaves_with_path(state.stats) if "mean" in jax.tree_util.keystr(path)],
        batch * grid**2,
        batch * grid**2 * config.method.embedding_dim * FLOAT32,
        lowered.cost_analysis()["flops"] / batch,
    )


def alike(shape: tuple[int, ...]) -> tuple[int, ...]:
    """What two shapes share when one is the other transposed, or without its axes of length 1."""
    return tuple(sorted(side for side in shape if side != 1))


def print_groups(step: Step, arch: str, arguments: argparse.Namespace) -> None:
    """In the child: the work for an image, one row for each group, and one for all."""
    from hlo import Sent, collectives

    shapes, channels = [alike(shape) for shape in step.parameters], set(step.channels)
    left = collections.Counter(shapes * arguments.accumulate)
    groups: dict[str, list[Sent]] = {name: [] for name in GROUPS}
    for sent in collectives(step.text):
        backward, shape = "transpose(" in sent.made_by, alike(sent.shape)
        if sent.kind == "all-gather" and sent.shape[:1] == (step.patches,):
            name = "embeddings"
        elif sent.kind == "all-gather" and shape in shapes:
            name = "parameters"
        elif not shape:
            name = "scalars"
        elif backward and shape in shapes and (len(shape) > 1 or left[shape] > 0):
            name, left[shape] = "gradients", left[shape] - 1
        elif len(shape) == 1 and shape[0] in channels:
            name = "batchnorm backward" if backward else "batchnorm forward"
        else:
            name = "other"
        groups[name].append(sent)
    missing = sum(count for shape, count in left.items() if count > 0)
    if missing:
        raise SystemExit(f"{missing} arrays of parameters have no gradient among what is sent: the reading of the HLO is wrong")
    least = {
        "gradients": FLOAT32 * sum(map(math.prod, step.parameters)),
        "embeddings": step.embeddings,
        "batchnorm forward": 2 * FLOAT32 * sum(step.channels),
    }
    print_row(f"collectives {arch} work", round(step.work / 1e9, 2), "GFLOP/image", image_size=arguments.image_size)
    groups["all"] = [sent for group in groups.values() for sent in group]
    for name, group in groups.items():
        print_row(
            f"collectives {arch} {name}",
            sum(sent.size for sent in group),
            "bytes",
            peer="least possible",
            peer_value=least.get(name, 0) if name != "all" else sum(least.values()),
            calls=len({sent.call for sent in group}),
            arrays=len(group),
            sent=round(sum(sent.per_device(arguments.devices) for sent in group)),
            kinds=dict(collections.Counter(sent.kind for sent in group)),
            in_loops=sum(sent.times != 1 for sent in group),
            devices=arguments.devices,
            batch_size=arguments.batch_size,
            image_size=arguments.image_size,
            dtype=arguments.dtype,
            accumulate=arguments.accumulate,
            shard_state=arguments.shard_state,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", default="resnet18,resnet50")
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches of the batch")
    parser.add_argument("--shard-state", action="store_true")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--small", action="store_true", help="a thin ResNet-18, batch 24, 32 pixels")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.small:
        arguments.archs, arguments.batch_size, arguments.image_size = "resnet18", 24, 32
    if not arguments.child:  # the number of devices is fixed when JAX starts
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(arguments.devices)}
        sys.exit(subprocess.run([sys.executable, __file__, *sys.argv[1:], "--child"], env=environment, check=False).returncode)
    for arch in arguments.archs.split(","):
        start = time.perf_counter()
        print(f"compiling {arch} for {arguments.devices} devices ...", file=sys.stderr, flush=True)
        step = compile_one(arguments, arch)
        print(json.dumps({"compiled": arch, "seconds": round(time.perf_counter() - start)}), file=sys.stderr, flush=True)
        print_groups(step, arch, arguments)


if __name__ == "__main__":
    main()
