# ruff: noqa: E402, F821
# %% [markdown]
# # From weights to features, neighbours, a probe and an export
#
# Takes a backbone (a run of this library, or anybody's ResNet as `.pth` or `.safetensors`) and your images, and gives a vector for each
# image, images that look alike, a number that says what the vectors are worth, and files for other programs.

# %% [install]

# %% [markdown]
# ## Parameters
# `WEIGHTS`: a file, or the folder of a run. Left empty, a small backbone is trained here, a few minutes on two CPU cores.
# `IMAGES`: a folder with images in class folders, or `embedded` for pictures that are drawn here.

# %%
WORKDIR = os.environ.get("JIGCLU_NOTEBOOK_WORKDIR", "runs/features")  # @param {type:"string"}
WEIGHTS = os.environ.get("JIGCLU_NOTEBOOK_WEIGHTS", "")  # @param {type:"string"}
IMAGES = "embedded"  # @param {type:"string"}
SIDE = 48  # @param {type:"integer"}
LIMIT = 64 if TINY else 2048

# %%
import jax
import numpy as np
from IPython.display import display

import jigclu_jax
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.report.pictures import neighbours_sheet

print(f"jigclu_jax {jigclu_jax.__version__}, JAX {jax.__version__} on {jax.device_count()} x {jax.devices()[0].device_kind}")

# %% [markdown]
# ## Weights

# %%
if not WEIGHTS:
    small = {"model.width": 0.25, "data.limit": LIMIT, "log.tensorboard": False, "augment.blur_probability": 0.0}
    WEIGHTS = jigclu_jax.pretrain(f"{WORKDIR}/pretrain", IMAGES, epochs=8, batch_size=64, image_size=SIDE, settings=small).out
encoder = jigclu_jax.load_encoder(WEIGHTS)
for line in encoder.report:  # of a file: what was mapped, and what was left
    print(line)
print("vectors of", encoder.dim, "numbers; maps of", encoder.channels, "channels")

# %% [markdown]
# ## Features of every image
# `embed` writes names and vectors into one file, in parts, so that it can be stopped. `encoder(images)` is the same for arrays in
# memory: `uint8[b, h, w, 3]`.

# %%
jigclu_jax.embed(f"{WORKDIR}/embed", IMAGES, WEIGHTS, image_size=SIDE, settings={"data.limit": LIMIT})
with np.load(f"{WORKDIR}/embed/features.npz") as file:
    names, features = file["name"].tolist(), file["features"]
print(features.shape, features.dtype, names[:3])

# %% [markdown]
# ## Images that look alike
# Each row: an image, then those whose vectors are nearest by cosine. Green frames are of the same class, where there are classes.

# %%
from jigclu_jax.config import embed_config

config = embed_config()
config.data.update({"source": "embedded", "split": "train"} if IMAGES == "embedded" else {"source": "folder", "path": IMAGES, "split": ""})
config.data.limit = LIMIT
source = open_source(config.data, seed=0)
queries = [names[position] for position in range(0, len(names), max(len(names) // 4, 1))][:4]
places = {name: position for position, name in enumerate(names)}
found = [[places[near.name] for near in jigclu_jax.neighbours(f"{WORKDIR}/embed/features.npz", name, k=5)] for name in queries]
labels = source.labels if source.labels is not None else np.zeros(len(names), np.int32)
called = [source.classes[label] if source.classes else "" for label in labels]
rows = [[source.read(position) for position in row] for row in found]
same = [[bool(labels[position] == labels[places[name]]) for position in row] for name, row in zip(queries, found, strict=True)]
words = [[called[position] for position in (places[name], *row)] for name, row in zip(queries, found, strict=True)]
display(neighbours_sheet([source.read(places[name]) for name in queries], rows, same, words))
twins = jigclu_jax.near_duplicates(f"{WORKDIR}/embed/features.npz", threshold=0.999)
print(len(twins), "pairs of images that are almost the same")

# %% [markdown]
# ## What are the vectors worth?
# A linear classifier on the vectors of three quarters of the images, in closed form (ridge regression), scored on the others. For a
# figure that others can compare with call `jigclu_jax.evaluate(out, data, weights)`: it has held-out choices, intervals and random weights.

# %%
shuffled = np.random.default_rng(0).permutation(len(features))
train, test = np.split(shuffled, [3 * len(features) // 4])
standard = (features - features[train].mean(0)) / (features[train].std(0) + 1e-6)
standard = np.pad(standard, ((0, 0), (0, 1)), constant_values=1.0)  # the intercept
one_hot = np.eye(labels.max() + 1)[labels]
heads = np.linalg.solve(standard[train].T @ standard[train] + 10.0 * np.eye(standard.shape[1]), standard[train].T @ one_hot[train])
right = ((standard[test] @ heads).argmax(1) == labels[test]).mean()
print(f"linear probe: {right:.3f} of {len(test)} images, guessing {np.bincount(labels[test]).max() / len(test):.3f}")

# %% [markdown]
# ## For other programs
# torchvision's and timm's files need no JAX to read; StableHLO is the whole function, normalisation included, for CPU, CUDA and TPU.

# %%
import json
from pathlib import Path

from PIL import Image

exported = jigclu_jax.export(f"{WORKDIR}/export", WEIGHTS, formats=("torchvision", "stablehlo"))
print(sorted(path.name for path in Path(exported.out).iterdir()))
served = jax.export.deserialize(bytearray((Path(exported.out) / "stablehlo.bin").read_bytes()))
side = json.loads((Path(exported.out) / "preprocessing.json").read_text())["images"]["side"]
few_images = np.stack([np.asarray(Image.fromarray(source.read(position)).resize((side, side))) for position in range(4)])
print("largest difference to the encoder:", float(np.abs(np.asarray(served.call(few_images)) - encoder(few_images)).max()))
