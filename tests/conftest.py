"""What every test runs under: the CPU unless JAX_PLATFORMS says otherwise, quiet TensorFlow, compiled programs kept, checked shapes."""

import gc
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

_CACHE = Path(__file__).resolve().parent.parent / ".cache" / "jax"

# before anything imports JAX or TensorFlow; subprocesses of the tests inherit it
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU is shared with the processes that tests start
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")
if os.environ["JAX_PLATFORMS"] == "cpu":
    # Compiling takes most of the tests' time, and LLVM's optimisation more than half of that; the mathematics is XLA's in any case.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
else:
    # float32 is TF32 on a GPU and bfloat16 on a TPU, and results are compared to what float32 allows
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
# XLA ends a process whose collective waits for longer than 40 seconds, which several devices on one busy core may do
_PATIENCE = ("xla_cpu_collective_call_terminate_timeout_seconds", "xla_cpu_collective_timeout_seconds")
if _PATIENCE[0] not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *(f"--{name}=600" for name in _PATIENCE)]).strip()

# a shell has Ctrl-C ignored in what it starts in the background, nohup the loss of the terminal; what the tests start would inherit that
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

from jaxtyping import install_import_hook  # noqa: E402

# The shape and dtype annotations of the package become assertions. mypy reads all others, and to check those as well would take each
# process of tests six seconds more to start.
_PACKAGE = Path(__file__).resolve().parent.parent / "jigclu_jax"
_SHAPED = [path.relative_to(_PACKAGE.parent).with_suffix("") for path in sorted(_PACKAGE.rglob("*.py")) if "jaxtyping" in path.read_text()]
install_import_hook([".".join(path.parts).removesuffix(".__init__") for path in _SHAPED], "annotation_checker.check")

import pytest  # noqa: E402


@pytest.fixture
def float64() -> Iterator[None]:
    """JAX's float64, in every thread, for as long as the test takes."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def needs_tensorflow() -> None:
    """Leaves a test of the host's pictures out where there is no TensorFlow, as on a machine that has a GPU and nothing else."""
    pytest.importorskip("tensorflow")


@pytest.fixture(scope="module", autouse=True)
def unrendered(request: pytest.FixtureRequest) -> Iterator[None]:
    """Curves of whole jobs are made, but not rendered, which takes a second a run: report/ looks at drawings, two files of jobs/."""
    if {"jobs", "methods"}.isdisjoint(request.path.parts) or request.path.name in ("test_compare.py", "test_pretrain_probe.py"):
        yield
        return
    from jigclu_jax.report import curves

    def made(rows: curves.Rows, wanted: Sequence[curves.Panel]) -> list[tuple[curves.Panel, str]]:
        return [(panel, "<svg></svg>") for panel in wanted if curves.draw_panel(rows, panel)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "draw_curves", made)
        yield


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector, which takes up to a tenth of the time, looks at it no more."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole jobs come first, so that no long file begins when the other workers have ended; what needs eight devices may be skipped.

    How many devices a CPU has is fixed when JAX starts, and with eight every job of the other tests would compile and run for
    eight: these tests have processes of their own, in which nothing else runs.
    """
    items.sort(key=lambda item: {"jobs", "methods"}.isdisjoint(item.path.parts))
    marked = [item for item in items if "devices8" in item.keywords]
    if marked:
        import jax

        if (count := jax.device_count()) < 8:
            reason = f"needs 8 devices, there are {count}: JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=8 python -m pytest -m devices8"
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))
