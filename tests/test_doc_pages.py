"""README and the documentation: links lead somewhere, settings and commands exist, the site builds."""

import re
import subprocess
import sys
import tomllib

import doc_pages
import pytest
import yaml
from doc_pages import PAGES, ROOT, name_of

from msa_jax.commands import COMMANDS
from msa_jax.configuration import flatten, load
from msa_jax.models import MODELS

#: Names that look like settings and are files of an export.
_FILES = ("model.stablehlo", "model.onnx", "model.safetensors")


@pytest.fixture(scope="module")
def settings() -> set[str]:
    """Every key of every model's configuration, and the blocks that hold them."""
    keys = {k for m in MODELS for d in ("sims", "mosi") for k in flatten(load(f"{ROOT}/configs/{d}.py:{m}"))}
    return keys | {key.rsplit(".", n)[0] for key in keys for n in range(1, key.count(".") + 1)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", doc_pages.prose(page))
    assert [t for t in targets if "://" not in t and not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_on_the_page_exist(page, settings):
    found = re.findall(
        r"(?<![\w.])((?:data|model|train)(?:\.[a-z]\w*)+)(\(?)", page.read_text(encoding="utf-8")
    )
    named = {key.rsplit(".", 1)[0] if call else key for key, call in found}
    assert named - settings - {*_FILES, "data", "train", "model"} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_named_in_the_text_exist(page):
    named = re.findall(r"`msa-jax ([a-z-]+)", doc_pages.prose(page))
    assert set(named) <= COMMANDS.keys()


def test_every_command_has_its_line_on_the_page_of_commands():
    text = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `msa-jax (\S+)` \| (.*) \|$", text, re.M)) == COMMANDS


def test_the_readme_is_short_and_begins_with_its_two_commands():
    readme = ROOT / "README.md"
    assert len(readme.read_bytes()) < 8192
    assert [block.code for block in doc_pages.blocks(readme)[:2]] == [
        "pip install -e . && python -m msa_jax.main --config=configs/synthetic.py --workdir=runs/first\n",
        'pip install -e ".[test]" && pytest -n 2\n',
    ]


def test_the_public_ci_runs_the_readmes_command_on_every_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    lines = {name: [s.get("run") for s in job["steps"]] for name, job in workflow["jobs"].items()}
    assert doc_pages.blocks(ROOT / "README.md")[1].code.strip() in lines["fast"]
    assert workflow["jobs"]["fast"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = re.findall(r'"\.\[([\w,]+)\]"', str(lines))
    script = (ROOT / ".ci" / "run").read_text()
    for tier in ("extras", "style"):  # by the script itself, so that it is the same there
        assert f"bash .ci/run {tier}" in lines[tier]
        assert f"\n{tier}() {{\n" in script
    assert {extra for group in asked for extra in group.split(",")} <= extras.keys()


@pytest.mark.parametrize("form", ["bug", "model", "question"])
def test_issue_forms_are_whole(form):
    content = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").read_text())
    assert content["name"]
    assert content["description"]
    ids = [part["id"] for part in content["body"]]
    assert len(set(ids)) == len(ids)
    assert all(part["attributes"]["label"] for part in content["body"])


def test_the_citation_has_the_packages_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


@pytest.mark.extras
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocstrings", reason="the [docs] extra is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").rglob("*.md")))  # and the page for what is not there
    # Nothing is fetched from elsewhere.
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(?:https?:)?//[^"]+"', text)
        assert fetched == []
