# ruff: noqa: E402, F821
# %% [markdown]
# # Jigsaw clustering in a notebook
#
# Pretrains a small ResNet **without labels** on pictures that are drawn in memory, shows what the network sees, measures
# what it has learnt with a linear probe, and uses it as a function of images. A few minutes on two CPU cores; on a
# GPU or TPU the same cells use it.
#
# Method: Chen, Liu, Jia, *Jigsaw Clustering for Unsupervised Visual Representation Learning*, CVPR 2021.

# %% [install]

# %% [markdown]
# ## Parameters
# Changing one makes another run: give `WORKDIR` another name as well, for a workdir holds one run and goes on with it.

# %%
WORKDIR = os.environ.get("JIGCLU_NOTEBOOK_WORKDIR", "runs/notebook")  # @param {type:"string"}
EPOCHS = 6  # @param {type:"integer"}
PROBE_EPOCHS = 10  # @param {type:"integer"}
IMAGES = 2048  # @param {type:"integer"}
WIDTH = 0.25  # @param {type:"number"}

if TINY:
    EPOCHS, PROBE_EPOCHS, IMAGES, WIDTH = 1, 1, 128, 0.05

# %%
import jax
import numpy as np
from IPython.display import SVG, display

import jigclu_jax

print(f"jigclu_jax {jigclu_jax.__version__}, JAX {jax.__version__} on {jax.device_count()} x {jax.devices()[0].device_kind}")

# %% [markdown]
# ## Configuration
# A config is a file with `get_config(arg)`; here those of `configs/demo.py`. Fields are plain attributes. The tree is
# locked: a misspelt name or a value of another type is an error, here as on the command line.

# %%
from pathlib import Path

from jigclu_jax.config import load_config

configs = Path(jigclu_jax.__file__).parents[1] / "configs"
demo = load_config(configs / "demo.py", f"epochs={EPOCHS},probe_epochs={PROBE_EPOCHS},limit={IMAGES},width={WIDTH}")
config = demo.pretrain
config.log_every_steps = 8
config.log.tensorboard = False

try:
    config.optimizer.lerning_rate = 0.1
except AttributeError as error:
    print("refused:", str(error).splitlines()[0])
print(config.model)

# %% [markdown]
# ## What the network sees
# Every image is cut into four overlapping patches; each is augmented on its own. Then the patches of the whole batch are
# shuffled and pasted into montages. Cells of one colour come from one image.

# %%
from jigclu_jax.data.input.preview import stages
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.methods import create_method
from jigclu_jax.report.pictures import montage_sheet, patches_sheet, picture, sheet
from jigclu_jax.train.run import facts_of
from jigclu_jax.train.supply import open_supply

source = open_source(config.data, seed=config.seed)
facts = facts_of(config, source)
method = create_method(config, facts)
view = method.views[0]
first = stages(view, 0, seed=config.seed, epoch=0, example=0, image=source.read(0))
display(patches_sheet(first.image, first.regions, first.patches))
montages = jax.device_get(open_supply(config, source, method, facts, create_mesh()).first()[view.name])
display(montage_sheet(montages["image"], montages["cluster"], montages["location"], count=3))

# %% [markdown]
# ## Pretrain
# The network has to find the patches that came from one image (clustering) and to tell where each one sat (location).
# Interrupted? Run the cell again: it goes on from the last checkpoint.

# %%
from jigclu_jax.jobs import pretrain

pretrain.run(config, f"{WORKDIR}/pretrain")

# %%
from jigclu_jax.report import curves
from jigclu_jax.report.workdir_files import read_run

run = read_run(f"{WORKDIR}/pretrain")
for panel, drawing in curves.draw_curves(run.rows, curves.panels(run.specs)):
    if {"loss", "accuracy_retrieval"} & panel.series.keys():
        display(SVG(drawing))

# %% [markdown]
# ## Probe
# A linear classifier on the frozen backbone, beside one on the same backbone with random weights. Accuracies are fractions.

# %%
from jigclu_jax.jobs import probe
from jigclu_jax.train.workdir import read_result

probe_config = demo.probe
probe_config.checkpoint = f"{WORKDIR}/pretrain"
probe_config.log.tensorboard = False
probe.run(probe_config, f"{WORKDIR}/probe")

result = read_result(f"{WORKDIR}/probe")
print(f"pretrained {result['probe_top1_last']:.3f}, random weights {result['probe_top1_random_init']:.3f}")
print(f"guessing {1 / len(source.classes):.3f}")

# %% [markdown]
# ## Use the encoder
# `load_encoder` maps `uint8[b, h, w, 3]` to features `float32[b, D]`; normalising happens inside. Each row below: an
# image, then those whose features are nearest by cosine.

# %%
encoder = jigclu_jax.load_encoder(f"{WORKDIR}/pretrain")
images = np.stack([source.read(index) for index in range(min(len(source), 512))])
features = encoder(images)
print(features.shape, features.dtype)

unit = features / np.linalg.norm(features, axis=1, keepdims=True)
nearest = np.argsort(-(unit[:4] @ unit.T), axis=1)[:, :6]
pictures = [picture(images[index], 96) for index in nearest.ravel()]
display(sheet(pictures, [source.classes[source.labels[index]] for index in nearest.ravel()], columns=6))

# %% [markdown]
# ## Your own images
# Put them in a folder, any tree of folders, and start from `configs/pretrain_folder.py`; the README has the commands.

# %%
own = load_config(configs / "pretrain_folder.py", "image_size=112,epochs=30")
own.data.path = "/content/images"
# pretrain.run(own, "runs/mine")
