"""Image sources: folders, TFDS, arrays, prepared shards, toy pictures; subsets of them; decoding."""
