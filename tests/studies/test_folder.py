"""The folder of a study: what is done stays, what changed is trained again, nothing is deleted."""

import json

import pytest

from msa_jax.errors import RunError
from msa_jax.studies.folder import StudyFolder
from msa_jax.studies.grid import Study, checked, data_sets, grid, models, seeds


def study(*names, count=1):
    return Study("small", grid(data_sets("mosi"), models(*names), seeds(count)))


def declare(path, declared, *overrides, name="small.py"):
    return StudyFolder(path, name).declare(declared, checked(declared, overrides))


def finish(path, *names):
    for name in names:
        (path / "cells" / name).mkdir(parents=True, exist_ok=True)
        (path / "cells" / name / "result.json").write_text(json.dumps({"of": name}))


def test_done_cells_are_kept_and_others_are_left(tmp_path):
    assert declare(tmp_path, study("tfn", "lmf")) == ["mosi-tfn-1111", "mosi-lmf-1111"]
    finish(tmp_path, "mosi-tfn-1111")
    assert declare(tmp_path, study("tfn", "lmf")) == ["mosi-lmf-1111"]
    finish(tmp_path, "mosi-lmf-1111")
    assert declare(tmp_path, study("tfn", "lmf", count=2)) == ["mosi-tfn-1112", "mosi-lmf-1112"]
    assert declare(tmp_path, study("lmf")) == []


def test_only_what_changed_is_trained_again_and_the_old_run_is_kept(tmp_path):
    both = study("tfn", "lmf")
    declare(tmp_path, both)
    finish(tmp_path, "mosi-tfn-1111", "mosi-lmf-1111")
    changed = Study(
        "small",
        [
            *study("lmf").cells,
            *grid(data_sets("mosi"), models("tfn"), seeds(1), settings={"train.batch_size": 7}),
        ],
    )
    assert declare(tmp_path, changed) == ["mosi-tfn-1111"]
    assert not (tmp_path / "cells" / "mosi-tfn-1111").exists()
    assert json.loads((tmp_path / "replaced" / "mosi-tfn-1111" / "result.json").read_text()) == {
        "of": "mosi-tfn-1111"
    }
    finish(tmp_path, "mosi-tfn-1111")
    assert declare(tmp_path, both) == ["mosi-tfn-1111"]
    assert (tmp_path / "replaced" / "mosi-tfn-1111-1").is_dir()


def test_more_epochs_go_on_in_place(tmp_path):
    declare(tmp_path, study("tfn"), "train.epochs=2", "train.schedule=constant")
    finish(tmp_path, "mosi-tfn-1111")
    left = declare(tmp_path, study("tfn"), "train.epochs=4", "train.schedule=constant")
    assert left == ["mosi-tfn-1111"]
    assert (tmp_path / "cells" / "mosi-tfn-1111").is_dir()
    assert not (tmp_path / "replaced").exists()


def test_a_cell_that_was_under_way_goes_on_in_place(tmp_path):
    declare(tmp_path, study("tfn"))
    (tmp_path / "cells" / "mosi-tfn-1111" / "checkpoints").mkdir(parents=True)
    assert declare(tmp_path, study("tfn")) == ["mosi-tfn-1111"]
    assert (tmp_path / "cells" / "mosi-tfn-1111" / "checkpoints").is_dir()


def test_a_folder_of_something_else_is_refused(tmp_path):
    declare(tmp_path / "a", study("tfn"))
    with pytest.raises(RunError, match="belongs to the study small"):
        declare(tmp_path / "a", study("tfn"), name="other.py")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(RunError, match="is the folder of a run"):
        declare(tmp_path / "run", study("tfn"))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make"):
        declare(tmp_path / "file" / "x", study("tfn"))
