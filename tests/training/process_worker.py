"""One of several processes that train the toy model together; prints a digest of the parameters."""

import sys

import jax

address, processes, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
jax.config.update("jax_num_cpu_devices", 2)
if processes > 1:
    jax.distributed.initialize(address, processes, number, initialization_timeout=60)

import numpy as np  # noqa: E402  (JAX must know its processes first)
import optax  # noqa: E402
from toy import run_steps, toy_training  # noqa: E402

for resident in (True, False):
    training = toy_training(optax.adam(1e-2), dropout=0.3, devices=2 * processes, resident=resident)
    state, losses = run_steps(*training, epochs=4)
    flat = np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(state.params)])
    print("RESULT", number, resident, int(state.step), " ".join(f"{x:.9g}" for x in flat), flush=True)
if processes > 1:
    jax.distributed.shutdown()
