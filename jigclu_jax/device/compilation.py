"""A cache of compiled programs that outlives the process: a restarted run begins to train without compiling again."""

import hashlib
import os
import platform
import warnings
import zlib

import jax
import jaxlib
from etils import epath

MOST_BYTES = 4 * 2**30


def start_cache() -> str | None:
    """Keep compiled programs in the user's cache folder, unless JAX has another one; returns the folder, None for no cache.

    JAX_COMPILATION_CACHE_DIR names another folder, or none where it is empty; else it is `jigclu_jax/xla` in XDG_CACHE_HOME or
    ~/.cache. The oldest programs go when they take more than 4 GiB. Where nothing can be written, there is no cache, silently.
    Several processes may share it: process 0 of a run writes, and all read. To be called once the distributed runtime has started.
    """
    chosen: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # jax.config makes its attributes at run time
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or chosen:
        return chosen or None
    folder = epath.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jigclu_jax" / "xla"
    if jax.default_backend() == "cpu":
        folder /= _this_cpu()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _tidy(folder)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    # a disk that fills up later is no reason to speak either: what is not read is compiled
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return str(folder)


def _this_cpu() -> str:
    """A name that changes with the instructions that XLA's programs may use: a home folder is seen by more than one machine."""
    try:
        lines = epath.Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.node()  # a system that does not say: this machine alone
    digest = hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()
    return f"cpu-{jaxlib.__version__}-{digest[:12]}"


def _tidy(folder: epath.Path) -> None:
    """Remove what a killed process left half-written since the last time, which JAX would keep for ever, and the oldest above the limit."""
    marker = folder / ".checked"
    since = marker.stat().mtime if marker.exists() else 0
    entries = []
    for path in folder.glob("*-cache"):
        try:
            if path.stat().mtime >= since and not _whole(path.read_bytes()):
                path.unlink()
                continue
            entries.append((path.stat().mtime, path.stat().length, path))
        except FileNotFoundError:  # another process tidies up
            continue
    total = sum(length for _, length, _ in entries)
    for _, length, path in sorted(entries):
        if total <= MOST_BYTES:
            break
        path.unlink(missing_ok=True)
        total -= length
    marker.write_text("")


def _whole(data: bytes) -> bool:
    if data[:1] != b"\x78":  # compressed by zstandard, which JAX prefers where it is installed
        return len(data) > 0
    try:
        zlib.decompress(data)
    except zlib.error:
        return False
    return True
