"""The page of each job: its title, its sections in order, and what captions and labels say. One generator makes them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from etils import epath

from jigclu_jax.errors import counted
from jigclu_jax.report import page
from jigclu_jax.report import sections as part
from jigclu_jax.report.page import Block, Fraction, Row, Table, Text, format_interval
from jigclu_jax.report.workdir_files import REPORT_FILE, Run, read_run
from jigclu_jax.train.progress import duration

_LOOK_AGAIN = 30  # seconds


@dataclass(frozen=True)
class JobPage:
    """What the page of a job shows.

    Attributes:
      title: its heading.
      sections: (heading, text above it, builder) in order; a section without blocks is left out.
      labels: the accuracies of its result; the first that is there is the value that the page begins with.
      configs: title of a further configuration -> the folder that it lies in.
    """

    title: str
    sections: Sequence[tuple[str, str, part.Builder]]
    labels: part.Labels = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)


def write_page(workdir: epath.PathLike, *, live: bool = False) -> epath.Path:
    """Writes `DIR/report.html` from the files of a workdir, finished or not; returns its path. A browser loads a live one now and then."""
    run = read_run(workdir)
    job = JOBS.get(run.config.get("job") or run.result.get("job") or "", JOBS["pretrain"])
    sections = [(title, part.with_text(text, builder(run))) for title, text, builder in job.sections]
    configs = {title: run.inner(folder).config for title, folder in job.configs.items()}
    summary, notices = _finding(run, job.labels)
    about = part.describe(run.config.get("pretrain") or run.config)
    made = page.Page(
        job.title,
        [*sections, *part.ending(run, configs)],
        f"{summary}{about}",
        [*notices, *_oddities(run)],
        part.footer(),
        _LOOK_AGAIN if live else 0,
    )
    return page.write(run.root / REPORT_FILE, made)


def _finding(run: Run, labels: part.Labels) -> tuple[str, list[str]]:
    """The result in a sentence, whichever way it went, and what a reader must be told of it: of the first label that has any, the best."""
    found = next(filter(None, (part.find_accuracies(run.result, {pattern: label}) for pattern, label in labels.items())), None)
    if found is None:
        return "", []
    best = max(found, key=lambda one: one.own[0])
    own, ends = best.own
    if best.random is None:
        return f"{Fraction(own)} {best.label}. ", []
    random, others = best.random
    summary = f"{Fraction(own)} {best.label}; with random weights {Fraction(random)}. "
    if own <= random:
        return summary, [f"Random weights do as well or better: {Fraction(random)} against {Fraction(own)}. {_NOT_TRAINED}"]
    return summary, [_NOT_RESOLVED] if ends and others and ends[0] <= others[1] else []


def _oddities(run: Run) -> list[str]:
    """What the run itself found odd."""
    unfinished = ["This run has not finished: what stands here is what it has reached."] if run.config and not run.result else []
    skipped = run.result.get("images_skipped")
    left_out = [f"{counted(skipped, 'image')} left out, which could not be read."] if isinstance(skipped, int) and skipped else []
    return [*unfinished, *left_out, *(f"{line}." for line in run.result.get("oddities") or ())]


def _yardsticks(run: Run) -> list[Block]:
    """Linear probes on other features, the run's own first."""
    results, intervals = run.result.get("probe_top1") or {}, run.result.get("probe_top1_interval") or {}
    ends = {name: format_interval(intervals.get(name)) for name in results}
    fractions = {name: None if fraction is None else Fraction(fraction) for name, fraction in results.items()}
    rows: list[Row] = [(name, fractions[name], ends[name], _NOTES.get(name, "")) for name in results]
    return part.table(("features", "top-1", "95 % interval", ""), rows, best=0)


def _times(run: Run) -> list[Block]:
    return part.table(("part", "time"), [(name, duration(seconds)) for name, seconds in (run.result.get("seconds_by_step") or {}).items()])


def _search(run: Run) -> list[Block]:
    """The trials of a search with their accuracy on the held-out part, the chosen one marked."""
    trials, chosen = run.result.get("search") or [], run.result.get("chosen") or {}
    rows: list[Row] = []
    for trial in trials:
        value = "diverged" if trial["top1"] is None else Fraction(trial["top1"])
        rows.append((f"{trial['learning_rate']:g}", f"{trial['weight_decay']:g}", value, format_interval(trial.get("top1_interval"))))
    best = next((number for number, trial in enumerate(trials) if chosen and chosen.items() <= trial.items()), None)
    return part.table(("learning rate", "weight decay", "top-1, held-out part of train", "95 % interval"), rows, best)


