"""What a TPU would run, without one: the step and its input compiled for a topology, with the memory and the time they should take.

    pip install 'libtpu==0.0.42.*'       # TPU's compiler; it runs on any x86 Linux (the version that `jax[tpu]` names)
    python benchmarks/tpu_program.py --topology v5e:2x4 --arch resnet50 --size 224 --batch 256 --images 1281167 --side 160
    python benchmarks/tpu_program.py --topology v5e:2x2 --arch resnet18 --stem small --size 64 --batch 512 --images 50000 --side 32

Compiled and never run. Rows: `step` of `configs/pretrain_imagenet.py` on a batch that lies on the devices, and what comes before it: the
colours of `device`, and everything of `resident` for `--images` squares of `--side` pixels. The value is the sum of the cycles that the
compiler's own model gives each operation, a loop's as often as it runs, overlap and waiting for other devices not counted: an estimate, to
compare programs by. Beside it bytes a device, of arguments and of temporaries. A program that does not fit fails as it would there.
"""

import argparse
import os
import time
from typing import Any

from absent import batch_of, devices_of, environment_of
from rows import print_row


def arguments_of() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="v5e:2x4", help="as Cloud TPU names them: v4:2x2x1, v5e:4x4, v6e:2x2")
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--stem", default="imagenet")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--size", type=int, default=224, help="of a montage, in pixels")
    parser.add_argument("--batch", type=int, default=256, help="of all devices together")
    parser.add_argument("--images", type=int, default=1_281_167, help="in device memory")
    parser.add_argument("--side", type=int, default=160, help="of an image in device memory, in pixels")
    parser.add_argument("--rows", default="step,device,resident", help="which of them")
    return parser.parse_args()


def main() -> None:
    arguments = arguments_of()
    for name, value in environment_of(arguments.topology).items():
        os.environ.setdefault(name, value)

    import jax
    import jax.numpy as jnp
    from hlo import estimated_cycles

    from jigclu_jax.config import pretrain_config
    from jigclu_jax.data.augment.parameters import RECORD
    from jigclu_jax.device.feed import Batch, device_feed
    from jigclu_jax.device.mesh import batch_sharding, create_mesh, replicated
    from jigclu_jax.device.resident import resident_feed
    from jigclu_jax.device.rows import words_of
    from jigclu_jax.methods import DataFacts, create_method
    from jigclu_jax.train.optimizer import create_optimizer
    from jigclu_jax.train.schedule import create_schedule
    from jigclu_jax.train.state import abstract_state
    from jigclu_jax.train.step import Update, compile_step

    try:
        devices = devices_of(arguments.topology)
    except Exception as error:
        raise SystemExit(f"--topology {arguments.topology}: {str(error).splitlines()[0]} (is libtpu installed?)") from None
    mesh = create_mesh(devices)
    split, whole = batch_sharding(mesh), replicated(mesh)
    config = pretrain_config()
    config.batch_size, config.data.image_size = arguments.batch, arguments.size
    config.model.update({name: getattr(arguments, name) for name in ("arch", "stem", "dtype")})
    b, m = arguments.batch, config.method.grid
    facts = DataFacts(arguments.images, None, b, max(arguments.images // b, 1))
    method, optimizer = create_method(config, facts), create_optimizer(config.optimizer)
    view = method.views[0].name
    montages = batch_of(method, facts, split)
    count = -(-arguments.images // mesh.size) * mesh.size

    def resident(images: jax.Array, about: Any, batch: Batch) -> Batch:
        feed = resident_feed(images, about, method.views, side=arguments.side, seed=0, mesh=mesh, dispatch=1)
        return feed.prepare(feed.arrays, batch)

    def lowered(name: str) -> Any:
        if name == "device":
            feed = device_feed(method.views)
            records = jax.ShapeDtypeStruct((b, m * m, RECORD.itemsize), jnp.uint8, sharding=split)
            return jax.jit(lambda batch: feed.prepare((), batch)).lower({**montages, view: {**montages[view], "augment": records}})
        if name == "resident":
            images = jax.ShapeDtypeStruct((count, words_of(arguments.side)), jnp.uint32, sharding=split)
            about = jax.ShapeDtypeStruct((count, 3), jnp.int32, sharding=whole)
            numbers = {name: montages[view][name] for name in ("cluster", "position")}
            return jax.jit(resident).lower(images, about, {**montages, "draw": montages["epoch"], view: numbers})
        state = abstract_state(method, facts, optimizer, mesh)
        step: Any = compile_step(method, Update(optimizer, create_schedule(config.optimizer, 10, 1), 10), mesh, target=state)
        return step.lower(state, montages)

    alone: float | None = None
    for name in arguments.rows.split(","):
        begun = time.perf_counter()
        try:
            compiled = lowered(name).compile()
        except jax.errors.JaxRuntimeError as error:
            raise SystemExit(f"{name}: {str(error).splitlines()[0]}") from None
        cycles = round(estimated_cycles(compiled.as_text()) / 1e6, 2)
        alone = cycles if name == "step" else alone
        memory = compiled.memory_analysis()
        print_row(
            f"tpu_program {name}",
            cycles,
            "million cycles",
            peer="step",
            peer_value=alone,
            images_a_device=b // mesh.size,
            megabytes_of_arguments=round(memory.argument_size_in_bytes / 1e6, 1),
            megabytes_of_temporaries=round(memory.temp_size_in_bytes / 1e6, 1),
            seconds_to_compile=round(time.perf_counter() - begun, 1),
            **{name: getattr(arguments, name) for name in ("topology", "arch", "dtype", "size", "batch", "images", "side")},
        )


if __name__ == "__main__":
    main()
