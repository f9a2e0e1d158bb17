"""Twenty steps of Adam beside the public classes, from the same weights on the same batches."""

import fnmatch
from typing import Any

import jax
import numpy as np
import our_steps
import public_mmsa
import pytest
from our_steps import golden

from msa_jax import models
from msa_jax.weights import state_dict

STEPS = 20


@pytest.mark.extras
@pytest.mark.parametrize(
    ("name", "optimizer"), [("lf_dnn", "adamw"), *((name, "adam") for name in public_mmsa.CLASSES)]
)
def test_twenty_steps_stay_beside_the_public_class(name, optimizer, tmp_path, record_property):
    torch = public_mmsa.require()
    arrays, meta = golden(name)
    batches = our_steps.varied(arrays, STEPS)
    ours = our_steps.Ours(arrays, meta)

    peer = public_mmsa.build(name, meta, tmp_path)
    public_mmsa.load(peer, arrays)
    loss_of = public_mmsa.loss_of(name, meta)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
    decay = 5e-3
    # MMSA's trainers leave out some parameters of LMF and MLMF, as we do with compat.
    frozen = [f"params/{p}" for p in models.frozen(ours.block)]
    idle = {
        e.peer
        for e in state_dict.peer_model(name).entries(ours.block)
        if any(fnmatch.fnmatch(e.ours, p) for p in frozen)
    }
    trained = [p for n, p in peer.named_parameters() if n not in idle and p.requires_grad]
    steps = kind(trained, lr=1e-3, weight_decay=decay)
    losses = []
    for batch in batches:
        steps.zero_grad()
        loss = loss_of(peer, batch)
        loss.backward()
        for p in trained:  # PyTorch does not decay what a loss does not reach; here every weight decays
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        steps.step()
        losses.append(loss.item())

    mine = ours.train(batches, optimizer=optimizer, learning_rate=1e-3, weight_decay=decay)
    state = {k: a.detach().numpy() for k, a in peer.state_dict().items()}
    state |= {k.removeprefix("state_unregistered/"): a for k, a in arrays.items() if k.startswith("state_un")}
    theirs = ours.load(state)
    apart = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - b).max(initial=0)), mine.variables, theirs)
    worst = max(jax.tree.leaves(apart))
    record_property("largest deviation", worst)
    record_property("largest deviation of a loss", float(np.abs(np.array(mine.losses) - losses).max()))
    np.testing.assert_allclose(mine.losses, losses, atol=1e-4, rtol=0)
    far = [(our_steps.path_of(p), x) for p, x in jax.tree.leaves_with_path(apart) if x > 1e-4]
    assert not far
    moved: Any = jax.tree.map(
        lambda a, b: float(np.abs(np.asarray(a) - b).max(initial=0)), mine.variables, ours.load_file()
    )
    assert max(jax.tree.leaves(moved)) > 5e-3
