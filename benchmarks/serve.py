"""What a server answers per second on this machine, and how long clients wait.

    python benchmarks/serve.py --json [--workdir RUN] [--clients 4] [--seconds 10]

Starts ``msa-jax serve`` on a free port of 127.0.0.1. Each client sends the features of one clip at a time
over one connection, as JSON. Transcripts are as long as CMU-MOSI's are, up to the server's most steps, sound
and pictures 40 % of their most steps on average, longer where there are more words. Without --workdir the
run is UFEN + MTFN with random weights at CMU-MOSI's shapes. The clients' own work is on the same cores.
"""

import argparse
import contextlib
import http.client
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from data_loading import SHARES
from scipy import stats
from zoo import LENGTHS, MOSI_TOKENS, WIDTHS

from msa_jax.errors import run_command

#: Clips of the run's data, and of the requests.
CLIPS, BODIES = 256, 32
JSON = {"content-type": "application/json"}


def draw_lengths(rng: np.random.Generator, most: dict[str, int], count: int) -> dict[str, np.ndarray]:
    """Steps int [count] of each modality."""
    rank = rng.uniform(size=count)
    shares = {m: stats.beta.ppf(rank, 2, 3) for m in most}
    shares["text"] = np.interp(rank, np.linspace(0, 1, len(MOSI_TOKENS)), MOSI_TOKENS) / MOSI_TOKENS[-1]
    return {m: np.maximum(1, np.rint(shares[m] * steps)).astype(int) for m, steps in most.items()}


def make_run(folder: pathlib.Path) -> pathlib.Path:
    """The run of a model with random weights."""
    import pickle

    import jax

    from msa_jax import configuration
    from msa_jax.data.batch import example_batch
    from msa_jax.training.adopt import adopt

    rng, content = np.random.default_rng(0), {}
    for name, share in SHARES.items():
        count = round(CLIPS * share)
        part: dict[str, Any] = {"id": [f"{name}{i}" for i in range(count)]}
        lengths = draw_lengths(rng, LENGTHS, count)
        for m, steps in LENGTHS.items():
            real = np.arange(steps) < lengths[m][:, None]
            part[m] = rng.standard_normal((count, steps, WIDTHS[m]), dtype=np.float32) * real[:, :, None]
            part |= {f"{m}_lengths": lengths[m].tolist()}
            if m == "text":
                part["text_bert"] = np.stack([real] * 3, axis=1).astype(np.float32)
        part["regression_labels"] = rng.uniform(-3, 3, count).astype(np.float32)
        content[name] = part
    (folder / "mosi.pkl").write_bytes(pickle.dumps(content, protocol=4))

    def weights(model: Any, spec: Any) -> Any:
        return jax.jit(lambda: model.init(jax.random.key(0), example_batch(spec, 1), train=False))()

    config = configuration.load("configs/mosi.py", [f"data.path={folder / 'mosi.pkl'}", "train.devices=1"])
    adopt(config, folder / "run", weights)
    return folder / "run"


@contextlib.contextmanager
def server(workdir: pathlib.Path) -> Iterator[tuple[int, float]]:
    """A server in a process of its own; gives its port and the seconds until it was ready."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "msa_jax", "serve", f"--workdir={workdir}", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            said = ""
            while not (found := re.search(r"serving at http://127\.0\.0\.1:(\d+)", said)):
                said = process.stdout.readline()
                if not said:
                    raise RuntimeError("the server has ended")
            yield int(found[1]), time.perf_counter() - began
        finally:
            process.terminate()


def bodies(port: int) -> list[bytes]:
    """Requests."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/spec")
    modalities = json.loads(connection.getresponse().read())["modalities"]
    connection.close()
    rng = np.random.default_rng(1)
    lengths = draw_lengths(rng, {m: record["steps"] for m, record in modalities.items()}, BODIES)
    clips = [
        {m: rng.normal(size=(lengths[m][k], r["width"])).round(4).tolist() for m, r in modalities.items()}
        for k in range(BODIES)
    ]
    return [json.dumps(clip).encode() for clip in clips]


def client(port: int, requests: list[bytes], until: float, waits: list[float], failures: list[str]) -> None:
    """Sends one request after another; notes how long each took, or what went wrong."""
    connection, number = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0
    while time.perf_counter() < until:
        began = time.perf_counter()
        try:
            connection.request("POST", "/predict", requests[number % len(requests)], JSON)
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                failures.append(content.decode())
        except OSError as error:
            failures.append(str(error))
            connection.close()
        waits.append(time.perf_counter() - began)
        number += 1
    connection.close()


def load(port: int, clients: int, seconds: float) -> dict[str, Any]:
    """What so many clients at once see."""
    made = bodies(port)
    for warm in made[:4]:  # connections and caches, not programs: these are ready
        client(port, [warm], time.perf_counter() + 0.01, [], [])
    waits: list[list[float]] = [[] for _ in range(clients)]
    failures: list[str] = []
    began = time.perf_counter()
    threads = [
        threading.Thread(target=client, args=(port, made[k:] + made[:k], began + seconds, waits[k], failures))
        for k in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, every = time.perf_counter() - began, np.concatenate(waits)
    p50, p95, p99 = (float(1000 * q) for q in np.percentile(every, (50, 95, 99)))
    return {
        "clients": clients,
        "requests": len(every),
        "failures": len(failures),
        "requests_per_second": (len(every) - len(failures)) / took,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "mean_body_bytes": float(np.mean([len(body) for body in made])),
        "first_failure": failures[0] if failures else None,
    }


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--workdir", type=pathlib.Path, help="of a run or an export")
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[1, 4, 16], help="at once, one count after another"
    )
    parser.add_argument("--seconds", type=float, default=10, help="of each count")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        workdir = options.workdir or make_run(pathlib.Path(name))
        with server(workdir) as (port, ready):
            rows = [load(port, clients, options.seconds) for clients in options.clients]
    if options.json:
        print(json.dumps({"seconds_until_ready": ready, "loads": rows}, indent=1))
        return
    print(f"ready after {ready:.1f} s")
    for row in rows:
        speed = f"{row['clients']:3d} clients {row['requests_per_second']:8.1f} requests/s"
        waits = f"p50 {row['p50_ms']:.1f} p95 {row['p95_ms']:.1f} p99 {row['p99_ms']:.1f} ms"
        print(f"{speed}  {waits}  {row['failures']} failures")


if __name__ == "__main__":
    run_command(main)
