"""PyTorch's files, read as data: nothing in them is unpickled, imported, looked up or called.

`torch.save` writes a zip: `data.pkl`, a pickle that says which tensors there are, and beside it the
bytes of each. Here the instructions of the pickle are read one by one, on a stack that holds plain data;
a class or function is its name, a call of it the name with its arguments.
"""

import io
import pickletools
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from softac.errors import CheckpointError, one_line
from softac.types import FloatArray

FILE_LIMIT = 2**29
DIRECTORY_LIMIT = 2**18
INSTRUCTIONS_LIMIT = 2**18
MOST_DIMENSIONS = 8
END, LOCATOR, RECORD = 22, 20, 56  # bytes at the end of a zip; the last two where it is a large one
ORDERED_DICT = "collections OrderedDict"
TENSOR = "torch._utils _rebuild_tensor_v2"
FLOATS = "torch FloatStorage"


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names: module and name, with a space between them."""

    text: str


@dataclass(frozen=True)
class Call:
    """What a pickle would call, and with what."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Stored:
    """What lies beside a pickle, as it refers to it."""

    reference: Any


class Archive:
    """A zip of uncompressed files, in memory.

    What is not compressed cannot become larger than it is; so nothing else is needed against bombs but
    a limit for the list of files.

    Args:
        data: the bytes of the zip.
        what: it is, for messages.

    Raises:
        CheckpointError: it is no zip, a damaged one, or its list of files is too long.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self.what = what
        if _directory_size(data) > DIRECTORY_LIMIT:
            raise self.refusal("no zip, or one with a very long list of files")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError, IndexError) as error:
            raise self.refusal(str(error)) from None
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}

    @property
    def names(self) -> list[str]:
        """Of its files; not to be used as paths."""
        return list(self._entries)

    def read(self, name: str, limit: int = FILE_LIMIT) -> bytes:
        """The bytes of a file.

        Raises:
            CheckpointError: it is missing, compressed, encrypted, damaged or larger than `limit`.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise self.refusal(f"there is no {name} in it")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size > limit:
            raise self.refusal(f"{name} is compressed, encrypted or larger than {limit} bytes")
        try:
            return self._zip.read(entry)
        except (zipfile.BadZipFile, RuntimeError, ValueError, NotImplementedError, OSError, EOFError) as error:
            raise self.refusal(f"{name}: {error}") from None

    def refusal(self, why: str) -> CheckpointError:
        """The error for a zip that cannot be read."""
        return CheckpointError(
            f"{self.what} cannot be read ({one_line(why, 200)})",
            "expected the zip that Stable-Baselines3 or PyTorch wrote, as it was written",
            "save the model again, or copy the file again",
        )


def _directory_size(data: bytes) -> int:
    """Bytes that a zip without a comment says its list of files has; too many where it is none."""
    end, locator, record = data[-END:], data[-END - LOCATOR : -END], data[-END - LOCATOR - RECORD :]
    if end[:4] != b"PK\5\6" or end[20:] != b"\0\0":
        return DIRECTORY_LIMIT + 1
    size = int.from_bytes(end[12:16], "little")
    if locator[:4] == b"PK\6\7":
        size = int.from_bytes(record[40:48], "little")
    return size


def read_tensors(data: bytes, what: str) -> dict[str, FloatArray]:
    """The tensors of a file that `torch.save` wrote of a dict of them.

    Args:
        data: the bytes of the file.
        what: it is, for messages.

    Raises:
        CheckpointError: it is anything else, or a tensor is not of finite float32 numbers in row-major order.
    """
    archive = Archive(data, what)
    root = next((name.removesuffix("data.pkl") for name in archive.names if name.endswith("/data.pkl")), "")
    order = f"{root}byteorder"
    if order in archive.names and archive.read(order, 10) != b"little":
        raise archive.refusal("its numbers are big-endian")
    content = read_instructions(archive.read(f"{root}data.pkl", INSTRUCTIONS_LIMIT), what)
    if not isinstance(content, dict):
        raise archive.refusal("it holds no dict of tensors")
    stored: dict[str, bytes] = {}
    tensors: dict[str, FloatArray] = {}
    total = 0
    for name, value in content.items():
        tensors[name] = _tensor(archive, root, name, value, stored)
        total += tensors[name].nbytes
        if total > FILE_LIMIT:
            raise archive.refusal(f"its tensors have more than {FILE_LIMIT} bytes")
    return tensors


