"""PyTorch's files without PyTorch: what `torch.save` wrote is read to the bit, what is hostile runs nothing and takes no memory."""

import collections
import io
import json
import math
import os
import pickle
import resource
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
import pytest
from golden import torch_numbers

from jigclu_jax.errors import UserError
from jigclu_jax.interop import to_torchvision
from jigclu_jax.interop.torch_pickles import unpickled
from jigclu_jax.interop.weights import Imported, load_weights

SAVED = ("plain_old.PTH", "mixed.pt", "moco.pth.tar", "ddp.ckpt", "compiled.bin", "sequential.ckpt", "strided.pth", "module.pt")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that PyTorch wrote (`tests/golden/torch_numbers.py`)."""
    root = tmp_path_factory.mktemp("torch")
    with tarfile.open(torch_numbers.FILES) as archive:
        archive.extractall(root, filter="data")
    return root


@pytest.fixture(scope="module")
def plain(files: Path) -> Imported:
    return load_weights(files / "plain.pth")


def test_the_values_are_those_that_were_saved(plain: Imported) -> None:
    assert plain.model == {"arch": "resnet18", "stem": "imagenet", "width": 1 / 32}
    kernel = plain.params["layer2"]["block1"]["conv2"]["kernel"]  # [3, 3, 4, 4]
    start = torch_numbers.zlib.crc32(b"layer2.1.conv2.weight")
    expected = ((np.arange(144) + start) % 13 + 1).reshape(4, 4, 3, 3) / 8
    np.testing.assert_array_equal(kernel, expected.transpose(2, 3, 1, 0))


@pytest.mark.parametrize("name", SAVED)
def test_every_way_of_saving_gives_the_same_backbone(files: Path, plain: Imported, name: str) -> None:
    found = load_weights(files / name, prefix="encoder_q" if name.startswith("moco") else "")
    assert found.model == plain.model
    jax.tree.map(np.testing.assert_array_equal, (plain.params, plain.stats), (found.params, found.stats))


@pytest.mark.parametrize("name", ["float8_e4m3fn.pth", "float8_e5m2.PTH"])
def test_eight_bits_become_float32(files: Path, plain: Imported, name: str) -> None:
    found, narrow = load_weights(files / name), getattr(ml_dtypes, name.partition(".")[0])
    expected = jax.tree.map(lambda leaf: leaf.astype(narrow).astype(np.float32), (plain.params, plain.stats))
    jax.tree.map(np.testing.assert_array_equal, expected, (found.params, found.stats))
    assert narrow.__name__ in found.report[0]


def test_a_network_that_pools_otherwise_is_known_by_the_name_that_the_file_gives(files: Path) -> None:
    assert "resnetblur18" in refused(files / "blur.pth.tar")


def test_two_backbones_are_both_named(files: Path) -> None:
    said = refused(files / "moco.pth.tar")
    assert "module.encoder_q" in said and "module.encoder_k" in said
    key = load_weights(files / "moco.pth.tar", prefix="encoder_k")
    assert any("encoder_q" in line and "queue" in line for line in key.report)


def test_what_is_not_made_is_told(files: Path) -> None:
    assert any("argparse.Namespace" in line for line in load_weights(files / "mixed.pt").report)


@pytest.mark.parametrize("name", ["plain.pth", "plain_old.PTH"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_off_file(files: Path, tmp_path: Path, name: str, part: float) -> None:
    data = (files / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * part)])
    assert "fetch or export it again" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["plain.pth", "plain_old.PTH"])
def test_changed_bytes_never_raise_anything_else(files: Path, tmp_path: Path, name: str) -> None:
    data, rng = (files / name).read_bytes(), np.random.default_rng(0)
    for _ in range(25):
        changed = bytearray(data)
        for place in rng.integers(0, min(len(data), 20_000), 5):
            changed[place] = rng.integers(0, 256)
        (tmp_path / name).write_bytes(changed)
        try:
            load_weights(tmp_path / name)
        except UserError as error:
            assert "\n" not in str(error)


class Evil:
    """A pickle that would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.target)!r}, 'w').close()",)


