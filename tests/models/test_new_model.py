"""A model that is added as CONTRIBUTING says: its file, and its line in MODELS."""

import dataclasses
import json
import subprocess
import sys

import pytest
import test_contracts as contracts
from small import CONFIGS

from msa_jax import configuration, models
from msa_jax.errors import ConfigError

FILE = '''
"""A toy: the masked mean of every modality, a hidden layer, a score."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from msa_jax.data.spec import MODALITIES
from msa_jax.typed_settings import Count, Rate
from msa_jax.models import objectives
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import BaseSettings, n_outputs, read_inputs, scores
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.initializers import Dense
from msa_jax.nn.pooling import masked_mean


@dataclasses.dataclass(frozen=True)
class Settings(BaseSettings):
    hidden: Count = 32  # of the layer before the score
    dropout: Rate = 0.1  # after it


PRESETS = {
    "mosi": Preset(Settings(), peer_train(16, 1e-3)),
    "sims": Preset(Settings(hidden=64), peer_train(32, 2e-3)),
}


class Toy(nn.Module):
    s: Settings
    n_outputs: int

    @nn.compact
    def __call__(self, batch, train=False):
        values, masks = read_inputs(batch, self.s.compat)
        joined = jnp.concatenate([masked_mean(values[m], masks[m]) for m in MODALITIES], axis=-1)
        fusion = Dropout(self.s.dropout)(jnp.tanh(Dense(self.s.hidden, name="hidden")(joined)), train)
        return Outputs({"M": scores(Dense(self.n_outputs, name="out")(fusion))}, {"fusion": fusion})


def build(s, spec):
    return Toy(s, n_outputs(s))


MODEL = Declaration(Settings, PRESETS, build, objectives.task_loss, {"buckets": 4}, {"hidden": 8})
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy_of_mine.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(models.MODELS, "toy", "toy_of_mine")
    yield "toy"
    for cached in (contracts.load, contracts.model_of, contracts.variables_of, contracts.forward):
        cached.cache_clear()
    contracts.gradient.cache_clear()
    sys.modules.pop("toy_of_mine", None)


def test_it_keeps_the_contracts_of_all_models(toy, tmp_path):
    contracts.test_padding_and_batch_mates_change_no_prediction(toy)
    contracts.test_padding_and_idle_rows_change_no_training_step(toy)
    contracts.test_a_batch_of_one_trains(toy)
    contracts.test_every_parameter_is_trained(toy)
    contracts.test_a_training_state_is_saved_and_restored(toy, tmp_path)


def test_its_configuration_is_made_from_its_file(toy):
    config = configuration.load(f"{CONFIGS / 'mosi.py'}:toy,task=classification", ["model.dropout=0.3"])
    assert (config.model.name, config.model.task, config.preset) == ("toy", "classification", "mosi")
    assert (config.model.hidden, config.model.dropout, config.model.fg) == (32, 0.3, "none")
    assert (config.train.batch_size, config.train.monitor, config.data.buckets) == (16, "loss", 4)
    again = configuration.load(f"{CONFIGS / 'mosi.py'}:toy,preset=sims,tiny")
    assert (again.model.hidden, again.train.learning_rate, again.preset) == (8, 2e-3, "sims")
    with pytest.raises(ConfigError, match=r"toy has no preset 'mosei'; it has mosi, sims"):
        configuration.load(f"{CONFIGS / 'mosei.py'}:toy")
    with pytest.raises(ConfigError, match=r"model\.hidden=0 must be at least 1"):
        models.check(configuration.load(f"{CONFIGS / 'mosi.py'}:toy", ["model.hidden=0"]).model)


def test_the_readme_asks_for_its_row(toy):
    assert contracts.missing_rows() == ["toy"]


def test_what_a_file_sets_without_such_a_key_is_an_error(toy, tmp_path):
    wrong = FILE.replace('{"buckets": 4}', '{"bucket": 4}')
    (tmp_path / "toy_of_mine.py").write_text(wrong)
    with pytest.raises(ConfigError, match=r"sets data\.bucket, .* Did you mean 'buckets'\?"):
        configuration.load(f"{CONFIGS / 'mosi.py'}:toy")


def test_a_configuration_imports_no_other_model():
    code = (
        "import json, sys; from msa_jax.configuration import load; "
        f"load({str(CONFIGS / 'mosi.py')!r} + ':ef_lstm'); import jax; "
        "from jax._src import xla_bridge; "
        "print(json.dumps([[m for m in sys.modules if m.startswith('msa_jax.models.')], "
        "xla_bridge.backends_are_initialized()]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded, started = json.loads(done.stdout)
    others = set(models.MODELS.values()) - {"msa_jax.models.ef_lstm"}
    assert not others & set(loaded)
    assert not started, "a process that joins others must do so before JAX looks for devices"


@pytest.mark.parametrize("name", models.MODELS)
def test_every_preset_is_a_block_that_can_be_read(name):
    for key, preset in models.declaration(name).presets.items():
        assert models.read(models.block(name, key)) == dataclasses.replace(preset.settings, name=name)
