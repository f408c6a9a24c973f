"""Pickles are data here, never programs."""

import os
import pickle
import subprocess
from contextlib import suppress

import numpy as np
import pytest

from bench.data import safe_pickle

VALUES = {
    "data": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "floats": np.array([[1.5, np.inf]]),
    "fine_labels": [3, 1, 2],
    "number": np.int64(-7),
    "text": "süß",
    "raw": b"\x00\xff",
    "rest": (None, True, 10**20, 2.5),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays_come_back(protocol):
    loaded = safe_pickle.loads(pickle.dumps(VALUES, protocol))
    assert loaded.keys() == VALUES.keys()
    for name, value in VALUES.items():
        if isinstance(value, np.ndarray):
            assert loaded[name].dtype == value.dtype
            np.testing.assert_array_equal(loaded[name], value)
        else:
            assert loaded[name] == value


class Attack:
    """Unpickled, it calls `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "function", [os.system, eval, exec, subprocess.Popen, os.mkdir, __import__, getattr, np.load]
)
def test_calls_are_refused(function, protocol, tmp_path):
    target = tmp_path / "made"
    argument = {eval: f"__import__('os').mkdir({str(target)!r})", os.mkdir: str(target)}.get(
        function, f"mkdir {target}"
    )
    with pytest.raises(pickle.UnpicklingError, match="requests"):
        safe_pickle.loads(pickle.dumps({"data": Attack(function, argument)}, protocol))
    assert not target.exists()


def test_codecs_other_than_latin1_are_refused():
    """The real codecs.encode imports the module that an encoding's name leads to."""
    harmless = pickle.dumps(b"\x00\xff", 2)
    assert b"latin1" in harmless
    assert safe_pickle.loads(harmless) == b"\x00\xff"
    with pytest.raises(pickle.UnpicklingError, match="hex_co"):
        safe_pickle.loads(harmless.replace(b"latin1", b"hex_co"))


def test_damage_is_one_kind_of_error():
    whole = pickle.dumps(VALUES, 2)
    for length in range(len(whole) - 1):
        with pytest.raises(pickle.UnpicklingError):
            safe_pickle.loads(whole[:length])
    for i in range(0, len(whole), 3):
        with suppress(pickle.UnpicklingError):
            safe_pickle.loads(whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :])