def _heads(run: Run) -> list[Block]:
    """The grid of linear heads on the held-out part of train, rates down, decays across."""
    found = {(head["learning_rate"], head["weight_decay"]): head["held_out_top1"] for head in run.result.get("heads") or ()}
    if not found:
        return []
    rates, decays = (sorted(set(values)) for values in zip(*found, strict=True))
    rows: list[Row] = [(f"{rate:g}", *(Fraction(found[rate, decay], bar=False) for decay in decays)) for rate in rates]
    head = run.result["head"]
    rate, decay, interval = head["learning_rate"], head["weight_decay"], format_interval(head.get("held_out_top1_interval"))
    text = f"Accuracy on the held-out part of the training images, by which rate {rate:g} and weight decay {decay:g} were chosen: "
    text += f"{Fraction(head['held_out_top1'])}" + (f", 95 % interval {interval}." if interval else ".")
    if len(found) > 1 and (rate in (rates[0], rates[-1]) or decay == decays[-1]):
        text += " They lie on the grid's edge: a wider grid may do better."
    return [Text(text), Table(("learning rate", *(f"decay {decay:g}" for decay in decays)), rows, rates.index(rate))]


def _crops(run: Run) -> list[Block]:
    """Accuracies on features of one view, and beside them those on features averaged over crops."""
    averaged = run.result.get("crops") or {}
    single = {one.label: one.own for one in part.find_accuracies(run.result, _FEATURES)}
    rows: list[Row] = []
    for one in part.find_accuracies(averaged, _FEATURES):
        (value, ends), (mean, mean_ends) = single[one.label], one.own
        rows.append((one.label, Fraction(value), format_interval(ends), Fraction(mean), format_interval(mean_ends)))
    return part.table(("evaluation", "one view", "95 % interval", f"mean of crops, {averaged.get('count')}", "95 % interval"), rows)


def _classes(run: Run) -> list[Block]:
    """Accuracy of every class that has images."""
    counts = [sum(row) for row in run.result.get("confusion") or () if sum(row)]
    fractions, intervals = run.result.get("class_top1") or {}, run.result.get("class_top1_interval") or {}
    rows: list[Row] = []
    for (name, fraction), count in zip(fractions.items(), counts, strict=False):
        rows.append((name, str(count), Fraction(fraction), format_interval(intervals.get(name))))
    return part.table(("class", "images", "accuracy", "95 % interval"), rows)


