"""Fields of the evaluations on features: the fast probe, kNN, and everything on one page."""

from ml_collections import ConfigDict

from jigclu_jax.config import eval_config, source_config


def head_grid_config() -> ConfigDict:
    """Linear heads on cached features: one for each pair of a rate and a decay, all trained together (`evals/heads.py`)."""
    return ConfigDict(
        {
            "learning_rates": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
            "weight_decays": (0.0, 1e-3, 1e-2, 1e-1),
            "epochs": 100,
            "batch_size": 256,
            "momentum": 0.9,
            "standardise": True,  # features to mean 0 and deviation 1 by those of training; False: as the backbone gives them
            "held_out": 0.1,  # share of every class of the training images by which the head is chosen; never the evaluation's
            "refit": True,  # the chosen pair trained once more on all training images; False: the head that was chosen
            "checks": ("ridge", "lbfgs"),  # classifiers without a learning rate beside it
        }
    )


def knn_vote_config() -> ConfigDict:
    """k nearest neighbours by cosine (Wu et al., CVPR 2018)."""
    return ConfigDict({"neighbours": (20, 200), "temperature": 0.07})


def _features_config(job: str) -> ConfigDict:
    """Fields of every evaluation on features: which backbone, which images, where features are kept."""
    data = source_config()
    data.min_side = 1
    return ConfigDict(
        {
            "job": job,
            "seed": 0,
            "checkpoint": "",  # the workdir of a pretraining run; or
            "weights": "",  # a file of torchvision's or the authors' weights: .npz, or .pth where PyTorch is installed
            "checkpoint_which": "last",  # last | best | a step's number
            "checkpoint_weights": "params",  # params | ema: the moving averages of a run with ema_decay
            "random_init": False,  # True: also evaluate a backbone with the same architecture and random weights
            "model": {"arch": "", "stem": "", "width": 0.0, "dtype": "float32"},  # "" and 0: as the checkpoint says; else they must agree
            "data": data,  # training images, resized and cropped as eval_data says
            "eval_data": eval_config(),
            "eval_batch_size": 256,  # images a batch of the backbone's one pass
            "cache": "",  # folder for features; "": `features` beside the workdir; "none": they are not kept
            "force_config": False,
        }
    )


def fast_probe_config() -> ConfigDict:
    """A linear probe on features computed once, without augmentation."""
    config = _features_config("fast_probe")
    config.probe = head_grid_config()
    return config


def knn_config() -> ConfigDict:
    """k-nearest-neighbour accuracy of features computed once."""
    config = _features_config("knn")
    config.knn = knn_vote_config()
    return config


def evaluate_config() -> ConfigDict:
    """Everything that can be said about a backbone without training it further, on one page."""
    config = _features_config("evaluate")
    config.update(
        {
            "random_init": True,
            "probe": head_grid_config(),
            "knn": knn_vote_config(),
            "reading": {
                "queries": 8,  # evaluation images shown with their neighbours
                "neighbours": 6,
                "map_points": 2000,  # evaluation images on the map of the features
                "views": 1024,  # evaluation images whose two crops measure alignment
                "cells": 4096,  # montage cells that the location head is judged on, at least, where the run has one
            },
        }
    )
    return config


__all__ = ["evaluate_config", "fast_probe_config", "head_grid_config", "knn_config", "knn_vote_config"]
