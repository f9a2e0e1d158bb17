"""Weights of the public classes: strict names, the command, and training in step with PyTorch."""

import csv
import pathlib
import pickle
from typing import Any

import feature_files
import jax
import numpy as np
import our_steps
import pytest
from our_steps import golden
from parity_models import CONFIGS, batch_of, model_block, spec_of

from msa_jax import models
from msa_jax.commands import import_mmsa
from msa_jax.errors import ConfigError, DataError, RunError
from msa_jax.weights import state_dict

ARRAYS, META = golden("lf_dnn")
STATE = {k.removeprefix("state/"): a for k, a in ARRAYS.items() if k.startswith("state/")}
BLOCK = model_block(META)
MODEL = models.build(BLOCK, spec_of(ARRAYS, META))
BATCH = batch_of(ARRAYS, BLOCK)


def load(state):
    return state_dict.import_state_dict(MODEL, state, BLOCK, BATCH)


def test_the_prefix_of_mmsa_checkpoints_is_taken_off():
    plain, prefixed = load(STATE), load({f"Model.{k}": a for k, a in STATE.items()})
    jax.tree.map(np.testing.assert_array_equal, plain, prefixed)
    np.testing.assert_array_equal(
        plain["params"]["post_fusion"]["linear_1"]["kernel"], STATE["post_fusion_layer_1.weight"].T
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"post_fusion_layer_1.bias": None}, "missing post_fusion_layer_1.bias; left over nothing"),
        ({"extra.weight": np.ones(3)}, "left over extra.weight"),
        ({"post_fusion_layer_1.bias": np.ones(4)}, r"linear_1/bias is \(4,\), not \(9,\)"),
    ],
)
def test_what_does_not_fit_is_listed(change, words):
    state = {k: a for k, a in {**STATE, **change}.items() if a is not None}
    with pytest.raises(DataError, match=words):
        load(state)


def test_a_model_without_a_public_class_is_named():
    with pytest.raises(DataError, match="no public PyTorch class to read ufen_mtfn from"):
        state_dict.peer_model("ufen_mtfn")


def test_the_model_is_put_into_the_configuration():
    assert import_mmsa._with_model("configs/mosi.py", "mult") == "configs/mosi.py:mult"
    assert import_mmsa._with_model("configs/mosi.py:fg=both", "mult") == "configs/mosi.py:mult,fg=both"
    assert import_mmsa._with_model("configs/mosi.py:mult,tiny", "mult") == "configs/mosi.py:mult,tiny"
    with pytest.raises(ConfigError, match="names tfn"):
        import_mmsa._with_model("configs/mosi.py:tfn", "mult")


class Twin:
    """LF-DNN in PyTorch, layer by layer under the public names."""

    def __init__(self, torch: Any, dims, hidden, text_out: int, post: int):
        nn, self.torch = torch.nn, torch

        def subnet(width, hidden):
            layers = {"norm": nn.BatchNorm1d(width), "linear_1": nn.Linear(width, hidden)}
            return nn.ModuleDict(layers | {f"linear_{n}": nn.Linear(hidden, hidden) for n in (2, 3)})

        lstm = nn.LSTM(dims[0], hidden[0], batch_first=True)
        parts = {
            "audio_subnet": subnet(dims[1], hidden[1]),
            "video_subnet": subnet(dims[2], hidden[2]),
            "text_subnet": nn.ModuleDict({"rnn": lstm, "linear_1": nn.Linear(hidden[0], text_out)}),
            "post_fusion_layer_1": nn.Linear(text_out + hidden[1] + hidden[2], post),
            "post_fusion_layer_2": nn.Linear(post, post),
            "post_fusion_layer_3": nn.Linear(post, 1),
        }
        self.parts = nn.ModuleDict(parts)

    def __call__(self, text, audio, vision):
        relu, parts = self.torch.relu, self.parts

        def mlp(subnet, x):
            x = subnet["norm"](x[:, 0])
            for n in (1, 2, 3):
                x = relu(subnet[f"linear_{n}"](x))
            return x

        _, (h, _) = parts["text_subnet"]["rnn"](text)
        t = parts["text_subnet"]["linear_1"](h[0])
        x = self.torch.cat([mlp(parts["audio_subnet"], audio), mlp(parts["video_subnet"], vision), t], dim=1)
        for n in (1, 2):
            x = relu(parts[f"post_fusion_layer_{n}"](x))
        return parts["post_fusion_layer_3"](x)[:, 0]


