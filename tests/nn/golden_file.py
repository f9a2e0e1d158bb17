"""Compares with a file of tests/golden under the tolerance rule of its README."""

import numpy as np
from conftest import GOLDEN


class GoldenFile:
    """One npz file of golden vectors."""

    def __init__(self, name: str):
        with np.load(GOLDEN / f"{name}_a.npz", allow_pickle=False) as file:
            self.arrays = {key: file[key] for key in file.files}
        grads = [np.abs(a).max() for key, a in self.arrays.items() if key.startswith("grad/")]
        self.largest_gradient = max(grads, default=0.0)

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def assert_output(self, key: str, actual) -> None:
        """Within 1e-5 of the array's largest value."""
        expected = self.arrays[key]
        self._assert(key, actual, np.abs(expected).max())

    def assert_gradient(self, name: str, actual) -> None:
        """The same, with a floor at 1e-2 of the file's largest gradient."""
        key = f"grad/{name}"
        self._assert(key, actual, max(np.abs(self.arrays[key]).max(), 1e-2 * self.largest_gradient))

    def _assert(self, key: str, actual, scale: float) -> None:
        expected, actual = self.arrays[key], np.asarray(actual)
        assert actual.shape == expected.shape, key
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * scale, err_msg=key)
