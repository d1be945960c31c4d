"""What every test runs under: CPU, quiet TensorFlow, a compilation cache that outlives the run, checked shape annotations."""

import os
from pathlib import Path

_CACHE = Path(__file__).resolve().parent.parent / ".cache" / "jax"

# before anything imports JAX or TensorFlow; subprocesses of the tests inherit it
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")
# XLA ends a process whose collective waits for longer than 40 seconds, which several devices on one busy core may do
_PATIENCE = ("xla_cpu_collective_call_terminate_timeout_seconds", "xla_cpu_collective_timeout_seconds")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *(f"--{name}=600" for name in _PATIENCE)]).strip()

from jaxtyping import install_import_hook  # noqa: E402

# the shape and dtype annotations of the package become assertions
install_import_hook("jigclu_jax", "annotation_checker.check")
