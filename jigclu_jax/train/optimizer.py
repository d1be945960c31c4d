"""SGD as PyTorch computes it; the learning rate is applied by the step."""

import optax
from ml_collections import ConfigDict


def create_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Gradient -> direction: g + weight_decay * p, then v = momentum * v + g.

    The decay is coupled (it enters the momentum) and reaches every parameter, BatchNorm's and biases too, as the
    authors' `torch.optim.SGD` does. The step multiplies the direction with the learning rate of its moment.
    """
    parts = []
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay))
    if config.momentum:
        parts.append(optax.trace(config.momentum))
    return optax.chain(*parts) if parts else optax.identity()
