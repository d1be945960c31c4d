"""What a GPU says within some minutes: parts in the order of what is worth most, each under a limit of its own.

    make gpu MINUTES=9                                       # everything goes to runs/gpu
    make gpu DATA=/data/cifar10 PEER=peer_step.py            # trains on train/CLASS/* of a folder; times beside a PyTorch script
    python benchmarks/gpu.py --small --minutes 6             # a try on a CPU

Needs neither network nor TensorFlow. A part that has ended well is kept, with its rows and its log, and not run again: the same
command goes on with the others, those first that have not been tried. A part that is cut off at its limit keeps the rows it had printed.
`results.md` is written anew after each part. Ctrl-C and SIGTERM end the part that runs, and leave what is there.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from parts import Part, run_parts

ROOT = Path(__file__).resolve().parent.parent
TESTS = [
    *("tests/golden", "tests/ops", "tests/losses", "tests/models", "tests/train/test_step.py", "tests/device/test_places.py"),
    "tests/jobs/test_places.py::test_pretraining_and_probe_from_resident_data_need_no_tensorflow",
    "tests/jobs/test_kills.py",
]


def parts_of(arguments: argparse.Namespace, out: Path) -> list[Part]:
    """All parts, the most valuable first."""
    cores = os.cpu_count() or 2
    small = ["--small"] if arguments.small else []
    peer = [f"--peer={arguments.peer}"] if arguments.peer and importlib.util.find_spec("torch") else []
    large = [] if arguments.small else ["--blocks=3", "--rounds=1"]
    resident = [] if arguments.small else ["--arch=resnet18", "--stem=small", "--size=64", "--batch=512", "--steps=60", "--rounds=3"]
    device = ["--places=device", *([] if arguments.small else ["--steps=30", "--rounds=2"])]
    processes = f"--workers={min(max(cores - 2, 2), 14)}"
    tests = TESTS[1:2] if arguments.small else TESTS
    if importlib.util.find_spec("xdist") and cores >= 8:
        # most of their time is compilation; they share the device
        tests = ["-n", str(min(cores - 2, 14)), "--dist", "loadfile", *tests]
    compared = {} if arguments.small else {"JAX_PLATFORMS": "cuda"}

    def script(name: str, *options: str) -> list[str]:
        return [str(ROOT / "benchmarks" / f"{name}.py"), *options, *small]

    methods = ["--width=0.05", "--size=32", "--batch=4", "--rounds=2"] if arguments.small else ["--size=32", "--batch=512", "--steps=6"]
    methods += ["--arch=resnet18", "--stem=small", *([] if arguments.small else ["--dtype=bfloat16"])]
    study = ["-m", "jigclu_jax", f"--config={ROOT / 'configs' / 'study_cifar10.py'}:epochs=100", f"--workdir={out / 'study'}"]
    study.append(f"--config.pretrain.data.path={arguments.data}")

    return [
        Part("environment", [__file__, "--describe"], 60),
        Part("step", script("step_rate", "--quick", "--batch=8" if arguments.small else "--batch=256", *large, *peer), 150),
        Part("tests", ["-m", "pytest", "-q", "-m", "not devices8", *tests], 240, compared),
        Part("kernels", script("kernel_table", f"--out={out / 'kernels'}"), 120),
        Part("resident", script("end_to_end", "--places=resident", *resident), 120),
        Part("methods", [str(ROOT / "benchmarks" / "method_steps.py"), *methods], 120),
        Part("training", [__file__, "--train", f"--data={arguments.data}", f"--out={out}", *small], 240),
        Part("large step", script("step_rate", "--quick", "--batch=16" if arguments.small else "--batch=1024", *large, *peer), 180),
        Part("stem", script("step_rate", "--quick", "--space-to-depth", "--batch=8" if arguments.small else "--batch=256", *large), 120),
        Part("device, threads", script("end_to_end", *device), 120),
        Part("device, processes", script("end_to_end", *device, processes), 120),
        *([Part("study", study, 600)] if arguments.data and not arguments.small else []),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", default="runs/gpu")
    parser.add_argument("--data", default="", help="folder of images with train/ and test/; none: the embedded set")
    parser.add_argument("--peer", default="", help="path of the PyTorch script of `step_rate.py`")
    parser.add_argument("--only", default="", help="names of parts, separated by semicolons")
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script on a CPU")
    parser.add_argument("--tests", action="store_true", help="print which tests are run, and nothing else")
    parser.add_argument("--describe", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tests:
        print(*TESTS)
        return 0
    if arguments.describe:
        describe()
        return 0
    out = Path(arguments.out).resolve()
    if arguments.train:
        return train(out, arguments.data, arguments.small)
    out.mkdir(parents=True, exist_ok=True)
    parts = parts_of(arguments, out)
    wanted = arguments.only.split(";") if arguments.only else [part.name for part in parts]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    try:
        return run_parts([part for part in parts if part.name in wanted], out, time.monotonic() + 60 * arguments.minutes)
    except KeyboardInterrupt:
        return 130


def describe() -> None:
    """Rows of what this is run on."""
    import platform
    import shutil

    import jax
    from rows import print_row

    import jigclu_jax

    for device in jax.devices():
        memory = (device.memory_stats() or {}).get("bytes_limit", 0)
        print_row(f"device {device.id}", round(memory / 2**30, 1), "GiB", kind=device.device_kind, platform=device.platform)
    packages = {name: _version(name) for name in ("jax", "jaxlib", "flax", "torch", "tensorflow")}
    commit = ""
    if shutil.which("git"):
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip()
    facts = {"python": platform.python_version(), **packages, "version": jigclu_jax.__version__, "commit": commit[:9]}
    print_row("processor cores", os.cpu_count() or 0, "cores", **facts)
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm", "--format=csv,noheader"]
        print_row("driver", 1, "GPU", said=subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip())


def _version(package: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def train(out: Path, data: str, small: bool) -> int:
    """Pretraining on resident images with kNN at fixed epochs, going on where it was; rows of its metrics by epoch."""
    from rows import print_row

    epochs, every = (2, 1) if small else (45, 15)
    argument = f"batch_size={32 if small else 512},epochs={epochs}" + (",width=0.05" if small else "")
    fields: dict[str, Any] = {"data.augment": "resident", "online.every_epochs": every, "log.tensorboard": False, "log.pictures": False}
    if small:
        fields |= {"data.limit": 128, "online.images": 64, "data.image_size": 32}
    else:
        fields |= {"model.dtype": "bfloat16", "optimizer.learning_rate": 0.06, "optimizer.weight_decay": 5e-4, "online.images": 10_000}
    if data:
        fields |= {"data.source": "folder", "data.path": data, "online.eval_data.split": "test"}
    else:
        fields |= {"data.source": "embedded", "data.name": "", "online.eval_data.split": "validation"}
    command = [f"--config={ROOT / 'configs' / 'pretrain_cifar10.py'}:{argument}", f"--workdir={out / 'training'}"]
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    code = subprocess.run([sys.executable, "-m", "jigclu_jax", *command], stdout=sys.stderr, check=False).returncode
    metrics = out / "training" / "metrics.jsonl"
    for row in map(json.loads, metrics.read_text().splitlines() if metrics.exists() else ()):
        if row["epoch"] == round(row["epoch"]) and round(row["epoch"]) % every == 0:
            kept = {name: round(value, 4) for name, value in row.items() if isinstance(value, float) and name != "images_per_second"}
            print_row(f"training, epoch {row['epoch']:.0f}", round(row["images_per_second"] or 0.0, 1), "images/s", **kept)
    return code


if __name__ == "__main__":
    sys.exit(main())
