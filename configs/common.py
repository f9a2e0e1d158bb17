"""What all configurations share: the argument after the colon, and every knob with its default."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from msa_jax import models
from msa_jax.configuration import Config, block
from msa_jax.errors import ConfigError, nearest

#: What may stand after the colon beside the model's name, as key=value.
ARGUMENT_KEYS = ("fg", "task", "preset")


class Argument(NamedTuple):
    """What stands after the configuration's colon, such as ``"ufen_mtfn,fg=both,tiny"``.

    Attributes:
      model: its name; ufen_mtfn where none is given.
      pairs: fg and task, where they are given.
      preset: the data set whose hyper-parameters are asked for; "" for the configuration's own.
      tiny: small widths and two epochs, for trying things out.
    """

    model: str
    pairs: dict[str, str]
    preset: str
    tiny: bool


def parse_argument(argument: str) -> Argument:
    """Reads what stands after the colon.

    Raises:
      ConfigError: for a word that means nothing there.
    """
    model, pairs, tiny = "ufen_mtfn", {}, False
    for word in filter(None, argument.split(",")):
        key, equals, value = word.partition("=")
        if word == "tiny":
            tiny = True
        elif word in models.MODELS:
            model = word
        elif equals and key in ARGUMENT_KEYS:
            pairs[key] = value
        else:
            known = [*models.MODELS, "tiny", *(f"{k}=" for k in ARGUMENT_KEYS)]
            raise ConfigError(
                f"{word!r} after the configuration's colon is unknown; it takes {', '.join(known)}."
                f"{nearest(word, known)}"
            )
    return Argument(model, pairs, pairs.pop("preset", ""), tiny)


def data_block(name: str) -> Config:
    """Every knob of the data; a data set's own file sets what differs."""
    data = block()
    data.name = name
    data.source = "file"  # file | synthetic
    data.path = ""  # feature pickle or converted store; empty: data.root / data.file
    data.root = ""  # folder that holds the public files in their published layout
    data.file = ""  # the public file's place below data.root
    data.published = ""  # where the file is published, for the message when it is missing
    # mosi | sims: which metrics (and bins) the field reports for this set; plain: MAE, Corr, R2 and
    # concordance, for scores of any scale.
    data.metrics = "mosi"
    data.label_range = (-3.0, 3.0)
    # Names of the class labels, from class 0, like ("anger","joy"); empty: what the file says, or negative,
    # neutral and positive.
    data.class_names = ()
    # stored: the splits that the data has | by_group: train, valid and test are made of all its clips, so
    # that no group of clips lies in two of them; the file may then be one block without splits
    data.split = "stored"
    # What is a group: video, the VIDEO of ids like VIDEO$_$CLIP | id, every clip for itself | the key of a
    # column of N texts or whole numbers beside the clips, such as speaker.
    data.group = "video"
    data.split_shares = (0.7, 0.1, 0.2)  # of the clips, as nearly as whole groups allow
    data.split_seed = 0  # draws the groups
    # K: the groups are put into K folds, of which data.fold (0 to K - 1) is tested; the others are divided
    # into train and valid by their shares. 0: no folds.
    data.folds = 0
    data.fold = 0
    data.groups = block({"text": {}, "audio": {}, "vision": {}})  # name -> "first-last,..." columns
    # none | zscore_train | zscore_group. Cai et al. 2025 mention no scaling (reading A18).
    data.feature_norm = "none"
    # none | mean (audio and vision are one vector per clip) | align (averaged down to the text's
    # steps) | mean_align (align; under compat the mean, repeated, as the MMSA toolkit feeds MFN)
    data.reduce = "none"
    # k: a text encoder also reads the k utterances before a clip in its video (ids like VIDEO$_$CLIP, in
    # their order, inside the split); the clip's own states alone go on
    data.context = 0
    data.buckets = 3  # padded shapes in use; 1 pads every batch to the longest clip
    data.group_by_length = True  # batches of clips of like length; false: any clips together
    data.resident = "auto"  # auto | always | never: keep the features on the device
    data.resident_gib = 4.0  # "auto" keeps them there up to this size
    # Published shapes (steps, width) for summaries without data; training reads them from the data.
    data.expected = block(
        {"text": (50, 768), "audio": (50, 1), "vision": (50, 1), "counts": (0, 0, 0), "tasks": ("M",)}
    )
    # The generator of clips (source = synthetic).
    data.synthetic = block({"seed": 0, "counts": (1368, 456, 457), "lengths": (39, 400, 55)})
    return data


