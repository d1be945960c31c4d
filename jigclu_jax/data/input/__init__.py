"""Makes batches of a source's images: order, layout, the tf.data pipeline, the streams of cells and of indices, evaluation images."""
