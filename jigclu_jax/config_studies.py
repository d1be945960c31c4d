"""Fields of the jobs that train more than once, or look at several runs: fine-tuning with its search, ablations, comparisons."""

from ml_collections import ConfigDict

from jigclu_jax.config import crop_augment_config, eval_config, pipeline_config, pretrain_config, run_config, saving_config
from jigclu_jax.config_evals import fast_probe_config


def finetune_config() -> ConfigDict:
    """Backbone and a new classifier trained together from a pretrained backbone; the search is off, the schedule the authors' 1 % one."""
    config = run_config("finetune")
    data = pipeline_config()
    data.grid = 1
    data.min_side = 1
    config.update(
        {
            "method": "supervised",
            "init": "checkpoint",  # where the backbone starts: checkpoint | weights | random
            "checkpoint": "",  # init checkpoint: the workdir of a pretraining run
            "checkpoint_which": "last",  # last | best
            "checkpoint_weights": "params",  # params | ema: the moving averages of a run with ema_decay
            "weights": "",  # init weights: a file with the state dict of a torchvision ResNet (.npz, .pth)
            "saving": saving_config("finetune_top1"),
            "model": {"arch": "", "stem": "", "width": 0.0, "dtype": "float32", "remat": False},  # "" and 0: as the checkpoint
            "data": data,
            "augment": crop_augment_config(),
            "eval_data": eval_config(),
            "eval_batch_size": 256,
            "eval_every_epochs": 1,
            "epochs": 100,
            "head_multiplier": 1.0,  # the classifier's learning rate is that many times the backbone's
            "schedule_as": "meant",  # meant | coded: in the authors' code the classifier's own rate is overwritten and never acts
            "held_out": 0.0,  # > 0: that share of every class is kept from training, and accuracies are measured on it, not on eval_data
            "search": {
                "learning_rates": (),  # every pair of these two is tried on a held-out part; empty: the optimizer's own value
                "weight_decays": (),
                "held_out": 0.1,  # share of every class that the trials keep from training, to choose by
                "epochs": 0,  # of a trial; 0: as many as the final run
            },
            "controls": "",  # the same from other starts, beside it: "random", "weights", or "random,weights"
        }
    )
    config.optimizer.update({"learning_rate": 0.02, "weight_decay": 0.0, "schedule": "step", "milestones": (30, 60, 90)})
    return config


def ablation_config() -> ConfigDict:
    """A table of the paper's ablations: every row pretrained with every seed, and judged; the images are the same for all of them."""
    pretrain, judge = pretrain_config(), fast_probe_config()
    pretrain.data.subset_seed = judge.data.subset_seed = judge.eval_data.subset_seed = 0
    judge.cache = "none"
    judge.probe.checks = ()
    return ConfigDict(
        {
            "job": "ablation",
            "table": "montage",  # montage | augmentation | grid | overlap | branches | weights
            "seeds": (0, 1, 2),  # more may be added later: what is finished stays
            "pretrain": pretrain,  # of the table's first row; the others change some of its fields
            "judge": judge,  # how good a backbone is; checkpoint, seed and, where it names none, images are filled in
            "figure": "probe_top1_last",  # field of the judge's result.json that the table is made of
            "force_config": False,
        }
    )


def compare_config() -> ConfigDict:
    """Any number of runs side by side."""
    return ConfigDict(
        {
            "job": "compare",
            "runs": "",  # workdirs with commas between them; a * stands for any name
            "force_config": False,
        }
    )


__all__ = ["ablation_config", "compare_config", "finetune_config"]
