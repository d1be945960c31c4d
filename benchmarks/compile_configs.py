"""Whether XLA can compile the training step of each pretraining config for an accelerator, without having one, and with what memory.

    pip install 'libtpu==0.0.42.*'                                            # for a TPU
    python benchmarks/compile_configs.py --target v5e:2x2
    pip install 'jax-cuda12-plugin[with-cuda]==0.10.2'                        # for a GPU, the version of jax
    python benchmarks/compile_configs.py --target h100 configs/pretrain_cifar10.py configs/pretrain_imagenet.py:bfloat16

Compiled for one device and never run; each in a process of its own, because a compiler may die. One row a config: seconds, bytes of
arguments and temporaries, and for a GPU the megabytes an image that kernels of each sort read and write. For a GPU nothing is tuned by
trying it out, as there is none: a product that the first choice of tiles does not fit fails here, where a machine would take the next
(XLA_FLAGS=--xla_gpu_enable_triton_gemm=false goes without).
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from absent import batch_of, devices_of, environment_of
from hlo import traffic
from rows import print_row

ROOT = Path(__file__).resolve().parent.parent


def compile_one(target: str, name: str) -> None:
    """In the child: one config, one row."""
    from jigclu_jax.config import load_config
    from jigclu_jax.device.mesh import create_mesh
    from jigclu_jax.methods import DataFacts, create_method
    from jigclu_jax.train.optimizer import create_optimizer
    from jigclu_jax.train.schedule import create_schedule
    from jigclu_jax.train.state import abstract_state
    from jigclu_jax.train.step import Update, compile_step

    mesh = create_mesh(devices_of(target)[:1])
    file, _, argument = name.partition(":")
    config = load_config(file, argument or None)
    facts = DataFacts(100 * config.batch_size, tuple("0123456789"), config.batch_size, 100)
    method, optimizer = create_method(config, facts), create_optimizer(config.optimizer)
    batch = batch_of(method, facts)
    step: Any = compile_step(method, Update(optimizer, create_schedule(config.optimizer, 100, config.epochs), 100), mesh)
    begun = time.perf_counter()
    compiled = step.lower(abstract_state(method, facts, optimizer, mesh), batch).compile()
    memory = compiled.memory_analysis()
    moved = traffic(compiled.as_text()) if target == "h100" else {}
    print_row(
        f"compile {name}",
        round(time.perf_counter() - begun, 1),
        "s",
        target=target,
        batch_size=config.batch_size,
        image_size=config.data.image_size,
        dtype=config.model.dtype,
        megabytes_of_arguments=round(memory.argument_size_in_bytes / 1e6, 1),
        megabytes_of_temporaries=round(memory.temp_size_in_bytes / 1e6, 1),
        megabytes_moved_an_image={sort: round(count / config.batch_size / 1e6, 2) for sort, count in sorted(moved.items())},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="v5e:2x2", help="a TPU topology, or h100")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("configs", nargs="*", help="FILE or FILE:ARGUMENT; without any, configs/pretrain_*.py")
    arguments = parser.parse_args()
    if arguments.child:
        compile_one(arguments.target, arguments.configs[0])
        return
    names = arguments.configs or [str(path.relative_to(ROOT)) for path in sorted((ROOT / "configs").glob("pretrain_*.py"))]
    environment = os.environ | environment_of(arguments.target)
    failed = 0
    for name in names:
        command = [sys.executable, __file__, "--child", "--target", arguments.target, name]
        run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
        sys.stdout.write(run.stdout)
        if run.returncode:
            died = re.search(r"Check failed.*", run.stderr)
            said = died[0] if died else (run.stderr.strip().splitlines() or [f"code {run.returncode}"])[-1]
            print(f"{name}: {said[:300]}", file=sys.stderr)
            failed += 1
    if failed:
        raise SystemExit(f"{failed} of {len(names)} do not compile")


if __name__ == "__main__":
    main()