def train_block() -> Config:
    """Every knob of the training; models and data sets set what differs."""
    train = block()
    train.seed = 1111  # first of the five customary seeds 1111 to 1115
    train.epochs = 30  # at most
    train.batch_size = 32  # clips per step over all devices
    train.eval_batch_size = 64
    train.optimizer = "adam"  # adam (weight decay as L2 in the gradient) | adamw (decoupled)
    train.learning_rate = 1e-3
    train.weight_decay = 0.0
    train.fg_decay = True  # False: what model.fg brings (the groups' sub-networks, attention) does not decay
    train.clip_norm = 1.0  # global norm; 0: off
    train.clip_value = 0.0  # each element; 0: off
    train.warmup_epochs = 0.0  # linear from 0
    train.schedule = "constant"  # constant | linear | cosine (to 0 at the last epoch) | plateau
    train.plateau_factor = 0.1
    train.plateau_patience = 5  # epochs without improvement before the rate falls
    train.accumulate = 1  # batches per update; gradients are averaged (compat: summed, rest dropped)
    train.monitor = "mae"  # validation score that picks the epoch: loss or any metric of the set
    train.min_delta = 0.0  # smallest change that counts as better
    train.patience = 8  # epochs without improvement before stopping; 0: never
    train.precision = "float32"  # float32 | bfloat16: arithmetic of the model; parameters stay float32
    # Steps per program on the device. 0: 8, but 1 on a CPU, where XLA runs what is inside a loop on
    # a single core and a call costs little.
    train.chunk_steps = 0
    # What training clips lose, anew in every step: none | frames (and words, one by one) | blocks (one of
    # words, one of frames) | modalities (as a whole; one stays). Validation clips stay whole.
    train.corrupt = "none"
    train.corrupt_rates = (0.0, 0.5)  # every clip and modality draws its rate between them
    train.corrupt_modalities = ("text", "audio", "vision")
    train.placeholder = "zero"  # zero | mean | learned: what the model reads where something was lost
    train.checkpoint_steps = 0  # extra checkpoints inside an epoch; 0: only at its end
    train.devices = 0  # 0: all
    # Parameters with settings of their own, by path: {name: {"paths": "unimodal/text/*",
    # "learning_rate": ..., "weight_decay": ...}}. Where patterns of several match, the longest counts.
    train.groups = block({})
    # Also record the test scores of every epoch, to say beside the result what published tables say that
    # report the best test epoch. It picks no model and stops nothing.
    train.watch_test = False
    train.tensorboard = False  # also write event files (needs the [tensorboard] extra)
    # Who else gets the rows of metrics.jsonl, names with commas between: tensorboard (the same event files) |
    # trackio (needs the [track] extra). All of them write into the run's folder and need no network.
    train.trackers = ""
    return train


def build(data: Config, argument: str, preset: str) -> Config:
    """The whole configuration of a data set for the model and variant that ``argument`` names.

    Args:
      data: the data block.
      argument: see :class:`Argument`.
      preset: the data set whose hyper-parameters the model takes, unless ``argument`` names another:
        "mosi", "mosei" or "sims". Data of your own takes those of the set that it is most like.

    Raises:
      ConfigError: for an unknown word or preset.
    """
    asked = parse_argument(argument)
    chosen = asked.preset or preset
    model, declared = models.block(asked.model, chosen), models.declaration(asked.model)
    config = block({"preset": chosen, "data": data, "model": model, "train": train_block()})
    _change(config.train, models.preset(asked.model, chosen).train, "train")
    _change(config.data, declared.data, "data")
    if data.source == "synthetic" and "text_encoder" in config.model:
        config.model.text_encoder = "frozen"  # generated clips have no words for an encoder to read
    config.model.update(asked.pairs)
    if asked.tiny:
        _change(config.model, declared.tiny, "model")
        config.train.update({"epochs": 2, "batch_size": 8, "eval_batch_size": 8})
        config.data.synthetic.update({"counts": (48, 16, 16), "lengths": (12, 24, 14)})
        config.data.buckets = 2
    return config


def _change(part: Config, values: Mapping[str, Any], name: str) -> None:
    """Sets what a model's file says; a key of its own there would change nothing without a word."""
    for key in values:
        if key not in part:
            raise ConfigError(f"a model sets {name}.{key}, and there is no such key.{nearest(key, part)}")
    part.update(values)
