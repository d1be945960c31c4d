"""Evaluations of features: linear classifiers, neighbours, measures of spread, baselines, intervals."""
