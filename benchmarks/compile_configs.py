"""Whether XLA can compile the training step of each pretraining config for an accelerator, without having one, and with what memory.

    pip install 'libtpu==0.0.42.*'                                            # for a TPU
    python benchmarks/compile_configs.py --target v5e:2x2
    pip install 'jax-cuda12-plugin[with-cuda]==0.10.2'                        # for a GPU, the version of jax
    python benchmarks/compile_configs.py --target h100 configs/pretrain_cifar10.py configs/pretrain_imagenet.py:bfloat16

Compiled for one device and never run; each in a process of its own, because a compiler may die. One row a config: seconds, and bytes of
arguments and temporaries. For a GPU nothing is tuned by trying it out, as there is none: a product that the first choice of tiles does not
fit fails here, where a machine would take the next (XLA_FLAGS=--xla_gpu_enable_triton_gemm=false goes without).
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rows import print_row

ROOT = Path(__file__).resolve().parent.parent
# there is no machine whose metadata TPU's library could ask for
NO_TPU = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-8", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}
NO_GPU = {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "JAX_PLATFORMS": ""}
# what XLA wants to know of a GPU: NVIDIA's published figures of an H100 SXM
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84978434048
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } device_description_str: "NVIDIA H100 80GB HBM3"
"""


def compile_one(target: str, name: str) -> None:
    """In the child: one config, one row."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import topologies

    from jigclu_jax.cli import load_config
    from jigclu_jax.device.mesh import create_mesh
    from jigclu_jax.methods import create_method
    from jigclu_jax.train.optimizer import create_optimizer
    from jigclu_jax.train.schedule import create_schedule
    from jigclu_jax.train.state import abstract_state
    from jigclu_jax.train.step import Update, compile_step

    options: dict[str, Any] = {"topology_name": target, "platform": "tpu"}
    if target == "h100":
        options = {"topology_name": "1x1x1", "topology": "1x1x1", "platform": "cuda", "target_config": H100}
    mesh = create_mesh(topologies.get_topology_desc(**options).devices[:1])
    file, _, argument = name.partition(":")
    config = load_config(file, argument or None)
    method, optimizer = create_method(config, 10), create_optimizer(config.optimizer)
    b, size, m = config.batch_size, config.data.image_size, config.data.grid
    batch = {"image": jax.ShapeDtypeStruct((b, size, size, 3), jnp.uint8)}
    if method.view == "montage":
        batch |= {label: jax.ShapeDtypeStruct((b, m, m), jnp.int32) for label in ("cluster", "location")}
    else:
        batch |= {"label": jax.ShapeDtypeStruct((b,), jnp.int32), "mask": jax.ShapeDtypeStruct((b,), jnp.bool_)}
    step: Any = compile_step(method, Update(optimizer, create_schedule(config.optimizer, 100, config.epochs), 100), mesh)
    begun = time.perf_counter()
    memory = step.lower(abstract_state(method, optimizer, mesh), batch).compile().memory_analysis()
    print_row(
        f"compile {name}",
        round(time.perf_counter() - begun, 1),
        "s",
        target=target,
        batch_size=b,
        image_size=size,
        dtype=config.model.dtype,
        megabytes_of_arguments=round(memory.argument_size_in_bytes / 1e6, 1),
        megabytes_of_temporaries=round(memory.temp_size_in_bytes / 1e6, 1),
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
    environment = os.environ | (NO_GPU if arguments.target == "h100" else NO_TPU | {"JAX_PLATFORMS": "cpu"})
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
