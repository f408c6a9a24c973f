"""Pickles are data here, never programs."""

import ast
import os
import pickle
import pickletools
import struct
import subprocess
import sys
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


class Call:
    """Pickled as a call of a function, with a state."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


RECONSTRUCT, FROM_BUFFER = np.empty(0).__reduce__()[0], np.empty(0).__reduce_ex__(5)[0]
SCALAR = np.int64(0).__reduce__()[0]
EMPTY = (np.ndarray, (0,), b"b")
OBJECTS, FOREIGN = np.dtype("O"), b"A" * 8


def dtype(code, *state):
    return Call(np.dtype, code, False, True, state=state or None)


def array(*state):
    return Call(RECONSTRUCT, *EMPTY, state=(1, *state))


def plain(**changes):
    """The state of a dtype: version, order, subarray, names, fields, size, alignment, flags."""
    names = ("version", "order", "subarray", "names", "fields", "size", "alignment", "flags")
    return tuple((dict(zip(names, (3, "|", None, None, None, -1, -1, 0), strict=True)) | changes).values())


def code(*parts):
    """A pickle of protocol 2, of opcodes and of values."""
    return b"\x80\x02" + b"".join(
        part if isinstance(part, bytes) else pickle.dumps(part, 2)[2:-1] for part in parts
    )


def deep(opcode, depth=300_000):
    return b"N" + opcode * depth


LAUGHS = b"".join(b"]q%c(%se" % (level + 1, b"h%c" % level * 50) for level in range(8))

HARMFUL = {
    "an array of objects over foreign bytes": Call(np.ndarray, (1,), OBJECTS, FOREIGN),
    "an array that is called": Call(np.ndarray, (2,), np.dtype("u1")),
    "an array over another's bytes": Call(np.ndarray, (2**40,), np.dtype("u1"), b"ab"),
    "a new array": code(b"cnumpy\nndarray\n", ((1,), OBJECTS, FOREIGN), b"\x81."),
    "a reconstructed array of objects": Call(RECONSTRUCT, np.ndarray, (3,), "O"),
    "a reconstructed array of terabytes": Call(RECONSTRUCT, np.ndarray, (2**40,), "b"),
    "a reconstructed dtype": Call(RECONSTRUCT, np.dtype, (0,), b"b"),
    "objects in the state": array((1,), OBJECTS, False, [1]),
    "objects as bytes in the state": array((1,), OBJECTS, False, FOREIGN),
    "text in the state": array((2,), np.dtype("U1"), False, FOREIGN),
    "dates in the state": array((1,), np.dtype("M8[s]"), False, FOREIGN),
    "fewer bytes than the shape": array((2**40,), np.dtype("u1"), False, b"ab"),
    "a negative shape": array((-1, -8), np.dtype("u1"), False, FOREIGN),
    "strides beyond the memory": array((0, 2**62, 2**62), np.dtype("u1"), False, b""),
    "too many axes": array((1,) * 100, np.dtype("u1"), False, b"a"),
    "no number for a side": array(("8",), np.dtype("u1"), False, FOREIGN),
    "a state of nothing": array(),
    "flags of objects": dtype("u1", *plain(flags=63)),
    "flags of objects, used": array((1,), dtype("u8", *plain(flags=63)), False, FOREIGN),
    "a dtype of objects": dtype("O8", *plain(flags=0)),
    "a dtype with another size": dtype("u1", *plain(size=2**30, alignment=1)),
    "a dtype with alignment 0": dtype("V8", *plain(size=8, alignment=0)),
    "a dtype with a subarray": dtype("V8", *plain(subarray=(OBJECTS, (1,)), size=8, alignment=1)),
    "a dtype with fields": dtype(
        "V8", *plain(names=("a",), fields={"a": (OBJECTS, 10**6)}, size=8, alignment=1)
    ),
    "a dtype with metadata": dtype("u1", 4, *plain()[1:], {}),
    "a dtype with half a state": dtype("u1", 3, "|"),
    "a dtype of a list": Call(np.dtype, [("a", "O")]),
    "a scalar of objects": Call(SCALAR, OBJECTS, FOREIGN),
    "half a scalar": Call(SCALAR, np.dtype("i8"), b"ab"),
    "a buffer of objects": Call(FROM_BUFFER, FOREIGN, OBJECTS, (1,), "C"),
    "a buffer of another shape": Call(FROM_BUFFER, b"ab", np.dtype("u1"), (2**40,), "C"),
    "the state of a list": code([1], {"a": 1}, b"b."),
    "the state of a function": code(b"cnumpy\ndtype\n", {"a": 1}, b"b."),
    "the state of the class": code(b"cnumpy\nndarray\n", (None, {"a": 1}), b"b."),
    "the state of a whole array": code(np.arange(3), (1, (1,), b"N", False, [1]), b"b."),
    "an item of an array": code(np.arange(3), 0, 10**30, b"s."),
    "more of an array": code(np.arange(3), 5, b"a."),
    "a memo of gigabytes": code(b"Nr", struct.pack("<I", 2**27), b"cnumpy\ndtype\n."),
    "bytes of terabytes": b"\x80\x05\x8e" + struct.pack("<Q", 2**45) + b"abc.",
    "a bytearray of terabytes": b"\x80\x05\x96" + struct.pack("<Q", 2**45) + b"abc.",
    "a bytearray of gigabytes": b"\x80\x05\x96" + struct.pack("<Q", 2**31) + b"abc.",
    "a frame of terabytes": b"\x80\x05\x95" + struct.pack("<Q", 2**45) + b"abc.",
    "tuples in tuples": code(deep(b"\x85"), b"."),
    "tuples in tuples as a key": code(b"}", deep(b"\x85"), b"Ns."),
    "tuples in tuples in a set": code(b"\x8f(", deep(b"\x85"), b"\x90."),
    "lists in lists": code(b"]" * 300_000, b"a" * 299_999, b"."),
    "a list in itself": code(b"]q\x00h\x00a."),
    "lists of the same lists": code(b"]q\x00", LAUGHS, b"."),
    "an array as a key": code(b"}", np.arange(3), b"Ns."),
    "an object by its id": code(b"Vx\nQ."),
    "an extension": code(b"\x82\x01."),
    "a class by INST": code(b"(inumpy\nndarray\n."),
    "a class by OBJ": code(b"(cnumpy\nndarray\n", (1,), b"o."),
    "a function as a value": code(b"}", "data", b"cnumpy\ndtype\ns."),
    "the class as a value": code(b"}", "data", b"cnumpy\nndarray\ns."),
}

# Each form has a process of its own, forked from one that has imported what it needs.
PARENT = """
import os, pickle, re, resource, sys
from pathlib import Path

