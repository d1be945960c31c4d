"""How good features are: linear classifiers and baselines."""
