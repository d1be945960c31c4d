"""A stand-in for trackio that keeps what it is called with in a file, so that no tracker need be installed."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_MODULE = """
import json, os
from pathlib import Path

def note(*call):
    with open(Path(__file__).with_name("calls.jsonl"), "a") as file:
        file.write(json.dumps(call) + "\\n")

class Run:
    def log(self, metrics, step):
        note("log", step, metrics)
        if os.environ.get("STAND_IN_FAILS"):
            raise OSError("no network")

    def log_artifact(self, path, name, type):
        note("file", name, Path(path).read_text())

    def finish(self):
        note("finish")

def init(**options):
    note("init", options)
    return Run()
"""


@contextmanager
def stand_in(folder: Path) -> Iterator[Path]:
    """`import trackio` gives the stand-in in the block; yields the file of its calls, one JSON list a line."""
    (folder / "trackio.py").write_text(_MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        try:
            yield folder / "calls.jsonl"
        finally:
            sys.modules.pop("trackio", None)


def calls(file: Path) -> list[list[Any]]:
    """What was called, in order."""
    return [json.loads(line) for line in file.read_text().splitlines()]
