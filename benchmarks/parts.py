"""Runs commands one after the other, each under a limit of its own, and keeps what they print; what has ended well is not run again."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_LEAST = 15.0  # seconds that are worth beginning a part for


@dataclasses.dataclass(frozen=True)
class Part:
    """One command: what it is called, its arguments after `python`, and the seconds it may take."""

    name: str
    command: Sequence[str]
    limit: float
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def run_parts(parts: Sequence[Part], out: Path, deadline: float) -> int:
    """Run what is not done yet until the deadline; 0 where every part has ended well, 1 where one has not."""
    done = {part.name: _record(out, part.name) for part in parts}
    left = sorted((part for part in parts if done[part.name].get("code") != 0), key=lambda part: bool(done[part.name]))
    for part in left:
        seconds = min(part.limit, deadline - time.monotonic())
        if seconds < min(_LEAST, part.limit):
            print(f"{part.name}: no time left; the same command goes on here", flush=True)
            continue
        print(f"{part.name}: at most {seconds:.0f} s", flush=True)
        record = run_part(part, out, seconds)
        print(f"{part.name}: {_ending(record)} after {record['seconds']} s", flush=True)
        write_results(parts, out)
    write_results(parts, out)
    return int(any(_record(out, part.name).get("code") != 0 for part in parts))


def run_part(part: Part, out: Path, seconds: float) -> dict[str, Any]:
    """Run one part in a process group of its own, end it after `seconds`; its rows, log and record are in `out`."""
    begun = time.monotonic()
    environment = os.environ | {"PYTHONPATH": python_path(ROOT)}
    text, log = (out / f"{part.name}.{kind}" for kind in ("txt", "log"))
    record: dict[str, Any] = {"code": None, "seconds": 0.0}
    with text.open("w") as said, log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, *part.command],
            stdout=said,
            stderr=errors,
            cwd=ROOT,
            env=environment | part.environment,
            start_new_session=True,  # so that what it starts itself can be ended with it
        )
        try:
            record["code"] = process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass  # no code: it was cut off
        finally:
            # also where this process is told to end
            for stop, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
                if process.poll() is None:
                    os.killpg(process.pid, stop)
                    try:
                        process.wait(patience)
                    except subprocess.TimeoutExpired:
                        continue
            record["seconds"] = round(time.monotonic() - begun, 1)
            last = text.read_text(errors="replace").strip().rpartition("\n")[2]
            record["said"] = "" if last.startswith("{") else last[:120]
            (out / f"{part.name}.json").write_text(json.dumps(record) + "\n")
    return record


def python_path(*folders: Path) -> str:
    """PYTHONPATH of another process: these folders, then those of this process, where packages may lie."""
    return os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH", "")]))


def write_results(parts: Sequence[Part], out: Path) -> None:
    """`results.md`: each part's end and rows, as `docs/results.md` can take them."""
    lines = ["| part | ended | seconds | last line |", "|---|---|---|---|"]
    for part in parts:
        record = _record(out, part.name)
        lines.append(f"| {part.name} | {_ending(record)} | {record.get('seconds', '')} | {record.get('said', '')} |")
    lines += ["", "| figure | value | beside it | ratio | facts |", "|---|---|---|---|---|"]
    for part in parts:
        for row in rows_of(out / f"{part.name}.txt"):
            facts = {name: value for name, value in row.items() if name not in ("name", "value", "unit", "peer", "peer_value", "ratio")}
            beside = f"{row['peer_value']} ({Path(str(row['peer'])).name})" if row.get("peer_value") is not None else ""
            ratio = f"{row['ratio']:.3f}" if row.get("ratio") is not None else ""
            told = "; ".join(f"{name} {value}" for name, value in facts.items())
            lines.append(f"| {row['name']} | {row['value']} {row['unit']} | {beside} | {ratio} | {told} |")
    (out / "results.md").write_text("\n".join(lines) + "\n")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows among what a part printed; a line that was cut off is none."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"name", "value", "unit"} <= row.keys():
            found.append(row)
    return found


def _record(out: Path, name: str) -> dict[str, Any]:
    path = out / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _ending(record: Mapping[str, Any]) -> str:
    if not record:
        return "not run"
    return {0: "done", None: "cut off"}.get(record["code"], f"code {record['code']}")