@pytest.mark.extras
def test_twenty_adam_steps_stay_beside_pytorch():
    """Needs PyTorch alone; tests/weights/test_adam_steps.py does it with every public class."""
    torch: Any = pytest.importorskip("torch")
    batches = our_steps.varied(ARRAYS, 20)
    sizes = META["config"]
    twin = Twin(torch, META["dims"], sizes["hidden_dims"], sizes["text_out"], sizes["post_fusion_dim"])
    twin.parts.load_state_dict({k: torch.tensor(a) for k, a in STATE.items()})
    adam = torch.optim.Adam(twin.parts.parameters(), lr=1e-3, weight_decay=5e-3)
    for arrays in batches:
        text, audio, vision, labels = (
            torch.tensor(arrays[f"in/{k}"]) for k in ("text", "audio", "vision", "labels")
        )
        adam.zero_grad()
        (twin(text, audio, vision) - labels).abs().mean().backward()
        adam.step()

    ours = our_steps.Ours(ARRAYS, META).train(batches, learning_rate=1e-3, weight_decay=5e-3).variables
    theirs = load({k: a.detach().numpy() for k, a in twin.parts.state_dict().items()})
    moved = 0.0
    for (path, a), b, start in zip(
        jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), jax.tree.leaves(load(STATE)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=0, err_msg=our_steps.path_of(path))
        moved = max(moved, float(np.abs(np.asarray(a) - start).max()))
    assert moved > 5e-3


@pytest.mark.extras
def test_the_command_makes_a_finished_run(tmp_path, capsys):
    torch: Any = pytest.importorskip("torch")
    torch.manual_seed(0)
    widths = feature_files.WIDTHS
    twin = Twin(torch, [widths[m] for m in ("text", "audio", "vision")], (8, 4, 4), 6, 8)
    content = feature_files.content()
    data = feature_files.write(tmp_path / "data.pkl", content)
    torch.save({f"Model.{k}": a for k, a in twin.parts.state_dict().items()}, tmp_path / "w.pth")
    command = [
        "--model=lf_dnn",
        f"--config={CONFIGS / 'mosi.py'}:tiny",
        f"--config.data.path={data}",
        "--config.model.compat=true",
        f"--state={tmp_path / 'w.pth'}",
        f"--workdir={tmp_path / 'run'}",
    ]
    import_mmsa.main(command)
    assert "lf_dnn on mosi" in capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").exists()
    with (tmp_path / "run" / "predictions.csv").open() as file:
        ours = [float(row["prediction"]) for row in csv.DictReader(file) if row["split"] == "test"]
    test = content["test"]
    audio, vision = (torch.tensor(test[m].mean(axis=1, keepdims=True)) for m in ("audio", "vision"))
    twin.parts.eval()
    with torch.no_grad():
        theirs = twin(torch.tensor(test["text"]), audio, vision).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    with pytest.raises(RunError, match="holds a run already"):
        import_mmsa.main(command)


@pytest.mark.extras
def test_a_file_that_is_no_weights_is_refused_and_not_executed(tmp_path):
    pytest.importorskip("torch")
    trap = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return pathlib.Path.touch, (trap,)

    bad = tmp_path / "bad.pth"
    bad.write_bytes(pickle.dumps({"a": Hostile()}, protocol=2))
    with pytest.raises(DataError, match=r"bad\.pth is no file of PyTorch weights"):
        state_dict.read_state_dict(bad)
    assert not trap.exists()
    with pytest.raises(DataError, match="there is no file"):
        state_dict.read_state_dict(tmp_path / "absent.pth")
    import torch

    torch.save([torch.ones(2)], bad)
    with pytest.raises(DataError, match="holds no state dict"):
        state_dict.read_state_dict(bad)
