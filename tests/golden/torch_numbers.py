"""What PyTorch and torchvision say, for tests where they are not installed.

`python tests/golden/torch_numbers.py`, with torch and torchvision, writes both files beside it: `torch_files.tar.xz`, the same narrow
ResNet-18 saved in many ways, and `torchvision_stages.npz`, places in the maps that torchvision's modules make of two pictures.
"""

import argparse
import io
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
FILES, STAGES = FOLDER / "torch_files.tar.xz", FOLDER / "torchvision_stages.npz"
ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values of an array of a state dict, by its name; such that activations neither vanish nor explode."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "weight")) and len(shape) == 1:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) == 4 else 0.1
    return (scale * rng.standard_normal(shape, np.float32)).astype(np.float32)


def pictures() -> np.ndarray:
    """uint8[2, 64, 64, 3]: smooth colours with an edge."""
    y, x = np.mgrid[:64, :64]
    planes = [128 + 100 * np.sin(x / 9 + 2 * channel) * np.cos(y / 7 - channel) for channel in range(3)]
    image = np.stack(planes, -1) + 60 * (x > 30)[..., None]
    return np.clip(np.stack([image, image[::-1, :, ::-1]]), 0, 255).astype(np.uint8)


def places(stage: np.ndarray) -> np.ndarray:
    """Some of the values of a map [b, h, w, c], evenly over all of it, and its mean and its largest."""
    flat = stage.ravel()
    return np.array([*flat[:: max(len(flat) // 60, 1)], flat.mean(), np.abs(flat).max()], np.float32)


def stages_of_torchvision(arch: str) -> list[np.ndarray]:
    """The four maps [b, h, w, c] of torchvision's module with the drawn weights."""
    import torch
    import torchvision

    model = torchvision.models.get_model(arch).eval()
    state = {name: torch.from_numpy(drawn(name, tuple(value.shape))) for name, value in model.state_dict().items() if value.ndim}
    model.load_state_dict(state, strict=False)
    x = torch.from_numpy(((pictures() / 255.0 - MEAN) / STD).astype(np.float32)).permute(0, 3, 1, 2)
    found = []
    with torch.no_grad():
        x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
            x = stage(x)
            found.append(x.permute(0, 2, 3, 1).numpy())
    return found


def _narrow(name: str, value: Any) -> Any:
    """A tensor with a thirty-second of its channels, and few different values."""
    import torch

    if not value.ndim:
        return value
    for axis in range(min(value.ndim, 2)):
        if value.shape[axis] >= 64:
            value = value.narrow(axis, 0, value.shape[axis] // 32)
    return ((torch.arange(value.numel()) + zlib.crc32(name.encode())) % 13 + 1).reshape(value.shape).float() / 8


def _files() -> Mapping[str, Any]:
    """File -> (what is saved, options of torch.save)."""
    import torch
    import torchvision

    model = torchvision.models.resnet18(num_classes=64)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        owner, _, leaf = name.rpartition(".")
        small = _narrow(name, value)
        parts = model.get_submodule(owner)
        setattr(parts, leaf, torch.nn.Parameter(small) if isinstance(value, torch.nn.Parameter) else small)
    state = model.state_dict()
    dtypes = (torch.float16, torch.bfloat16, torch.float64, torch.float32)
    mixed = {name: value.to(dtypes[i % 4]) if value.ndim else value for i, (name, value) in enumerate(state.items())}
    both = {f"module.encoder_q.{name}": value for name, value in state.items()}
    both |= {f"module.encoder_k.{name}": value + 1 for name, value in state.items()} | {"module.queue": torch.zeros(4, 4)}
    ddp = {f"module.module.{name}": value for name, value in state.items()}
    compiled = {f"_orig_mod.{name}": torch.nn.Parameter(value) if value.ndim else value for name, value in state.items()}
    sequential = torch.nn.Sequential(*list(model.children())[:-1]).state_dict()
    last = {name: value.to(memory_format=torch.channels_last) if value.ndim == 4 else value for name, value in state.items()}
    old = {"_use_new_zipfile_serialization": False}
    narrow = {dtype: {name: value.to(dtype) for name, value in state.items()} for dtype in (torch.float8_e4m3fn, torch.float8_e5m2)}
    return {
        "plain.pth": (state, {}),
        "plain_old.PTH": (state, old),
        "mixed.pt": ({"epoch": 3, "state_dict": mixed, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5)}, {}),
        "moco.pth.tar": ({"state_dict": both, "arch": "resnet18"}, old),
        "ddp.ckpt": ({"model": ddp, "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}}, {}),
        "compiled.bin": (compiled, {}),
        "sequential.ckpt": ({"state_dict": {f"backbone.{name}": value for name, value in sequential.items()}}, {}),
        "strided.pth": ({"nested": [{"teacher": last}]}, {}),
        "module.pt": (model, {}),
        "float8_e4m3fn.pth": (narrow[torch.float8_e4m3fn], {}),
        "float8_e5m2.PTH": (narrow[torch.float8_e5m2], old),
        "blur.pth.tar": ({"arch": "resnetblur18", "state_dict": state}, {}),
    }


def main() -> None:
    """Write both files."""
    import torch

    with tarfile.open(FILES, "w:xz", preset=9) as archive:
        for name, (value, options) in _files().items():
            data = io.BytesIO()
            torch.save(value, data, **options)
            info = tarfile.TarInfo(name)
            info.size = len(data.getvalue())
            archive.addfile(info, io.BytesIO(data.getvalue()))
    arrays = {f"{arch}_{i}": places(stage) for arch in ARCHITECTURES for i, stage in enumerate(stages_of_torchvision(arch))}
    np.savez_compressed(STAGES, **arrays)


if __name__ == "__main__":
    main()
