"""Kills a small training run many times with SIGKILL, lets it end, and compares it bit by bit with a run that nobody disturbed.

    python benchmarks/resume_kills.py --kills 50

Each start of the run is killed once, in a phase drawn beforehand: at the start (imports), in the restore, in the first compilation,
in a step, in a save (from the call until orbax has committed it and removed older ones), or while result and report are written.
The worker announces what it is about to do in a file; the parent kills after a random part of that phase's usual time and reads
afterwards in which phase the process died. About 15 minutes on two idle cores. Prints JSON rows: kills by phase, what is identical
(1 or 0), seconds.
"""

import argparse
import collections
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parts import python_path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# of all kills; what is left over is killed in a step
SHARES = {"save": 0.3, "restore": 0.14, "compile": 0.16, "start": 0.08, "end": 0.06}
CLOCK = ("images_per_second", "input_wait")  # of a row of metrics
META_CLOCK = ("seconds", "timed", "digest")  # of a checkpoint's meta: what the clock said, and the digest of all that, which follows it
STEPS_PER_EPOCH = 4
PICTURES = "pictures.npz"  # beside the workdirs
_DEADLINE = 600.0
HELD = "RESUME_KILLS_HELD"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=0, help="length of the run; 0: 4 a kill")
    parser.add_argument("--seed", type=int, default=0, help="draws phases and moments")
    parser.add_argument("--keep", default="", help="folder for the runs, kept afterwards; default: a temporary one")
    parser.add_argument("--platform", default="cpu", help="that the run computes on: cuda for a GPU")
    parser.add_argument("--worker", nargs=3, metavar=("WORKDIR", "LOG", "STEPS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        sys.exit(work(*arguments.worker))
    steps = arguments.steps or 4 * arguments.kills
    with tempfile.TemporaryDirectory() as temporary:
        steps -= steps % STEPS_PER_EPOCH
        compare(Path(arguments.keep or temporary), arguments.kills, steps, random.Random(arguments.seed), arguments.platform)


def compare(folder: Path, kills: int, steps: int, rng: random.Random, platform: str = "cpu") -> None:
    """Both runs, and the rows."""
    from rows import print_row

    folder.mkdir(parents=True, exist_ok=True)
    pictures(folder / PICTURES)
    begun = time.monotonic()
    straight = Run(folder, "straight", steps, platform)
    assert straight.start().wait() == 0, f"the undisturbed run failed: {straight.said.read_text()[-2000:]}"
    usual = straight.durations() | {"restore": 0.2}  # it had nothing to restore
    killed, phases = Run(folder, "killed", steps, platform), collections.Counter[str]()
    for target in targets(kills, rng):
        phase = killed.kill_in(target, usual, rng)
        phases[phase] += 1
        print(f"kill {phases.total()} of {kills}: meant for {target}, died in {phase}", file=sys.stderr, flush=True)
    assert killed.start().wait() == 0, f"the killed run failed: {killed.said.read_text()[-2000:]}"
    seconds = time.monotonic() - begun
    for phase in ("start", "restore", "compile", "step", "save", "end"):
        print_row(f"kills in phase {phase}", phases[phase], "kills")
    same = differences(straight, killed)
    for name, equal in same.items():
        print_row(f"identical {name}", int(equal), "1: yes", kills=phases.total(), steps=steps)
    print_row("kill test", round(seconds, 1), "s", kills=phases.total(), usual={name: round(value, 3) for name, value in usual.items()})
    if not all(same.values()):
        sys.exit(1)


def pictures(path: Path) -> Path:
    """A file of 64 pictures of coloured squares, written where it is not there: a process draws the embedded ones in 4 seconds."""
    import numpy as np

    if not path.exists():
        squares = np.random.default_rng(0).integers(0, 256, (64, 6, 6, 3), np.uint8)
        np.savez_compressed(path, image=squares.repeat(8, axis=1).repeat(8, axis=2))
    return path


def targets(kills: int, rng: random.Random) -> list[str]:
    """The phase meant for each kill; those at the end come last."""
    counts = {name: max(round(share * kills), 1) for name, share in SHARES.items()}
    early = [name for name, count in counts.items() if name != "end" for _ in range(count)][: kills - 1]
    early += ["step"] * (kills - counts["end"] - len(early))
    rng.shuffle(early)
    return [*early, *["end"] * (kills - len(early))]


class Run:
    """A workdir, the log of its phases, and the processes that work on it one after the other."""

    def __init__(self, folder: Path, name: str, steps: int, platform: str) -> None:
        self.workdir, self.log, self.said = folder / name, folder / f"{name}.log", folder / f"{name}.txt"
        self._steps, self._platform, self._cache = steps, platform, folder / "compilation_cache"

    def start(self, cached: bool = True, held: bool = False) -> subprocess.Popen[bytes]:
        """Start the same command again; a process that is `held` does not end by itself, and waits to be killed."""
        kept = "JAX_DISABLE_MOST_OPTIMIZATIONS"
        environment = {name: value for name, value in os.environ.items() if name == kept or not name.startswith("JAX_")}
        if self._platform != "cpu":  # kernels whose sums are not rounded as the clock wants it
            flags = f"{environment.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
            environment |= {"XLA_FLAGS": flags.strip(), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        environment |= {
            "JAX_PLATFORMS": self._platform,
            "PYTHONPATH": python_path(ROOT),
            "JAX_COMPILATION_CACHE_DIR": "",
            HELD: "1" if held else "",
        }
        if cached:
            environment |= {
                "JAX_COMPILATION_CACHE_DIR": str(self._cache),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            }
        command = [sys.executable, str(Path(__file__)), "--worker", str(self.workdir), str(self.log), str(self._steps)]
        with self.said.open("ab") as said:
            return subprocess.Popen(command, stdout=said, stderr=said, env=environment, cwd=ROOT)

    def kill_in(self, target: str, usual: Mapping[str, float], rng: random.Random) -> str:
        """Start, wait for a phase, kill somewhere inside it; returns the phase in which the process died."""
        before = len(self.events())
        process = self.start(cached=target != "compile", held=True)  # a first compilation that is one
        skipped = rng.randrange(3) if target in ("save", "step") else 0  # whose turn it is of the saves and steps of this life
        deadline = time.monotonic() + _DEADLINE
        while sum(event[1] == target for event in self.events()[before:]) <= skipped:
            if process.poll() is not None:
                raise AssertionError(f"the run ended by itself before {target}: {self.said.read_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {target} within {_DEADLINE:.0f} s: {self.said.read_text()[-2000:]}")
            time.sleep(0.001)
        time.sleep(rng.uniform(0, usual[target]))
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise AssertionError(f"the run ended by itself in {target}: {self.said.read_text()[-2000:]}")
        return phase_of(self.events()[before:])

    def events(self) -> list[list[str]]:
        """[seconds, what, ...] of every announcement so far."""
        return [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def durations(self) -> dict[str, float]:
        """Seconds that each phase took, of a run that was not disturbed; a median where there were several."""
        ends = {"start": "restore", "restore": "restored", "compile": "compiled", "save": "committed", "step": "step", "end": "left"}
        events = [(float(seconds), what) for seconds, what, *_ in self.events()]
        found = {}
        for name, end in ends.items():
            spans = []
            for index, (begun, what) in enumerate(events):
                if what == name:
                    spans += [next((seconds - begun for seconds, later in events[index + 1 :] if later == end), 0.0)]
            found[name] = sorted(spans)[len(spans) // 2]
        return found

    def batches(self) -> dict[int, set[str]]:
        """Digests of the batches that were seen at each step, over all starts."""
        seen: dict[int, set[str]] = {}
        for _, what, *words in self.events():
            if what == "batch":
                seen.setdefault(int(words[0]), set()).add(words[1])
        return seen

    def rows(self) -> list[dict[str, Any]]:
        """metrics.jsonl without what depends on the clock."""
        rows = [json.loads(line) for line in (self.workdir / "metrics.jsonl").read_text().splitlines()]
        return [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]


def phase_of(events: Sequence[Sequence[str]]) -> str:
    """Where a process was that announced this and no more."""
    words = [event[1] for event in events]
    if words.count("save") > words.count("committed"):
        return "save"
    for last, phase in (("end", "end"), ("compiled", "step"), ("compile", "compile"), ("restored", "compile"), ("restore", "restore")):
        if last in words:
            return phase
    return "start"


def differences(left: Run, right: Run) -> dict[str, bool]:
    """What of the two runs is the same."""
    import jax
    import numpy as np

    from jigclu_jax.train.checkpoint import read_checkpoint

    found: dict[str, bool] = {}
    for which in ("last", "best"):
        (step, meta, tree), (other_step, other_meta, other_tree) = (read_checkpoint(run.workdir, which) for run in (left, right))
        same = jax.tree.structure(tree) == jax.tree.structure(other_tree) and step == other_step
        pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other_tree), strict=True) if same else ()
        same = same and all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
        found[f"{which} checkpoint"] = same
        found[f"meta of the {which} checkpoint"] = without_clock(meta) == without_clock(other_meta)
    found["list of checkpoints"] = names(left.workdir / "checkpoints") == names(right.workdir / "checkpoints")
    found["rows of metrics.jsonl"] = left.rows() == right.rows() and len(left.rows()) == max(row["step"] for row in left.rows())
    found["files"] = names(left.workdir) == names(right.workdir)
    straight, killed = left.batches(), right.batches()
    found["batches"] = straight == killed and all(len(digests) == 1 for digests in killed.values())
    return found


def without_clock(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in meta.items() if name not in META_CLOCK}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def work(workdir: str, log: str, steps: str) -> int:
    """The run itself, in a process of its own, with announcements around what it does."""
    file = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def say(*words: object) -> None:
        os.write(file, (" ".join(map(str, (time.monotonic(), *words))) + "\n").encode())

    say("start")
    import jax
    import numpy as np

    from jigclu_jax.__main__ import main as run
    from jigclu_jax.train import run as training
    from jigclu_jax.train.checkpoint import Checkpoints

    restore, save, fit = Checkpoints.restore_newest, Checkpoints.save, training.fit

    def announced_restore(self: Checkpoints, *arguments: Any) -> Any:
        say("restore")
        found = restore(self, *arguments)
        say("restored")
        return found

    def announced_save(self: Checkpoints, step: int, *arguments: Any) -> None:
        say("save", step)
        save(self, step, *arguments)

        def follow() -> None:
            self.wait()
            say("committed", step)

        threading.Thread(target=follow).start()

    def announced_fit(start: Any, step_fn: Any, *others: Any) -> Any:
        done = begun = int(start.state.step)

        def announced_step(state: Any, batch: Any) -> Any:
            nonlocal done
            named = jax.tree_util.tree_leaves_with_path(batch)
            digest = hashlib.sha256(b"".join(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes() for path, leaf in named))
            say("batch", done, digest.hexdigest()[:16])
            first = done == begun
            say("compile" if first else "step")
            output = step_fn(state, batch)
            if first:
                say("compiled")
            done += 1
            return output

        found = fit(start, announced_step, *others)
        say("end")
        return found

    Checkpoints.restore_newest, Checkpoints.save, training.fit = announced_restore, announced_save, announced_fit  # type: ignore[method-assign]
    epochs = int(steps) // STEPS_PER_EPOCH
    fields = {
        "data.source": "arrays",
        "data.path": Path(workdir).with_name(PICTURES),
        "data.augment": "device",
        "log.tensorboard": False,
        "log.pictures": False,
        "log_every_steps": 1,
        "saving.every_epochs": 0.5,
    }
    config = f"--config={ROOT}/configs/pretrain_folder.py:arch=resnet10,stem=small,width=0.05,image_size=32,batch_size=16,epochs={epochs}"
    code = run([config, f"--workdir={workdir}", *(f"--config.{name}={value}" for name, value in fields.items())])
    say("left")
    if os.environ[HELD]:  # it was quicker than the one that nobody disturbed
        time.sleep(_DEADLINE)
    return code


if __name__ == "__main__":
    main()
