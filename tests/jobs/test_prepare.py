"""The prepare job from the command line: written, killed, gone on with, verified, trained from."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data.pictures import natural
from PIL import Image

from jigclu_jax.__main__ import main
from jigclu_jax.train.stop import STOP

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "prepare.py"


def images(root: Path, count: int, side: int = 48) -> Path:
    for index in range(count):
        path = root / "train" / "ab"[index % 2] / f"{index:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(natural(side, side + index % 7, index)).save(path)
    return root


def arguments(tmp_path: Path, workdir: str, argument: str = "", **fields: object) -> list[str]:
    given = {"data.path": tmp_path / "images", "output": tmp_path / "shards", "shard_images": 8} | fields
    config = f"--config={CONFIG}{':' + argument if argument else ''}"
    return [config, f"--workdir={tmp_path / workdir}", *(f"--config.{name}={value}" for name, value in given.items())]


def test_prepare_verify_and_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images(tmp_path / "images", 20)
    assert main(arguments(tmp_path, "write", "short_side=32")) == 0
    result = json.loads((tmp_path / "write" / "result.json").read_text())
    assert (result["job"], result["images"], result["images_skipped"]) == ("prepare", 20, 0)
    assert "preparing" in capsys.readouterr().err
    assert main(arguments(tmp_path, "verify", "verify")) == 0
    shard = tmp_path / "shards" / "train-00001.array_record"
    data = bytearray(shard.read_bytes())
    place = data.index(b"\xff\xd8\xff") + 100
    data[place] ^= 0x5A
    shard.write_bytes(data)
    assert main(arguments(tmp_path, "again", "verify")) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "train-00001.array_record, record " in lines[-2] and "Traceback" not in "".join(lines)
    assert "1 of 20 records or their shards are damaged" in lines[-1] and "delete the shards named" in lines[-1]
    index = shard.with_suffix(".npz")
    index.unlink()
    index.mkdir()
    assert main(arguments(tmp_path, "write", "short_side=32")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and str(index) in last


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"output": ""}, "config.output is empty"),
        ({"format": "webp"}, "config.format='webp' is unknown"),
        ({"quality": 0}, "config.quality=0 must be from 1 to 100"),
        ({"mode": "check"}, "config.mode='check' is unknown"),
        ({"data.path": "/nowhere"}, "/nowhere: no such folder"),
        ({"output_split": "a/b"}, "split 'a/b' cannot be the beginning of file names: set config.output_split"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, object], expected: str
) -> None:
    images(tmp_path / "images", 2)
    assert main(arguments(tmp_path, "write", **fields)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and expected in lines[0]
    assert not (tmp_path / "shards").exists()


def test_sigterm_keeps_complete_shards_and_leaves_with_75(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path / "images", 20)
    monkeypatch.setattr(type(STOP), "requested", property(lambda self: (tmp_path / "shards" / "train-00000.array_record").exists()))
    assert main(arguments(tmp_path, "write")) == 75
    assert [path.name for path in (tmp_path / "shards").glob("*.array_record*")] == ["train-00000.array_record"]
    monkeypatch.undo()
    assert main(arguments(tmp_path, "write")) == 0
    assert json.loads((tmp_path / "write" / "result.json").read_text())["shards_kept"] == 1


def test_writing_over_a_damaged_shard_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run must not call right what it finds: verify would then have nothing to compare with."""
    images(tmp_path / "images", 20)
    assert main(arguments(tmp_path, "write")) == 0
    shard = tmp_path / "shards" / "train-00001.array_record"
    os.truncate(shard, 1000)
    assert main(arguments(tmp_path, "damaged", "verify")) == 2
    assert f"{shard}: 1000 bytes, the index says" in capsys.readouterr().err
    assert main(arguments(tmp_path, "mended")) == 0
    assert json.loads((tmp_path / "mended" / "result.json").read_text())["shards_kept"] == 2
    assert main(arguments(tmp_path, "sound", "verify")) == 0


@pytest.mark.slow
def test_a_killed_job_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    images(tmp_path / "images", 160, side=400)
    assert main(arguments(tmp_path, "straight", output=tmp_path / "straight_shards")) == 0
    command = [sys.executable, "-m", "jigclu_jax", *arguments(tmp_path, "killed")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "shards").glob("train-0000[3-9].array_record")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "shards" / "train.json").exists()
    assert main(arguments(tmp_path, "killed")) == 0
    assert json.loads((tmp_path / "killed" / "result.json").read_text())["shards_kept"] >= 3
    both = [{p.name: p.read_bytes() for p in sorted((tmp_path / name).iterdir())} for name in ("shards", "straight_shards")]
    assert both[0] == both[1]


def test_the_workdir_holds_no_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images(tmp_path / "images", 2)
    assert main(arguments(tmp_path, "shards")) == 2
    assert "is the workdir as well: give the shards a folder of their own" in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()


def test_what_was_left_out_is_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images(tmp_path / "images", 6)
    for name in ("000.jpg", "002.jpg"):
        (tmp_path / "images" / "train" / "a" / name).write_bytes(b"")
    assert main(arguments(tmp_path, "write", **{"data.on_error": "skip"})) == 0
    listed = tmp_path / "write" / "images_skipped.txt"
    assert capsys.readouterr().err.splitlines()[-1] == f"2 images left out (on_error=skip): {listed} names them"
    assert [line.partition(": ")[0] for line in listed.read_text().splitlines()] == [
        f"{tmp_path}/images/train/a/{name}" for name in ("000.jpg", "002.jpg")
    ]


def test_a_full_disk_is_the_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    images(tmp_path / "images", 2)
    monkeypatch.setattr("jigclu_jax.data.prepare.shards._write_shard", full)
    assert main(arguments(tmp_path, "write")) == 2
    expected = f"error: {tmp_path}/shards cannot be written any more: no space left on device; complete shards stay: make room"
    assert capsys.readouterr().err.splitlines()[-1].startswith(expected)
