"""The serve command: it answers where it says, ends by a signal, and refuses in one sentence."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys

import pytest
import random_run

from msa_jax.commands import serve
from msa_jax.errors import ConfigError, MsaJaxError, RunError
from msa_jax.serve.server import bound

PACKAGES = ("fastapi", "uvicorn", "python_multipart")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_run.make(tmp_path_factory.mktemp("served") / "run", "lf_dnn", "train.eval_batch_size=1")


@pytest.mark.extras
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_a_run_until_a_signal_comes(folder, number):
    for package in PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed")
    command = [sys.executable, "-m", "msa_jax", "serve", f"--workdir={folder}", "--port=0"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **streams) as process, contextlib.ExitStack() as cleanup:
        cleanup.callback(process.kill)
        assert process.stdout
        said = "".join(process.stdout.readline() for _ in range(3))
        assert said.startswith("note: media files are not taken: ")
        [port] = re.findall(r"^serving at http://127\.0\.0\.1:(\d+)$", said, re.M)
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
        cleanup.callback(connection.close)
        connection.request("GET", "/spec")
        spec = json.loads(connection.getresponse().read())
        body = {m: [[0.5] * record["width"]] for m, record in spec["modalities"].items()}
        connection.request("POST", "/predict", json.dumps(body), {"content-type": "application/json"})
        assert set(json.loads(connection.getresponse().read())) == {"score", "class"}
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (128 + number, "")
    assert out == f"stopped by {number.name}.\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--port=70000"], "--port=70000 must be from 0 to 65535"),
        (["--max-clips=0"], "--max-clips=0 must be above 0"),
        (["--timeout=nan"], "--timeout=nan must be above 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(options, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        serve.main(["--workdir=nowhere", *options])


def test_an_address_that_is_taken_or_not_ours_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"port {port} .* give another --port"), bound("127.0.0.1", port):
            pass
    for host in ("no such host", "." * 300, "192.0.2.1"):
        with pytest.raises(MsaJaxError) as refusal, bound(host, 0):
            pass
        assert "\n" not in str(refusal.value)
