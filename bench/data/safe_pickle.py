"""Reads pickles of plain values and numpy arrays, which cannot run code, crash numpy or fill the memory."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import IO, Any

import numpy as np

DTYPES = ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")
"""Types of arrays: an array of objects would read foreign bytes as addresses."""

DEEPEST = 8
"""Containers within each other; functions of Python that recurse without a check crash far below."""

LONGEST_SHARED = 1000
"""Length of a text that a pickle may use twice: a small file could otherwise become any size."""

OPCODES = """
PROTO FRAME STOP MARK POP POP_MARK PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3
LIST EMPTY_LIST APPEND APPENDS DICT EMPTY_DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD
"""
"""Names of the instructions of pickles that are followed; the others make or change objects."""

PYTHONS_OWN: Any = pickle._Unpickler

SCALARS = (type(None), bool, int, float, str, bytes)


def _refuse(what: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f"{what}, which data files must not have")


class _Dtype:
    """Stands for a numpy dtype, whose own state can crash numpy."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        name = code.decode("latin1") if isinstance(code, bytes) else code
        if name not in DTYPES:
            raise _refuse(f"it has an array of type {name!r:.40}")
        self.value = np.dtype(name)

    def build(self, state: Any) -> None:
        """Set the byte order, the only state of a plain type."""
        _, order, *rest = state
        if order not in ("<", ">", "|", "=") or rest != [None, None, None, -1, -1, 0]:
            raise _refuse("it has an unusual dtype")
        self.value = self.value.newbyteorder(order)


def _check_fits(shape: Any, dtype: Any, data: bytes | bytearray) -> None:
    """Whether the data are an array of this shape and type."""
    whole = type(shape) is tuple and len(shape) <= 32 and all(type(n) is int and n >= 0 for n in shape)
    if not whole or type(dtype) is not _Dtype or type(data) not in (bytes, bytearray):
        raise _refuse("it has a damaged array")
    size = dtype.value.itemsize
    # Strides are computed as if no side were 0.
    if math.prod(shape) * size != len(data) or math.prod(max(n, 1) for n in shape) * size >= 2**62:
        raise _refuse(f"it has an array of {len(data)} bytes with another shape")


def _encode(text: str, encoding: str) -> bytes:
    """Python 3 writes bytes in protocol 2 with this; the real `codecs.encode` imports modules by name."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


def _reconstruct(kind: object, shape: object, code: object) -> np.ndarray:
    """An empty array, which its state fills."""
    if kind is not NDARRAY or shape != (0,) or code not in ("b", b"b"):
        raise _refuse("it calls _reconstruct with other arguments than numpy")
    return np.empty(0, np.int8)


def _fill(array: np.ndarray, state: Any) -> None:
    _, shape, dtype, fortran, data = state
    if isinstance(data, str):  # of Python 2
        data = data.encode("latin1")
    _check_fits(shape, dtype, data)
    array.__setstate__((1, shape, dtype.value, bool(fortran), bytes(data)))  # type: ignore[arg-type]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    _check_fits(shape, dtype, data)
    return np.frombuffer(data, dtype.value).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any) -> np.generic:
    data = data.encode("latin1") if isinstance(data, str) else data
    _check_fits((), dtype, data)
    scalar: np.generic = np.frombuffer(data, dtype.value)[0]
    return scalar


NDARRAY = object()
"""Stands for the class, which is only an argument of `_reconstruct`."""

ALLOWED = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in ("numpy.core", "numpy._core")},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in ("numpy.core", "numpy._core")},
    **{(f"{core}.numeric", "_frombuffer"): _frombuffer for core in ("numpy.core", "numpy._core")},
}


class _Unpickler(PYTHONS_OWN):
    """Python's own unpickler in Python: the one in C reserves memory for any index of its memo."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it requests {module}.{name}, which data files must not use")
        return ALLOWED[module, name]

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Dtype):
            target.build(state)
        elif isinstance(target, np.ndarray) and target.shape == (0,):
            _fill(target, state)
        else:
            raise _refuse(f"it sets the state of a {type(target).__name__}")

    def load_bytearray8(self) -> None:
        """The length is only a claim, so it reserves nothing."""
        self.load_binbytes8()
        self.stack[-1] = bytearray(self.stack[-1])

    def add(self, kind: type, items: list[Any]) -> None:
        """Add to the container on the stack: its own methods would be those of any object."""
        target: Any = self.stack[-1]
        fits = type(target) is kind
        if not fits or (kind is dict and not all(type(key) in SCALARS for key in items[::2])):
            raise _refuse(f"it adds to a {type(target).__name__}")
        if kind is list:
            target.extend(items)
        else:
            target.update(zip(items[::2], items[1::2], strict=True))

    def load_append(self) -> None:
        self.add(list, [self.stack.pop()])

    def load_appends(self) -> None:
        self.add(list, self.pop_mark())

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.add(dict, [key, value])

    def load_setitems(self) -> None:
        self.add(dict, self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.add(dict, items)

    def load_get(self) -> None:
        super().load_get()
        self.check_small()

    def load_binget(self) -> None:
        super().load_binget()
        self.check_small()

    def load_long_binget(self) -> None:
        super().load_long_binget()
        self.check_small()

    def check_small(self) -> None:
        """Refuse what makes a small file large when it is used again and again."""
        value = self.stack[-1]
        if isinstance(value, (list, tuple, dict, bytearray, np.ndarray)) or (
            isinstance(value, (str, bytes)) and len(value) > LONGEST_SHARED
        ):
            raise _refuse(f"it uses one {type(value).__name__} twice")


class _Dispatch(dict[int, Callable[[_Unpickler], None]]):
    def __missing__(self, opcode: int) -> Callable[[_Unpickler], None]:
        raise _refuse(f"it has the opcode {bytes([opcode])!r}")


def _method(opcode: int) -> Callable[[_Unpickler], None]:
    name = PYTHONS_OWN.dispatch[opcode].__name__
    method: Callable[[_Unpickler], None] = getattr(_Unpickler, name)
    return method


_Unpickler.dispatch = _Dispatch(
    (code, _method(code)) for name in OPCODES.split() for code in getattr(pickle, name)
)


def _check_plain(value: Any, depth: int = 0) -> None:
    if type(value) in SCALARS or isinstance(value, (bytearray, np.ndarray, np.generic)):
        return
    if not isinstance(value, (list, tuple, dict)):
        raise _refuse("it has a value that is not plain")
    if depth == DEEPEST:
        raise _refuse(f"it has more than {DEEPEST} containers within each other")
    for part in value.values() if isinstance(value, dict) else value:
        _check_plain(part, depth + 1)


def loads(data: bytes) -> Any:
    """As `load`."""
    return load(io.BytesIO(data))


def load(file: IO[bytes]) -> Any:
    """The pickled value; strings of Python 2 are read as latin-1.

    Raises:
        OSError: the file cannot be read.
        pickle.UnpicklingError: it requests anything except numpy arrays and plain values, or it is damaged.
    """
    try:
        value = _Unpickler(file, encoding="latin1").load()
        _check_plain(value)
    except (OSError, pickle.UnpicklingError):
        raise
    # A damaged pickle can raise many types of errors.
    except Exception as error:
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from None
    return value