def zipped(path: Path, pickled: bytes, parts: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in (parts or {}).items():
            archive.writestr(f"archive/data/{name}", data)
    return path


class Settings(dict):
    """What trainers keep their state in."""

    mode: str


def test_items_of_classes_that_are_dicts_are_seen() -> None:
    settings = Settings(model={"shape": [1]})
    settings.mode = "train"
    thing = unpickled(io.BytesIO(pickle.dumps(settings)))
    assert thing.name.endswith("Settings") and thing.state == [{"model": {"shape": [1]}}, {"mode": "train"}]


def test_objects_that_are_not_made_are_named_with_the_line_that_saves_tensors(tmp_path: Path) -> None:
    said = refused(zipped(tmp_path / "objects.pth", pickle.dumps({"net": Settings(), "rate": 0.1}, 2)))
    assert "Settings" in said and "torch.save(model.state_dict()" in said


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("old", [False, True])
def test_nothing_in_a_file_is_run(tmp_path: Path, protocol: int, old: bool) -> None:
    evil = pickle.dumps({"state_dict": Evil(tmp_path / "written")}, protocol)
    path = tmp_path / "evil.pth"
    path.write_bytes(evil) if old else zipped(path, evil)
    refused(path)
    assert not (tmp_path / "written").exists()
    pickle.loads(evil)  # which would have
    assert (tmp_path / "written").exists()


def bomb_of_lists() -> bytes:
    """Thirty dicts, each twice in the next: 2^30 paths."""
    return b"\x80\x02}" + b"".join(b"q%c}(X\1\0\0\0ah%cX\1\0\0\0bh%cu" % (i, i, i) for i in range(30)) + b"."


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02" + b"]" * 2**23 + b".",  # lists without end
        b"\x80\x02Nr\xff\xff\xff\xff.",  # a memo of 2^32 places
        b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a text of 2^63 bytes
        b"\x80\x02X\xff\xff\xff\xff.",
        b"\x80\x02]q\0h\0a.",  # a list within itself
        bomb_of_lists(),
        b"\x80\x02}" + b"X\1\0\0\0a}" * 10_000 + b"s" * 10_000 + b".",  # dicts in dicts
        b"\x80\x02" + b"\x85" * 10 + b".",  # nothing to make a tuple of
        b"\x80\x02\x82\x01.",
        b"cos\nsystem\n(S'true'\ntR.",
    ],
)
def test_hostile_pickles_take_neither_time_nor_memory(tmp_path: Path, pickled: bytes) -> None:
    path = zipped(tmp_path / "hostile.pth", pickled)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_names_in_a_file_are_shown_on_one_short_line(tmp_path: Path) -> None:
    names = ["a" * 10_000, "\x1b[2J\n", "\u202e"]
    texts = [b"X" + len(name.encode()).to_bytes(4, "little") + name.encode() for name in names]
    pickled = b"\x80\x02}(" + b"".join(b"K%c" % i + text + text + b"\x93" for i, text in enumerate(texts)) + b"u."
    said = refused(zipped(tmp_path / "names.pth", pickled))
    assert "aaa" in said and len(said) < 1500 and said.isprintable()


