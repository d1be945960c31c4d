"""Cache of compiled programs on disk: a restarted run begins to train without compiling again."""

import functools
import hashlib
import os
import platform
import warnings

import filelock
import jax
import jaxlib
from etils import epath
from jax.experimental.compilation_cache import compilation_cache

from jigclu_jax.run_scope import at_end_of_run

_MOST_BYTES = 4 * 2**30


def start_cache() -> str | None:
    """Keep compiled programs in the user's cache folder, unless JAX has another one; returns the folder, None for no cache.

    JAX_COMPILATION_CACHE_DIR names another folder, or none where it is empty; else it is `jigclu_jax/xla` in XDG_CACHE_HOME or
    ~/.cache. JAX keeps it below 4 GiB, or JAX_COMPILATION_CACHE_MAX_SIZE bytes: what was used longest ago goes. Where nothing can be
    written, there is no cache, silently. Several processes may share it: process 0 of a run writes, and all read. To be called once
    the distributed runtime has started.
    """
    configured = jax.config.values["jax_compilation_cache_dir"]
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or configured:
        return configured or None
    folder = epath.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jigclu_jax" / "xla"
    if jax.default_backend() == "cpu":
        folder /= _this_cpu()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_torn(folder)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    # a disk that fills up later is no reason to speak either: what is not read is compiled
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
    _set_flag("jax_compilation_cache_dir", str(folder))
    if jax.config.values["jax_compilation_cache_max_size"] == -1:
        _set_flag("jax_compilation_cache_max_size", _MOST_BYTES)
    compilation_cache.reset_cache()  # it looks at the flags once
    at_end_of_run(compilation_cache.reset_cache)
    return str(folder)


def _set_flag(name: str, value: object) -> None:
    """Until the run ends."""
    at_end_of_run(functools.partial(jax.config.update, name, jax.config.values[name]))
    jax.config.update(name, value)


def _this_cpu() -> str:
    """A name that changes with the instructions that XLA's programs may use: a home folder is seen by more than one machine."""
    try:
        lines = epath.Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.node()  # a system that does not say: this machine alone
    digest = hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()
    return f"cpu-{jaxlib.__version__}-{digest[:12]}"


def _remove_torn(folder: epath.Path) -> None:
    """Remove the entries of processes that were killed while they wrote: JAX would keep them, and evict nothing because of them.

    JAX writes an entry, then its time of access beside it; what has none is torn (or was written without a limit on the size).
    """
    with filelock.FileLock(folder / ".lockfile", timeout=10):  # JAX's own
        for entry in folder.glob("*-cache"):
            if not (folder / f"{entry.name.removesuffix('-cache')}-atime").exists():
                entry.unlink(missing_ok=True)
