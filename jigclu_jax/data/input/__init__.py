"""From a source to batches: order, schedule, the tf.data pipeline, the streams of cells and of indices, evaluation images."""
