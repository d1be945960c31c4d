"""Rows on eight devices: the loss is that of one, and what is sent is the embeddings, once, and two numbers a row."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("sharded_exchange.py")


def test_rows_stay_where_they_are_and_embeddings_are_sent_once() -> None:
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_ENABLE_X64": "1"}
    run = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert len(found["errors"]) == 3
    assert all(error <= 1e-12 for error in found["errors"]), found
    assert not [collective for collective in found["collectives"] if collective[3]], "a collective in a loop"
    rows, embeddings, weights = 1088, 1088 * 32, 16 * 32
    gathered = sorted((dtype, numbers) for kind, dtype, numbers, _ in found["collectives"] if kind == "all-gather")
    assert gathered == sorted([("f64", embeddings), ("f64", rows), ("s64", rows)]), "embeddings, denominators, cluster ids"
    reduced = sorted(numbers for kind, _, numbers, _ in found["collectives"] if kind == "all-reduce")
    assert reduced[-1] == weights and all(numbers == 1 for numbers in reduced[:-1]), "the weight's gradient and scalars"
    assert {kind for kind, *_ in found["collectives"]} == {"all-gather", "all-reduce"}
