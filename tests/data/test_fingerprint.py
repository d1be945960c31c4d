"""The key of a set of images: the same for every spelling of its path."""

from pathlib import Path

import pytest
from PIL import Image

from jigclu_jax.config import source_config
from jigclu_jax.data.sources.fingerprint import fingerprint
from jigclu_jax.data.sources.opening import open_source


def test_one_folder_has_one_fingerprint_however_its_path_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        path = tmp_path / "set" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = source_config()
    config.split = ""

    def print_of(path: str, limit: int) -> str:
        config.path, config.limit = path, limit
        return fingerprint(open_source(config), config)

    for limit in (0, 2):
        paths = (str(tmp_path / "set"), f"{tmp_path}/set/", "set", "./set", "set/", f"../{tmp_path.name}/set", "~/set")
        prints = {print_of(path, limit) for path in paths}
        assert len(prints) == 1
    (tmp_path / "other").symlink_to("set")
    assert print_of("other", 2) not in prints