from bench.data import safe_pickle

for name, data in pickle.load(sys.stdin.buffer).items():
    if not (child := os.fork()):
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
        try:
            said = repr(safe_pickle.loads(data))[:100]
        except pickle.UnpicklingError:
            said = "refused"
        most = re.search(r"VmHWM:\\s*([0-9]+) kB", Path("/proc/self/status").read_text())
        print(repr((name, said, int(most[1]) // 1024)), flush=True)
        os._exit(0)
    if status := os.waitpid(child, 0)[1]:
        print(repr((name, f"ended with status {status}", 0)), flush=True)
"""


@pytest.fixture(scope="module")
def answers():
    """Form -> what the reader said, and the memory that it needed in MiB."""
    forms = {
        name: content if isinstance(content, bytes) else pickle.dumps({"data": content}, 2)
        for name, content in HARMFUL.items()
    }
    done = subprocess.run(
        [sys.executable, "-c", PARENT],
        input=pickle.dumps(forms),
        capture_output=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = map(ast.literal_eval, done.stdout.decode().splitlines())
    return {name: (said, memory) for name, said, memory in lines}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the memory of a process")
@pytest.mark.parametrize("form", HARMFUL)
def test_data_that_would_end_the_interpreter_or_fill_its_memory_are_refused(form, answers):
    said, memory = answers[form]
    assert said == "refused" and memory < 300


def test_what_comes_again_after_many_others_is_found():
    """Pickle numbers what it remembers; from 256 on, the numbers have four bytes."""
    values = [str(number) for number in range(300)]
    content = pickle.dumps([values, values[-1]], 2)
    assert any(operation.name == "LONG_BINGET" for operation, *_ in pickletools.genops(content))
    assert safe_pickle.loads(content) == [values, "299"]