class View:
    """Pickled as a tensor of PyTorch's is."""

    def __init__(self, key: str, numel: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.key, self.numel, self.parts = key, numel, (offset, shape, stride)

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (Part(self.key, self.numel), *self.parts, False, collections.OrderedDict())


class Part(NamedTuple):
    key: str
    numel: int


def saved(path: Path, views: dict[str, View], parts: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of float32 tensors as `torch.save` writes it, with stand-ins for the names that it mentions."""
    for module, name in (("torch", "FloatStorage"), ("torch._utils", "_rebuild_tensor_v2")):
        stand_in = types.ModuleType(module)
        setattr(stand_in, name, type(name, (), {"__module__": module}))
        monkeypatch.setitem(sys.modules, module, stand_in)

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, Part):
                return "storage", sys.modules["torch"].FloatStorage, value.key, "cpu", value.numel
            return None

    data = io.BytesIO()
    Pickler(data, 2).dump(views)
    return zipped(path, data.getvalue(), parts)


@pytest.mark.parametrize(
    ("shape", "stride", "numel", "offset"),
    [
        ((2, 3, 7, 7), (147, 49, 7, 1), 294, 0),  # sound
        ((10**6, 10**6, 7, 7), (0, 0, 0, 0), 294, 0),  # one number, seen 5e13 times
        ((2, 3, 7, 7), (147, 49, 7, 1), 10**12, 10**11),  # beyond what the part holds
        ((2, 3, 7, 7), (147, 49, 7, 1), 294, -50),
        ((2, 3, 7, 7), (-147, 49, 7, 1), 294, 200),
        ((10**6, 3, 7, 7), (147, 49, 7, 1), 10**12, 0),
    ],
)
def test_a_tensor_outside_of_its_storage(
    tmp_path: Path, plain: Imported, monkeypatch: pytest.MonkeyPatch, shape: Any, stride: Any, numel: int, offset: int
) -> None:
    views, parts = {}, {}
    for key, (name, value) in enumerate(to_torchvision(plain.params, plain.stats).items()):
        if value.ndim:
            steps = tuple(step // 4 for step in value.strides)
            views[name], parts[str(key)] = View(str(key), value.size, 0, value.shape, steps), value.tobytes()
    views["conv1.weight"] = View("0", numel, offset, shape, stride)
    path = saved(tmp_path / "weights.pth", views, parts, monkeypatch)
    if offset == 0 and numel == 294 and stride[0]:
        jax.tree.map(np.testing.assert_array_equal, plain.params, load_weights(path).params)
    else:
        assert "again" in refused(path)


def test_a_compressed_archive_is_no_bomb(files: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(files / "plain.pth") as source:
        pickled = next(source.read(name) for name in source.namelist() if name.endswith("data.pkl"))
    assert "compressed" in refused(zipped(tmp_path / "bomb.pth", pickled, {"0": bytes(10**8)}, zipfile.ZIP_DEFLATED))
    assert "claims" in refused(zipped(tmp_path / "bomb.pt", b"\x80\x02" + bytes(10**8), compression=zipfile.ZIP_DEFLATED))


def safetensors_file(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        b'{"conv1.weight":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}',
        b'{"conv1.weight":{"dtype":"F32","shape":[4,4],"data_offsets":[0,16]}}',
        b"{" * 10_000,
        b"",
    ],
)
def test_headers_of_safetensors_that_lie(tmp_path: Path, header: bytes) -> None:
    refused(safetensors_file(tmp_path / "weights.safetensors", header, bytes(16)))
    (tmp_path / "huge.safetensors").write_bytes((2**62).to_bytes(8, "little") + bytes(100))
    refused(tmp_path / "huge.safetensors")


def sparse_safetensors(path: Path, arrays: dict[str, np.ndarray], more: dict[str, tuple[int, ...]]) -> Path:
    """A file of these float32 arrays, and of more, all zeros, that take no room on the disk."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in ({name: array.shape for name, array in arrays.items()} | more).items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end := end + 4 * math.prod(shape)]}
    safetensors_file(path, json.dumps(header).encode(), b"".join(array.tobytes() for array in arrays.values()))
    os.truncate(path, 8 + len(json.dumps(header)) + end)
    return path


def test_arrays_beside_a_backbone_take_no_memory(tmp_path: Path, plain: Imported) -> None:
    state = {name: value for name, value in to_torchvision(plain.params, plain.stats).items() if value.ndim}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    found = load_weights(sparse_safetensors(tmp_path / "more.safetensors", state, {"head.weight": (2**15, 2**16)}))
    jax.tree.map(np.testing.assert_array_equal, plain.params, found.params)
    last = state.pop("layer4.1.conv2.weight")
    path = sparse_safetensors(tmp_path / "huge.safetensors", state, {"layer4.1.conv2.weight": (2**13, 2**13, *last.shape[2:])})
    assert "numbers" in refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ml_dtypes.float8_e4m3fn])
def test_safetensors_of_every_precision(files: Path, tmp_path: Path, plain: Imported, dtype: Any) -> None:
    from safetensors.numpy import save

    arrays = to_torchvision(plain.params, plain.stats).items()
    state = {f"model.{name}": value.astype(dtype) for name, value in arrays if value.ndim}
    (tmp_path / "Weights.SAFETENSORS").write_bytes(save(state))
    found = load_weights(tmp_path / "Weights.SAFETENSORS")
    jax.tree.map(np.testing.assert_array_equal, (plain.params, plain.stats), (found.params, found.stats))
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "model.safetensors").write_bytes(save(state))
    assert load_weights(tmp_path / "timm").model == plain.model


def refused(path: Path, load: Callable[[Path], Any] = load_weights) -> str:
    with pytest.raises(UserError) as raised:
        load(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)
    return str(raised.value)