_NOT_TRAINED = (
    "These weights are not trained enough to be of use here. Train for more epochs or on more images, and look at the curves of training:"
    " where the loss stays at the line “nothing learned”, lower the learning rate, or look at the pictures of the input."
)
_NOT_RESOLVED = (
    "The intervals of the trained weights and of random weights overlap: these evaluation images cannot tell the two apart. More images to"
    " evaluate on, or a longer training, would."
)
_BOOTSTRAP = " The interval is the 95 % bootstrap over these images; it says nothing about other seeds."
_LINES = "Lines across are what a network reaches that has learned nothing: the loss if nothing is told apart, the accuracy of guessing."
_SEEN = {
    "montages": "Montages as the network sees them, enlarged by a whole factor. Every cell is outlined in the colour of the image that it"
    " was cut from, so patches of one colour belong together; the position is its place in the image (column by column, from the top).",
    "views": "The crops of some images as the network sees them, a row an image.",
    "patches": "One image: the overlapping boxes, the plain crops, and the patches after augmentation.",
    "places": "The patches of that image with the same random numbers, made in each of the three places that data.augment can name (host is"
    " missing where TensorFlow is). Below each row: the mean difference from the first.",
}
_CONFUSION = {"confusion": "Of the images of the class in the row, per cent that the linear head took for the class in the column."}
_NEIGHBOURS = {
    "neighbours": "Left, an evaluation image; beside it the training images nearest by cosine, green of the same class, red of another."
}
_MAP = {"map": "Features of evaluation images along their first two principal components."}
_PRETEXT = {
    "pretext": "Of the crops with an answer (row), per cent that the pretraining's own head put at each answer (column), on evaluation"
    " images, augmented as in pretraining. A position is column * m + row."
}
_FEATURES = {
    "probe_top1_last": "top-1, linear heads, best of the grid",
    "probe_top5_last": "top-5, linear heads, best of the grid",
    "ridge_top1": "top-1, ridge regression",
    "lbfgs_top1": "top-1, logistic regression (L-BFGS)",
    r"knn_top1_([a-z]+)_(\d+)": "top-1, kNN, {0} vote, k = {1}",
    r"([a-z]+)_top1": "top-1, {0} head of the pretraining",
}
_SPREAD = {
    "rank_features": "effective rank, features",
    "uniformity_features": "uniformity, features",
    "alignment_features": "alignment, features of two crops of an image",
    "rank_embeddings": "effective rank, embeddings of montage cells",
    "uniformity_embeddings": "uniformity, embeddings of montage cells",
    "alignment_embeddings": "alignment, embeddings of cells of one image",
}
_SPREAD_TEXT = (
    "Effective rank (RankMe) counts the directions that the features use; near 1 they have collapsed. Uniformity is 0 where all features"
    " are one and about -4 where they are spread evenly over the sphere; alignment is 0 where two views of an image give one feature."
)
_CROPS_TEXT = (
    "Features averaged over several random crops of every image, of training and of evaluation, give other accuracies than those of one"
    " view: compare either column with figures of its own kind alone."
)
_ABOUT = {
    "backbone": "backbone",
    "classes": "classes",
    "train_images": "training images",
    "test_images": "evaluation images",
    "images_skipped": "images left out",
    "backbone_digest": "SHA-256 of the weights",
}
_PROBE = {"probe_top1_last": "top-1, last epoch", "probe_top1_best": "top-1, best epoch", "probe_top5_last": "top-5, last epoch"}
_PROBE_TEXT = (
    "A linear classifier on the features of the frozen backbone, trained with labels. The last epoch's value is the one to compare; the"
    " best epoch is chosen on the validation images themselves and so flatters a little, yet it is what papers report."
)
_FINETUNE = {name.replace("probe", "finetune"): label for name, label in _PROBE.items()}
_FINETUNE_TEXT = (
    "Backbone and classifier are trained together. The last epoch's value is the one to compare; where accuracies were measured after"
    " several epochs, the best one is chosen on these images themselves and so flatters a little."
)
_STARTS = {"checkpoint": "pretrained backbone", "weights": "imported weights", "random": "from scratch"}
_SEARCH_TEXT = (
    "Each row is a run of its own on the same part of the training images, judged on the rest of them; the final run sees all training"
    " images, with the values of the best row, and looks at the evaluation images once."
)
_YARDSTICKS_TEXT = "Each row is one linear classifier, trained with labels on other features of the same training images."
_NOTES = {
    "JigClu pretraining": "frozen backbone, pretrained without labels",
    "random initialisation": "frozen backbone, never trained",
    "trained with labels": "frozen backbone, trained on the labels first",
    "raw pixels": "no backbone",
    "colour histogram": "no backbone",
    "chance": "guessing",
}
_EVALUATION = (
    ("Accuracy", "Accuracy on the evaluation images, which no choice has seen." + _BOOTSTRAP, part.accuracies("evaluation", _FEATURES)),
    ("Features averaged over crops", _CROPS_TEXT, _crops),
    ("Heads", "", _heads),
    ("Spread of the features", _SPREAD_TEXT, part.numbers(_SPREAD)),
    ("Classes", "", part.together(part.pictures(_CONFUSION), _classes)),
    ("Nearest neighbours", "", part.pictures(_NEIGHBOURS)),
    ("Map of the features", "", part.pictures(_MAP)),
    ("Where the head of the pretraining is wrong", "", part.pictures(_PRETEXT)),
    ("The evaluation", "", part.facts(_ABOUT)),
)
JOBS: dict[str, JobPage] = {
    "pretrain": JobPage(
        "Pretraining",
        (
            ("Outcome", "", part.together(part.last_values, part.facts())),
            ("Curves", _LINES, part.drawn_curves),
            ("What the network sees", "", part.pictures(_SEEN)),
        ),
    ),
    "probe": JobPage(
        "Linear probe",
        (
            ("Accuracy", _PROBE_TEXT + _BOOTSTRAP, part.accuracies("validation images", _PROBE)),
            ("Curves", "", part.drawn_curves),
            ("The run", "", part.facts()),
        ),
        _PROBE,
    ),
    "finetune": JobPage(
        "Fine-tuning",
        (
            ("Accuracy", _FINETUNE_TEXT + _BOOTSTRAP, part.accuracies("start", _FINETUNE, _STARTS)),
            ("Search", _SEARCH_TEXT, _search),
            ("Curves", "", part.drawn_curves),
            ("The run", "", part.facts({"held_out": "held-out part of train, on which accuracies are measured"})),
        ),
        _FINETUNE,
    ),
    "fast_probe": JobPage("Linear probe on cached features", _EVALUATION, _FEATURES),
    "knn": JobPage("Nearest neighbours", _EVALUATION, _FEATURES),
    "evaluate": JobPage("Evaluation", _EVALUATION, _FEATURES),
    "demo": JobPage(
        "Jigsaw clustering, the demo",
        (
            ("Linear probes", _YARDSTICKS_TEXT + _BOOTSTRAP, _yardsticks),
            ("What the network sees", "", part.within("pretrain", part.pictures(_SEEN))),
            ("Pretraining", _LINES, part.within("pretrain", part.together(part.drawn_curves, part.last_values, part.facts()))),
            ("The probe", "", part.within("probe", part.drawn_curves)),
            ("Time", "", _times),
        ),
        {"probe_top1_last": "top-1 in a linear probe of the backbone that was pretrained without labels"},
        {"Configuration of the pretraining": "pretrain", "Configuration of the probe": "probe"},
    ),
}
