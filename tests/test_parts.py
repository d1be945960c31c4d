"""`benchmarks/parts.py`: limits, what is kept when a part is cut off or the whole is stopped, and where the next call goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from parts import ROOT, Part, rows_of, run_parts

ROW = '{"name": "rate", "value": 3.5, "unit": "images/s", "peer": "a/peer.py", "peer_value": 7.0, "ratio": 0.5, "device": "H100"}'


def part(name: str, code: str, limit: float = 30.0) -> Part:
    return Part(name, ["-c", code], limit)


def test_a_part_that_ends_well_is_kept_and_not_run_again(tmp_path: Path) -> None:
    once = part("once", f"import pathlib; print('noise'); print('{ROW}'); pathlib.Path({str(tmp_path / 'mark')!r}).open('a').write('x')")
    for _ in range(2):
        assert run_parts([once], tmp_path, time.monotonic() + 60) == 0
    assert (tmp_path / "mark").read_text() == "x"
    assert [row["value"] for row in rows_of(tmp_path / "once.txt")] == [3.5]
    table = (tmp_path / "results.md").read_text()
    assert "| once | done |" in table and "| rate | 3.5 images/s | 7.0 (peer.py) | 0.500 | device H100 |" in table


def test_a_part_is_cut_off_with_what_it_started_and_its_rows_stay(tmp_path: Path) -> None:
    child = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    slow = part("slow", f"{child}; print('{ROW}'); print(p.pid, file=sys.stderr, flush=True); sys.stdout.flush(); p.wait()", 3.0)
    broken = part("broken", "import sys; print('what is wrong'); sys.exit(3)")
    after = part("after", f"print('{ROW}')")
    assert run_parts([slow, broken, after], tmp_path, time.monotonic() + 60) == 1
    assert len(rows_of(tmp_path / "slow.txt")) == 1
    pid = int((tmp_path / "slow.log").read_text())
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    table = (tmp_path / "results.md").read_text()
    assert "| slow | cut off |" in table and "| broken | code 3 |" in table and "| after | done |" in table
    assert "what is wrong" in table


def test_without_time_nothing_begins_and_the_next_call_tries_the_untried_first(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = f"import pathlib, sys; pathlib.Path({str(order)!r}).open('a').write(sys.argv[1]); sys.exit(int(sys.argv[2]))"
    first, second = (Part(name, ["-c", code, name, status], 30.0) for name, status in (("a", "1"), ("b", "0")))
    assert run_parts([first, second], tmp_path, time.monotonic()) == 1 and not order.exists()
    run_parts([first], tmp_path, time.monotonic() + 60)
    run_parts([first, second], tmp_path, time.monotonic() + 60)
    assert order.read_text() == "aba"


def test_a_stop_ends_the_part_that_runs(tmp_path: Path) -> None:
    script = (
        f"import signal, sys, time, pathlib; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); from parts import Part, run_parts\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        f'code = "import pathlib, time; pathlib.Path({str(tmp_path / "begun")!r}).touch(); time.sleep(60)"\n'
        f"run_parts([Part('long', ['-c', code], 60.0)], pathlib.Path({str(tmp_path)!r}), time.monotonic() + 60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env=os.environ)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75
    assert '"code": null' in (tmp_path / "long.json").read_text()
