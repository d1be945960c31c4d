"""Where images come from: folders, TFDS, arrays, prepared shards, toy pictures; subsets of them; decoding."""
