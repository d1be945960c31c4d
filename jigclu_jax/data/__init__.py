"""Bytes to uint8 montages and label grids, on the host; never imports JAX, and TensorFlow only inside functions."""
