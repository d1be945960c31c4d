"""NT-Xent, the normalised temperature-scaled cross entropy of SimCLR, in memory linear in the number of crops."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jigclu_jax.losses.clustering import clustering_loss


def nt_xent(embeddings: Float[Array, "b 2 d"], temperature: float) -> Float[Array, ""]:
    """Mean over all 2 b crops i of -log (exp(s_ip / T) / sum over a != i of exp(s_ia / T)), p the other crop of the image.

    s is the dot product of `embeddings` (unit rows), T is `temperature`. Negatives are both crops of all other images of the global batch.
    With one positive each this is the clustering loss without its factor. The authors' code adds up the means over first and over second
    crops, which is twice this.
    Source: Chen et al. 2020, equation 1.
    """
    image = jnp.repeat(jnp.arange(len(embeddings)), 2)
    return clustering_loss(embeddings.reshape(len(image), -1), image, temperature, temperature)
