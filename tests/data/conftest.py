"""What tests of the reader share."""

import feature_files
import pytest

from msa_jax.data import mmsa


@pytest.fixture
def data():
    return feature_files.content()


@pytest.fixture
def read(tmp_path):
    """Writes a content, reads it, and returns the splits and notes."""

    def write_and_read(content, protocol=4):
        return mmsa.read(feature_files.write(tmp_path / "data.pkl", content, protocol))

    return write_and_read
