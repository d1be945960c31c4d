"""The cache of compiled programs, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import jax, jax.numpy as jnp
from jigclu_jax.device.compilation import start_cache
print(start_cache())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event == "/jax/compilation_cache/cache_hits" else None)
print(float(jax.jit(lambda x: jnp.sort(x @ x.T).sum())(jnp.ones((20, 30)))), len(hits))
"""


def run(home: Path, **more: str) -> list[str]:
    own = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES")
    environment = {name: value for name, value in os.environ.items() if name not in own} | {"XDG_CACHE_HOME": str(home)} | more
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    folder, answer = done.stdout.splitlines()
    value, hits = answer.split()
    assert float(value) == 20 * 20 * 30
    return [folder, hits]


def test_a_second_process_compiles_nothing_and_mends_what_was_cut_short(tmp_path: Path) -> None:
    folder, hits = run(tmp_path)
    assert Path(folder).is_relative_to(tmp_path / "jigclu_jax" / "xla") and hits == "0"
    written = {path: path.read_bytes() for path in Path(folder).glob("*-cache")}
    assert len(written) >= 2
    broken = max(written, key=lambda path: len(written[path]))
    # what a process leaves that is killed while it writes: JAX adds the time of access afterwards
    broken.write_bytes(written[broken][:100])
    broken.with_name(f"{broken.name.removesuffix('-cache')}-atime").unlink()
    assert run(tmp_path) == [folder, str(len(written) - 1)]
    assert len(broken.read_bytes()) > 100
    assert run(tmp_path) == [folder, str(len(written))]


def test_no_cache_where_none_can_be_written_or_none_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert run(tmp_path / "file") == ["None", "0"]
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR="") == ["None", "0"]
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_the_programs_used_longest_ago_go_where_the_limit_is_reached(tmp_path: Path) -> None:
    folder, _ = run(tmp_path)
    sizes = [path.stat().st_size for path in Path(folder).glob("*-cache")]
    limit = max(sizes) + 100  # a program's size differs a little from process to process
    assert run(tmp_path / "small", JAX_COMPILATION_CACHE_MAX_SIZE=str(limit))[1] == "0"
    kept = [path.stat().st_size for path in (tmp_path / "small").rglob("*-cache")]
    assert 0 < len(kept) < len(sizes) and sum(kept) <= limit