def _tensor(archive: Archive, root: str, name: str, value: Any, stored: dict[str, bytes]) -> FloatArray:
    """The tensor that a call of `_rebuild_tensor_v2(storage, offset, size, stride, ...)` describes."""
    match value:
        case Call(
            name=called,
            arguments=(Stored(("storage", Name(kind), str(key), _, _)), int(at), tuple(size), stride, *_),
        ) if called == TENSOR and kind == FLOATS and all(type(n) is int and n >= 0 for n in size):
            if len(size) > MOST_DIMENSIONS:
                raise archive.refusal(f"{name} has {len(size)} dimensions")
        case _:
            raise archive.refusal(f"{name} is no tensor of float32")
    count = int(np.prod(size, dtype=object))
    row_major = tuple(int(np.prod(size[i + 1 :], dtype=object)) for i in range(len(size)))
    if key not in stored:  # tensors may share what is stored
        stored[key] = archive.read(f"{root}data/{key}")
    numbers = stored[key]
    if stride != row_major or at < 0 or 4 * (at + count) > len(numbers):
        raise archive.refusal(f"{name} does not lie in its {len(numbers)} bytes, row after row")
    tensor = np.frombuffer(numbers, "<f4", count, 4 * at).reshape(size)
    if not np.isfinite(tensor).all():
        raise archive.refusal(f"{name} is not finite")
    return tensor


def read_instructions(data: bytes, what: str) -> Any:
    """What a pickle describes, as plain data.

    Args:
        data: the pickle.
        what: it is, for messages.

    Raises:
        CheckpointError: it is damaged, or has an instruction that no file of tensors needs.
    """
    try:
        return _interpret(data)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        detail = one_line(f"{type(error).__name__}: {error}", 120)
        raise CheckpointError(
            f"{what} holds instructions that describe no tensors ({detail}); none was followed",
            "expected what torch.save writes of a dict of tensors",
            "save the model again with Stable-Baselines3",
        ) from None


def _interpret(data: bytes) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    for instruction, argument, _ in pickletools.genops(data):
        match instruction.name:
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "TUPLE" | "SETITEMS" as name:
                at = marks.pop()
                values = stack[at:]
                del stack[at:]
                if name == "TUPLE":
                    stack.append(tuple(values))
                else:
                    _put(stack[-1], values)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case name:
                _step(stack, name, argument)
    raise ValueError("no end")


def _step(stack: list[Any], instruction: str, argument: Any) -> None:
    """An instruction that needs nothing but the stack."""
    match instruction:
        case "PROTO" | "FRAME":
            pass
        case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE":
            stack.append(argument)
        case "NONE" | "NEWTRUE" | "NEWFALSE":
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction])
        case "EMPTY_DICT":
            stack.append({})
        case "EMPTY_TUPLE":
            stack.append(())
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            n = int(instruction[-1])
            stack[-n:] = [tuple(stack[-n:])]
        case "SETITEM":
            value, key = stack.pop(), stack.pop()
            _put(stack[-1], [key, value])
        case "BUILD":
            stack.pop()  # attributes, which no tensor depends on
        case "BINPERSID":
            stack.append(Stored(stack.pop()))
        case "GLOBAL":
            stack.append(Name(argument))
        case "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            stack.append(Name(" ".join([module, name])))
        case "REDUCE" | "NEWOBJ":
            arguments, called = stack.pop(), stack.pop()
            stack.append({} if called.text == ORDERED_DICT else Call(called.text, tuple(arguments)))
        case _:
            raise ValueError(instruction)


def _put(target: Any, items: list[Any]) -> None:
    if not isinstance(target, dict) or not all(isinstance(key, str) for key in items[::2]):
        raise TypeError("no dict of names")
    target.update(zip(items[::2], items[1::2], strict=True))
