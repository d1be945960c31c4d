"""Accelerators that are not there: what their compilers want to know of them, and a batch of shapes to compile a step for."""

from typing import Any

# there is no machine whose metadata TPU's library could ask for
NO_TPU = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}
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


def environment_of(target: str) -> dict[str, str]:
    """Variables that must be set before JAX is imported, for `devices_of`."""
    return NO_GPU if target == "h100" else NO_TPU


def devices_of(target: str) -> list[Any]:
    """The devices of a TPU topology (`v5e:2x2`), or one GPU (`h100`); raises what JAX does where the compiler is not installed."""
    from jax.experimental import topologies

    if target == "h100":
        options: dict[str, Any] = {"topology_name": "1x1x1", "topology": "1x1x1", "platform": "cuda", "target_config": H100}
    else:
        options = {"topology_name": target, "platform": "tpu"}
    return list(topologies.get_topology_desc(**options).devices)


def batch_of(method: Any, facts: Any, sharding: Any = None) -> dict[str, Any]:
    """Shapes of the batch that a training step of the method takes."""
    import jax

    from jigclu_jax.methods import batch_shapes

    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), batch_shapes(method, facts))
