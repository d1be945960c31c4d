"""A folder given to an evaluation needs no preset: that of folders takes the place of the one that was not chosen."""

import pytest

from jigclu_jax.config import load_config
from jigclu_jax.data.sources.presets import PRESETS, folder_in_place_of_preset
from jigclu_jax.errors import UserError


@pytest.mark.parametrize("name", ["evaluate", "fast_probe", "knn"])
def test_a_path_without_a_preset_is_a_folder(name: str) -> None:
    config = load_config(f"configs/{name}.py")
    assert folder_in_place_of_preset(config) == config and config.data.source == "tfds"
    config.data.path = "/data/flowers"
    found = folder_in_place_of_preset(config)
    assert found.data.path == "/data/flowers" and found.data.source == "folder" and found.data.name == ""
    preset = PRESETS["folder"]
    assert (found.data.split, found.eval_data.split) == (preset.train, preset.test)
    assert (found.eval_data.resize, found.eval_data.crop) == (preset.resize, preset.crop)
    assert folder_in_place_of_preset(found) == found


def test_sizes_that_were_chosen_stay_and_a_file_of_arrays_is_one() -> None:
    config = load_config("configs/knn.py", "resize=128,crop=112")
    config.data.path = "medmnist.NPZ"
    found = folder_in_place_of_preset(config)
    assert (found.data.source, found.eval_data.resize, found.eval_data.crop) == ("arrays", 128, 112)


@pytest.mark.parametrize(
    ("group", "field", "value"), [("data", "source", "arrays"), ("eval_data", "split", "val"), ("data", "split", "all")]
)
def test_what_was_chosen_stays(group: str, field: str, value: object) -> None:
    config = load_config("configs/knn.py")
    config.data.path = "set"
    config[group][field] = value
    assert folder_in_place_of_preset(config) == config


def test_a_method_has_the_same_recipes_for_the_usual_sets() -> None:
    folder = load_config("configs/pretrain_simclr.py", "preset=folder,image_size=112")
    assert (folder.data.source, folder.data.split, folder.data.image_size) == ("folder", "", 112)
    assert (folder.online.eval_data.resize, folder.online.eval_data.crop) == (128, 112)
    cifar = load_config("configs/pretrain_simclr.py", "preset=cifar10,batch_size=64,epochs=3,width=0.25,bfloat16")
    assert (cifar.data.source, cifar.data.name, cifar.online.eval_data.split) == ("tfds", "cifar10", "test")
    assert (cifar.batch_size, cifar.epochs, cifar.model.arch, cifar.model.dtype) == (64, 3, "resnet18", "bfloat16")
    with pytest.raises(UserError, match=r"preset=cifar100 .*imagenet"):
        load_config("configs/pretrain_simclr.py", "preset=cifar100")
