"""The kill test of `benchmarks/resume_kills.py`, a few kills long."""

import json
import os
import subprocess
import sys

import processes
import pytest


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits() -> None:
    command = [sys.executable, str(processes.ROOT / "benchmarks" / "resume_kills.py"), "--kills", "5", "--steps", "24"]
    command.append(f"--platform={os.environ['JAX_PLATFORMS']}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    rows = {row["name"]: row["value"] for row in map(json.loads, done.stdout.splitlines())}
    phases = [value for name, value in rows.items() if name.startswith("kills in phase ")]
    assert len(phases) == 6 and sum(phases) == 5
    same = {name: value for name, value in rows.items() if name.startswith("identical ")}
    assert len(same) == 8 and set(same.values()) == {1}, same
