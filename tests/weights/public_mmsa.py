"""The public classes of the PyPI package MMSA: built from a golden file's settings, and their losses.

Its __init__ imports everything that the toolkit can do; here its model files are loaded one by one.
"""

import importlib
import importlib.metadata
import importlib.util
import pathlib
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import numpy as np
import pytest

VERSION = "2.2.1"
_ALIAS = "public_mmsa_files"
#: Our name of a model -> the module that defines the class of the same name.
CLASSES = {
    "ef_lstm": "models.singleTask.EF_LSTM",
    "lf_dnn": "models.singleTask.LF_DNN",
    "tfn": "models.singleTask.TFN",
    "lmf": "models.singleTask.LMF",
    "mfn": "models.singleTask.MFN",
    "graph_mfn": "models.singleTask.Graph_MFN",
    "mfm": "models.singleTask.MFM",
    "mult": "models.singleTask.MULT",
    "mctn": "models.singleTask.MCTN",
    "mlf_dnn": "models.multiTask.MLF_DNN",
    "mtfn": "models.multiTask.MTFN",
    "mlmf": "models.multiTask.MLMF",
    "misa": "models.singleTask.MISA",
    "self_mm": "models.multiTask.SELF_MM",
    "mmim": "models.singleTask.MMIM",
}
#: Those whose classes can be trained on classes.
WITH_CLASSES = tuple(name for name in CLASSES if name not in ("self_mm", "mmim", "mctn"))

Arrays = Mapping[str, np.ndarray]


class Settings(dict):
    """What MMSA passes around: keys that are attributes as well."""

    __getattr__ = dict.__getitem__


def require() -> Any:
    """PyTorch; skips the test where it or the package is absent."""
    torch = pytest.importorskip("torch")
    try:
        version = importlib.metadata.version("MMSA")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs the public classes: pip install --no-deps MMSA=={VERSION} transformers")
    if version != VERSION:
        pytest.skip(f"needs MMSA {VERSION}, not {version}")
    pytest.importorskip("transformers")
    return torch


def public_class(place: str) -> Any:
    """The class of a module below MMSA, such as "models.singleTask.TFN"."""
    spec = importlib.util.find_spec("MMSA")
    assert spec
    assert spec.submodule_search_locations
    root = pathlib.Path(spec.submodule_search_locations[0])
    folders = ("", "models", "models/singleTask", "models/multiTask", "trains", "trains/singleTask")
    for folder in folders:
        name = ".".join([_ALIAS, *filter(None, folder.split("/"))])
        if name not in sys.modules:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [str(root / folder)]
    # A trainer's metrics and log lines, which nothing here reads.
    unread = types.ModuleType(f"{_ALIAS}.utils")
    vars(unread).update(MetricsTop=mock.MagicMock(), dict_to_str=str)
    sys.modules.setdefault(unread.__name__, unread)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(f"{_ALIAS}.{place}")
    return getattr(module, place.rsplit(".", 1)[1])


def build(name: str, meta: Mapping[str, Any], folder: pathlib.Path) -> Any:
    """A model of the public class with a file's settings, without dropout, in training mode.

    Args:
      name: our name of it.
      meta: the file's.
      folder: where a tiny text encoder may be put.
    """
    import torch

    quiet = _without_dropout({**meta["config"], "device": "cpu", "seq_lens": meta["seq_lens"]})
    if name == "ef_lstm":
        quiet["seq_lens"] = meta["seq_lens"][0]
    if "bert" in meta:
        quiet["pretrained"] = _encoder_folder(meta["bert"], folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = public_class(CLASSES[name])(quiet)
    if name == "mctn":  # the class takes every machine for one with a GPU
        model.seq2seq1.device = model.seq2seq2.device = "cpu"
    if name == "misa":  # the class takes every encoder for a BERT-base
        model.project_t.project_t = torch.nn.Linear(meta["bert"]["hidden_size"], quiet["hidden_size"])
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        elif isinstance(part, torch.nn.MultiheadAttention):
            part.dropout = 0.0
    return model.train()


def _without_dropout(settings: Mapping[str, Any]) -> Settings:
    def quiet(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return _without_dropout(value)
        if "drop" not in key:
            return value
        return [0.0] * len(value) if isinstance(value, list) else 0.0

    return Settings({key: quiet(key, value) for key, value in settings.items()})


def _encoder_folder(sizes: Mapping[str, Any], folder: pathlib.Path) -> str:
    """A random BERT of the given sizes as MMSA loads one from a folder."""
    import transformers

    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))
    own = {k: v for k, v in sizes.items() if k not in ("hidden_act", "position_embedding_type")}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.BertModel(transformers.BertConfig(**own, **quiet)).save_pretrained(folder)
        transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


