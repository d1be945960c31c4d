# ruff: noqa: E402, F821
# %% [markdown]
# # Jigsaw clustering, with pictures
#
# What the method does with a batch, step by step: cut, shuffle, one forward pass, take apart, compare. Every picture is made by the
# library's own code.
#
# Chen, Liu, Jia, *Jigsaw Clustering for Unsupervised Visual Representation Learning*, CVPR 2021.

# %% [install]

# %%
import io

import jax
import jax.numpy as jnp
import numpy as np
from IPython.display import Image, display
from matplotlib.figure import Figure

import jigclu_jax
from jigclu_jax.config import pretrain_config
from jigclu_jax.data.input.preview import stages
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.methods import create_method
from jigclu_jax.report.pictures import montage_sheet, patches_sheet
from jigclu_jax.train.run import facts_of
from jigclu_jax.train.supply import open_supply

print(f"jigclu_jax {jigclu_jax.__version__}, JAX {jax.__version__} on {jax.device_count()} x {jax.devices()[0].device_kind}")

# %% [markdown]
# ## 1. Cut
# Every image is cut into 2 x 2 regions that overlap a little (`method.overlap`). Of each region a random crop is taken and augmented on
# its own: colours, gray, blur, mirror. These patches are all that the network will see.

# %%
config = pretrain_config()
config.batch_size = 16
config.model.update({"arch": "resnet10", "stem": "small", "width": 0.05 if TINY else 0.25})
config.data.update({"source": "embedded", "split": "train", "limit": 64 if TINY else 1024, "image_size": 64})
config.augment.blur_probability = 0.0  # these pictures are small: nothing would be left of their patterns
source = open_source(config.data, seed=config.seed)
facts = facts_of(config, source)
method = create_method(config, facts)
view = method.views[0]
first = stages(view, 0, seed=config.seed, epoch=0, example=0, image=source.read(0))
display(patches_sheet(first.image, first.regions, first.patches))

# %% [markdown]
# ## 2. Shuffle
# The patches of the whole batch are shuffled and pasted into montages as large as an image: as many montages as images, and hence one
# forward pass an image, where methods with two views need two. Frames of one colour are patches of one image; the number says which
# corner it was.

# %%
batch = jax.device_get(open_supply(config, source, method, facts, create_mesh()).first())
montages = batch[view.name]
display(montage_sheet(montages["image"], montages["cluster"], montages["location"], count=3))
print("which image of the batch each cell comes from, in the first montage:\n", montages["cluster"][0])
print("which corner of it:\n", montages["location"][0])

# %% [markdown]
# ## 3. One pass, then take apart
# The backbone sees montages. Its last feature map is resized and pooled into one vector a cell (`ops/decouple.py`), as if each patch had
# been seen alone, but with its neighbours at the border: the network has to learn where one patch ends.

# %%
params, stats, extra = method.init(jax.random.key(config.seed), facts)
outputs, _, _ = jax.jit(lambda p, s, b: method.forward(p, s, extra, b))(params, stats, batch)
print("montages", montages["image"].shape, "-> vectors", outputs["features"].shape, "-> embeddings", outputs["embeddings"].shape)

# %% [markdown]
# ## 4. Compare
# Clustering branch: embeddings of patches of one image shall be alike, those of different images not. Left: cosine of all pairs of
# patches before training, sorted by image. Right: what the loss asks for, blocks of four.

# %%
clusters = montages["cluster"].reshape(-1)
order = np.argsort(clusters, kind="stable")


def draw(matrices: dict[str, np.ndarray]) -> None:
    """Matrices side by side."""
    figure = Figure(figsize=(4.2 * len(matrices), 4), layout="constrained")
    axes = figure.subplots(1, len(matrices))
    for axis, (title, matrix) in zip(np.atleast_1d(axes), matrices.items(), strict=True):
        axis.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
        axis.set(title=title, xticks=[], yticks=[], xlabel="patches, by image")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=80)
    display(Image(data.getvalue()))


def cosines(outputs: dict[str, jax.Array]) -> np.ndarray:
    """Of all pairs of patches, float[n, n], sorted by image."""
    rows = np.asarray(outputs["embeddings"]).reshape(len(clusters), -1)[order]
    return rows @ rows.T


wanted = np.where(clusters[order][:, None] == clusters[order][None, :], 1.0, 0.0)
draw({"before training": cosines(outputs), "what is asked for": wanted})

# %% [markdown]
# ## 5. The loss, in ten lines
# For each patch (anchor): the mean, over the other patches of its image, of minus the logarithm of their share in a softmax over all
# other patches. The library computes the same in blocks, so that memory grows with the patches and not with their square.

# %%
from jigclu_jax.losses.clustering import clustering_loss

rows = np.asarray(outputs["embeddings"], np.float64).reshape(len(clusters), -1)
temperature = config.method.temperature
similarity = rows @ rows.T / temperature
np.fill_diagonal(similarity, -np.inf)  # a patch is not compared with itself
log_share = similarity - np.log(np.exp(similarity).sum(axis=1, keepdims=True))
positive = (clusters[:, None] == clusters[None, :]) & ~np.eye(len(clusters), dtype=bool)
by_hand = -np.where(positive, log_share, 0.0).sum(axis=1) / positive.sum(axis=1)
factor = temperature / config.method.base_temperature  # as in the authors' code
library = clustering_loss(jnp.asarray(rows, jnp.float32), jnp.asarray(clusters), temperature, config.method.base_temperature)
print(f"by hand {factor * by_hand.mean():.4f}, by the library {float(library):.4f}")

# %% [markdown]
# Location branch: one linear layer says from each vector which corner the patch was cut from, a cross entropy over four. Both losses are
# added.

# %%
loss, (_, metrics) = method.objective(params, outputs, extra, batch)
chance = {spec.name: spec.chance for spec in method.metrics}
for name, value in metrics.items():
    print(f"{name:20} {float(value):8.3f}   untrained and uninformed: {chance[name]:.3f}")

# %% [markdown]
# ## 6. Train, and look again
# A method is a few pure functions, so that a training step is five lines. Here it sees this one batch again and again: blocks appear on
# the diagonal once patches of one image find each other. Real training (`jigclu_jax.pretrain`) sees new crops of new images every step.

# %%
import optax

optimizer = optax.sgd(0.03, momentum=0.9)
batch = jax.tree.map(jnp.asarray, batch)


@jax.jit
def step(params, stats, state):
    """One update on the batch: new parameters, statistics and optimizer state, and the metrics."""

    def loss_of(params):
        outputs, new_stats, extra_ = method.forward(params, stats, extra, batch)
        loss, (_, metrics) = method.objective(params, outputs, extra_, batch)
        return loss, (outputs, new_stats, metrics)

    gradients, (outputs, new_stats, metrics) = jax.grad(loss_of, has_aux=True)(params)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), new_stats, state, outputs, metrics


state, seen = optimizer.init(params), []
for number in range(20 if TINY else 150):
    params, stats, state, trained, metrics = step(params, stats, state)
    seen.append({name: float(value) for name, value in metrics.items()})
    if number % 30 == 0:
        print(number, {name: round(value, 3) for name, value in seen[-1].items()})
print(f"loss from {seen[0]['loss']:.2f} to {seen[-1]['loss']:.2f}")
draw({"before training": cosines(outputs), "after": cosines(trained), "what is asked for": wanted})
