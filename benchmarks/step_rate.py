"""Rate of the pretraining step on one accelerator, beside a PyTorch script's, and where its time goes.

    python benchmarks/step_rate.py --peer PEER.py --batch 256,512,1024
    python benchmarks/step_rate.py --small                    # a try on a CPU

The peer is a script that takes --arch, --batch, --size, --steps and --blocks, times a training step on montages that lie on the
device, and prints a JSON line with `value` in images/s (and `peak_gib`). Ours and the peer run alternately, each in a process of
its own, so that neither holds the other's memory; the medians over the rounds are compared. A batch that does not fit is said so.
The rows:

- `step`: images/s of forward, both losses, backward and update on montages that lie on the device;
- `outside the backbone`: share of the step that the decoupling, the heads and the losses take (the step against one whose loss is a
  mean of the backbone's features), and that cutting and augmenting montages from resident images takes (the step with and without);
- `of matrix rate`: FLOP/s of the step over those of a large bfloat16 matrix product, measured in the same process;
- `memory`: the most that the device held; on a CPU, what the compiled step asks for.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rows import print_row

SMALL = ["--arch=resnet18", "--size=32", "--batch=8", "--steps=1", "--blocks=2", "--rounds=1", "--matrix=256", "--dtype=float32"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--size", type=int, default=224, help="side of a montage")
    parser.add_argument("--batch", default="256", help="one or several: 256,512")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--stem", default="imagenet")
    parser.add_argument("--remat", action="store_true")
    parser.add_argument("--space-to-depth", action="store_true", dest="space_to_depth", help="the stem's 7x7 on squares of 2 x 2 pixels")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10, help="in a block, which is timed as one")
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--matrix", type=int, default=8192, help="side of the matrices that the chip's rate is measured with")
    parser.add_argument("--peer", default="", help="path of the PyTorch script")
    parser.add_argument("--quick", action="store_true", help="the row `step` alone: one program to compile instead of three")
    parser.add_argument("--small", action="store_true", help="a few seconds on a CPU, to try the script")
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args([*SMALL, *sys.argv[1:]] if "--small" in sys.argv[1:] else None)
    if arguments.ours:
        print(json.dumps(measure(arguments)))
        return
    for batch in map(int, arguments.batch.split(",")):
        report(arguments, batch)


def report(arguments: argparse.Namespace, batch: int) -> None:
    """Rounds of ours and the peer, and their rows."""
    what = f"{arguments.arch} {arguments.size} px batch {batch}" + (" space-to-depth" if arguments.space_to_depth else "")
    own, peers = [], []
    for _ in range(arguments.rounds):
        own.append(_child([sys.executable, __file__, *sys.argv[1:], f"--batch={batch}", "--ours"]))
        if arguments.peer:
            sizes = [f"--{name}={getattr(arguments, name)}" for name in ("arch", "size", "steps", "blocks")]
            narrow = [] if arguments.dtype == "bfloat16" else ["--fp32"]
            peers.append(_child([sys.executable, arguments.peer, *sizes, f"--batch={batch}", *narrow]))
        if own[-1] is None:
            break
    ours, theirs = [found for found in own if found], [found for found in peers if found]
    if len(ours) < len(own):
        print_row(f"step {what}", 0.0, "images/s", note="ours does not fit")
        return
    last = ours[-1]
    peer_value = statistics.median(found["value"] for found in theirs) if theirs else None
    rate = statistics.median(found["rate"] for found in ours)
    facts = {"dtype": arguments.dtype, "device": last["device"], "rounds": [round(found["rate"], 1) for found in ours]}
    if theirs:
        facts |= {"peer_rounds": [found["value"] for found in theirs], "peer_torch": theirs[-1].get("torch")}
    elif peers:
        facts["note"] = "the peer does not fit"
    print_row(f"step {what}", round(rate, 1), "images/s", peer=arguments.peer or None, peer_value=peer_value, **facts)
    if arguments.quick:
        return
    heads, montages = (statistics.median(found[name] for found in ours) for name in ("heads", "montages"))
    print_row(f"outside the backbone {what}", round(heads, 4), "share of the step", part="decouple, heads, losses")
    print_row(f"outside the backbone {what}", round(montages, 4), "share of the step", part="montages from resident images")
    flops = {"flops_per_image": last["flops"] / batch, "matrix_flops_per_second": last["matrix"]}
    print_row(f"of matrix rate {what}", round(last["flops"] * rate / batch / last["matrix"], 4), "share", **flops)
    peak = {"peer": arguments.peer, "peer_value": theirs[-1]["peak_gib"]} if theirs and "peak_gib" in theirs[-1] else {}
    print_row(f"memory {what}", round(last["memory"] / 2**30, 3), "GiB", **peak)


def _child(command: Sequence[str]) -> dict[str, Any] | None:
    """The JSON of its last line; None where it ended with an error, whose last line is shown."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print("\n".join(done.stderr.strip().splitlines()[-1:]), file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything about our step, in this process."""
    import dataclasses

    import jax
    import jax.numpy as jnp
    import numpy as np
    from noise import noise_batch, numbers

    from jigclu_jax.config import pretrain_config
    from jigclu_jax.device.feed import Feed
    from jigclu_jax.device.mesh import create_mesh, to_device
    from jigclu_jax.device.resident import resident_feed
    from jigclu_jax.device.rows import pack
    from jigclu_jax.methods import Batch, DataFacts, Metrics, Tree, create_method
    from jigclu_jax.methods.jigclu import JigClu
    from jigclu_jax.ops.normalize import normalize
    from jigclu_jax.train.optimizer import create_optimizer
    from jigclu_jax.train.schedule import create_schedule
    from jigclu_jax.train.state import abstract_state, create_state
    from jigclu_jax.train.step import Update, compile_step

    class BackboneAlone(JigClu):
        """The same parameters; the loss is a mean of the last feature map."""

        def forward(self, params: Tree, stats: Tree, extra: Tree, batch: Batch, train: bool = True) -> tuple[Tree, Tree, Tree]:
            image = normalize(batch[self.views[0].name]["image"], self.dtype)
            stages, after = self.backbone.apply(params["backbone"], stats["backbone"], image, train)
            return {"means": stages.maps[-1].astype(jnp.float32).mean((1, 2, 3))}, {"backbone": after}, extra

        def objective(self, params: Tree, outputs: Tree, extra: Tree, batch: Batch) -> tuple[jax.Array, tuple[Tree, Metrics]]:
            mean = outputs["means"].mean()
            return mean, (extra, {spec.name: mean for spec in self.metrics})

    batch, size = int(arguments.batch), arguments.size
    config = pretrain_config()
    config.batch_size, config.data.image_size = batch, size
    config.model.update({name: getattr(arguments, name) for name in ("arch", "stem", "dtype", "remat", "space_to_depth")})
    mesh = create_mesh(jax.devices()[:1])
    facts = DataFacts(batch, None, batch, 1)
    method, optimizer = create_method(config, facts), create_optimizer(config.optimizer)
    alone = BackboneAlone(**{field.name: getattr(method, field.name) for field in dataclasses.fields(method)})
    target = abstract_state(method, facts, optimizer, mesh)
    update = Update(optimizer, create_schedule(config.optimizer, 1000, 1), 1000, accumulate=arguments.accumulate)
    montages, crops = noise_batch(method, facts), numbers(method, facts)
    pool = np.random.default_rng(0).integers(0, 255, (64, size, size, 3), np.uint8)
    rows = jax.device_put(np.stack([pack(image) for image in pool]))
    about = np.stack([np.array([size, size, index], np.int32) for index in range(len(pool))])
    resident = resident_feed(rows, about, method.views, side=size, seed=0, mesh=mesh, dispatch=1)
    crops["example"] %= len(pool)

    def rate(method: Any, host_batch: dict[str, Any], feed: Feed | None = None) -> float:
        """Seconds of a step: the median over blocks."""
        state = create_state(method, facts, optimizer, 0, target)
        step = compile_step(method, update, mesh, feed)
        on_device = to_device(host_batch, mesh)

        def block(count: int) -> None:
            nonlocal state
            for _ in range(count):
                state, metrics = step(state, on_device)
            jax.block_until_ready(metrics)

        block(3)
        return statistics.median(_seconds(lambda: block(arguments.steps)) / arguments.steps for _ in range(arguments.blocks))

    whole = rate(method, montages)
    device = jax.devices()[0]
    if arguments.quick:
        return {"rate": batch / whole, "device": f"{device.platform} {device.device_kind}"}
    held = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
    lowered = compile_step(method, update, mesh).lower(target, to_device(montages, mesh))  # type: ignore[attr-defined]
    if not held:
        asked = lowered.compile().memory_analysis()
        held = asked.temp_size_in_bytes + asked.argument_size_in_bytes + asked.output_size_in_bytes - asked.alias_size_in_bytes
    backbone, with_montages = rate(alone, montages), rate(method, crops, resident)

    side = arguments.matrix
    matrix = jnp.full((side, side), 1 / side, jnp.bfloat16)
    product = jax.jit(lambda a, b: a @ b)

    def products() -> None:
        found = matrix
        for _ in range(10):
            found = product(found, matrix)
        found.block_until_ready()

    products()
    fastest = min(_seconds(products) for _ in range(5)) / 10
    return {
        "rate": batch / whole,
        "heads": (whole - backbone) / whole,
        "montages": (with_montages - whole) / with_montages,
        "flops": (lowered.cost_analysis() or {}).get("flops", 0.0),
        "matrix": 2 * side**3 / fastest,
        "memory": held,
        "device": f"{device.platform} {device.device_kind}",
    }


def _seconds(what: Callable[[], None]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