def load(model: Any, arrays: Arrays) -> None:
    """Puts a golden file's weights into a public model, Graph-MFN's own networks included."""
    import torch

    def part(folder: str) -> dict[str, Any]:
        found = {k.removeprefix(folder): torch.tensor(a) for k, a in arrays.items() if k.startswith(folder)}
        return found

    model.load_state_dict(part("state/"))
    for name, x in part("state_unregistered/").items():
        key, _, rest = name.removeprefix("graph_mfn.networks.").partition(".")
        network = model.graph_mfn.networks[_network_key(model, key)]
        with torch.no_grad():
            dict(network.named_parameters())[rest].copy_(x)


def _network_key(model: Any, key: str) -> Any:
    """Graph-MFN names a network by a tuple of numbers."""
    wanted = tuple(int(n) for n in key.split("_"))
    return next(k for k in model.graph_mfn.networks if tuple(k) == wanted)


def outputs_of(model: Any, name: str, arrays: Arrays, **more: Any) -> dict[str, Any]:
    """What the class returns for a file's inputs."""
    import torch

    inputs = {k.removeprefix("in/"): torch.tensor(a) for k, a in arrays.items() if k.startswith("in/")}
    text = inputs["text_bert"] if "text_bert" in inputs else inputs["text"]
    audio, vision = inputs["audio"], inputs["vision"]
    if name in ("self_mm", "mmim"):
        audio, vision = (audio, inputs["audio_lengths"]), (vision, inputs["vision_lengths"])
    if name == "mfm":  # whose noise is the file's
        with mock.patch("torch.randn", side_effect=[inputs[f"gauss_{letter}"] for letter in "lavy"]):
            score, *more_losses, _ = model(text, audio, vision)
        return {"M": score, "losses": more_losses}
    if name == "mctn":
        loss, score = model(text, audio, vision, lengths=None, **more)
        return {"M": score, "loss": loss}
    return model(text, audio, vision, **more)


def loss_of(name: str, meta: Mapping[str, Any]) -> Callable[[Any, Arrays], Any]:
    """The loss that MMSA trains a class by: (model, arrays of a batch) -> scalar.

    For Self-MM in the first epoch, where each modality's label is still the clip's, and their weights,
    tanh of the distance between the two, are 0.
    """
    import torch

    config = Settings({"use_cmd_sim": True, "dataset_name": "", **meta["config"]})
    classes = config.train_mode == "classification"
    error = torch.nn.CrossEntropyLoss() if classes else torch.nn.L1Loss()

    def label(arrays: Arrays, task: str) -> Any:
        stem = "in/labels_class" if classes else "in/labels"
        y = torch.tensor(arrays[stem if task == "M" else f"{stem}_{task}"])
        return y if classes else y[:, None]

    if name == "misa":
        trainer = public_class("trains.singleTask.MISA")(config)

        def misa(model: Any, arrays: Arrays) -> Any:
            trainer.model = types.SimpleNamespace(Model=model)
            loss = trainer.criterion(outputs_of(model, name, arrays)["M"], label(arrays, "M"))
            loss = loss + config.diff_weight * trainer.get_diff_loss()
            return (
                loss
                + config.sim_weight * trainer.get_cmd_loss()
                + config.recon_weight * trainer.get_recon_loss()
            )

        return misa
    if name == "mmim":
        return _mmim_loss(config, label)
    if name == "mctn":
        return lambda model, arrays: outputs_of(model, name, arrays, tar=label(arrays, "M"))["loss"]
    if name == "mfm":

        def mfm(model: Any, arrays: Arrays) -> Any:
            outputs = outputs_of(model, name, arrays)
            gen, mmd = outputs["losses"]
            return error(outputs["M"], label(arrays, "M")) + gen + config.lda_mmd * mmd

        return mfm
    weights = {"M": 1.0} if "T" not in config else {task: config[task] for task in ("M", "T", "A", "V")}
    if name == "self_mm":
        weights = {"M": 1.0, "T": 0.0, "A": 0.0, "V": 0.0}

    def summed(model: Any, arrays: Arrays) -> Any:
        outputs = outputs_of(model, name, arrays)
        labels = {t: label(arrays, "M" if name == "self_mm" else t) for t in weights}
        return sum(w * error(outputs[t], labels[t]) for t, w in weights.items())

    return summed


def _mmim_loss(config: Settings, label: Callable[[Arrays, str], Any]) -> Callable[[Any, Arrays], Any]:
    """MMIM's second pass over an epoch, which remembers the samples of one batch."""
    import torch

    seen: dict[str, Any] = {"batches": 0, "tv": None, "ta": None}

    def loss(model: Any, arrays: Arrays) -> Any:
        y = label(arrays, "M")
        memory = {"tv": seen["tv"], "ta": seen["ta"], "va": None}
        outputs = outputs_of(model, "mmim", arrays, y=y, mem=memory)
        total = torch.nn.L1Loss()(outputs["M"], y)
        total = total + config.alpha * outputs["nce"] - config.beta * outputs["lld"]
        if seen["batches"] > config.mem_size:
            total = total - config.beta * outputs["H"]
        for pair in ("tv", "ta"):
            seen[pair] = {sign: [x.detach()] for sign, x in outputs["pn_dic"][pair].items()}
        seen["batches"] += 1
        return total

    return loss
