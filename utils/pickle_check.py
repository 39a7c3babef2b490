"""Load a PyTorch file from an unknown source: a dry run checks what would be loaded before anything is allocated.

`torch.load(weights_only=True)` calls nothing of the file's choosing, but believes the sizes that the file claims, and
what it allows includes ways to ask for any amount of memory. Here the pickle is run with placeholders in place of
tensors, so that only plain values and tensors that the file really holds are let through.
"""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

import torch

from utils.errors import UserError, require_file

_MAX_PICKLE_BYTES = 1 << 28
_MAX_DEPTH = 64
_LEGACY_HEADER_PICKLES = 3  # magic number, protocol version, facts about the machine
_ITEM_BYTES = {
    "ComplexDoubleStorage": 16,
    "ComplexFloatStorage": 8,
    "DoubleStorage": 8,
    "LongStorage": 8,
    "FloatStorage": 4,
    "IntStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "ShortStorage": 2,
    "ByteStorage": 1,
    "CharStorage": 1,
    "BoolStorage": 1,
    "UntypedStorage": 1,
}
# What torch.save writes for tensors, numbers, texts, lists, tuples and dicts.
_OPCODES = b"\x80.(}])N\x88\x89ae\x85\x86\x87tusKMJGX\x8aqrhjcRbQ2U" + pickle.LONG4 + pickle.EMPTY_SET + pickle.ADDITEMS


class HostileFileError(Exception):
    """A file that is not loaded; the message completes the sentence "PATH ..."."""


_FOREIGN = "holds Python objects besides weights, which are not loaded for safety; save its state_dict only"
DAMAGED = "is no PyTorch checkpoint, or a damaged one; copy or download it again"
_LIES = "claims more numbers than it holds; copy or download it again"


def read_torch_file(path: str | Path, option: str, hint: str = "", whole: bool = False) -> Any:
    """Return what a file written by `torch.save` holds: tensors (on the CPU) and plain Python values only.

    Args:
        path: the file.
        option: what named it, for the message.
        hint: what to do where there is no such file, for example where to download it.
        whole: compare checksums, which reads all tensors: PyTorch itself takes changed bits for weights.

    Raises:
        UserError: missing, empty, truncated or no such file; or it holds other Python objects.
    """
    path = require_file(path, option, hint)
    try:
        is_zip = check_torch_file(path, whole)
        # Mapped, the optimizers that inference does not need are never read.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except HostileFileError as error:
        raise UserError(f"{option}: {path} {error}") from error
    except Exception as error:  # bytes that only look like a pickle can raise nearly anything
        raise UserError(f"{option}: {path} {DAMAGED}") from error


def check_torch_file(path: Path, whole: bool = False) -> bool:
    """See that a file written by `torch.save` holds plain values and tensors only, and as much as it claims.

    Args:
        path: the file.
        whole: also read all tensors and compare their checksums, about a second per GB. Files of PyTorch before 1.6
            have none.

    Returns whether it is a zip file, as PyTorch writes since 1.6.

    Raises:
        HostileFileError: it does not, or it is no such file.
        OSError: it cannot be read.
    """
    try:
        if zipfile.is_zipfile(path):
            _check_zip(path, whole)
            return True
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":  # the list of a zip's entries is at its end
                raise HostileFileError("is cut short; copy or download it again")
        _check_legacy(path)
        return False
    except (HostileFileError, OSError, MemoryError):
        raise
    except Exception as error:  # bytes that only look like a pickle can raise nearly anything
        raise HostileFileError(DAMAGED) from error


def _check_zip(path: Path, whole: bool) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            # torch.save compresses nothing, so that nothing can inflate.
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise HostileFileError("is a compressed zip file, which PyTorch does not write; save it again")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise HostileFileError(_LIES)
        sizes = {entry.filename: entry.file_size for entry in entries}
        (name,) = (name for name in sizes if name.endswith("/data.pkl") and name.count("/") == 1)
        if sizes[name] > _MAX_PICKLE_BYTES:
            raise HostileFileError(_LIES)
        reader = _DryRun(io.BytesIO(archive.read(name)))
        if whole and archive.testzip() is not None:
            raise HostileFileError(DAMAGED)
    _check_value(reader.load())
    folder = name.removesuffix("data.pkl") + "data/"
    for key, claimed in reader.storages.items():
        if claimed > sizes.get(f"{folder}{key}", 0):
            raise HostileFileError(_LIES)


def _check_legacy(path: Path) -> None:
    """Files of PyTorch before 1.6: pickles one after the other, then the numbers."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for _ in range(_LEGACY_HEADER_PICKLES):
            _DryRun(file).load()
        reader = _DryRun(file)
        _check_value(reader.load())
        if sum(reader.storages.values()) > size - file.tell():
            raise HostileFileError(_LIES)


class _Storage:
    """The numbers that a tensor is a view of."""

    def __init__(self, count: int):
        self.count = count


class _Tensor:
    """Stands for a tensor in the dry run."""


class _Attributes(dict):
    """Stands for an OrderedDict, which may carry attributes."""


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    numbers = (offset, *size, *stride)
    plain = all(type(number) is int and number >= 0 for number in numbers)
    if not (isinstance(storage, _Storage) and plain and len(size) == len(stride)):
        raise HostileFileError(DAMAGED)
    count = 1
    for length in size:
        count *= length
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count and (count > storage.count or last >= storage.count):
        raise HostileFileError(_LIES)
    return _Tensor()


def _rebuild_parameter(tensor: Any, *_: Any) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise HostileFileError(DAMAGED)
    return tensor


def _ordered_dict(items: Any = ()) -> _Attributes:
    return _Attributes(items)


def _set(items: Any = ()) -> set:
    return set(items)


_GLOBALS: dict[str, Callable] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "collections.OrderedDict": _ordered_dict,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "torch.Size": tuple,
}


class _DryRun(pickle._Unpickler):
    """Python's own unpickler, in the version written in Python, that knows placeholders only.

    The one written in C reserves memory for as many values as a file claims to number.
    """

    dispatch = {code: load for code, load in pickle._Unpickler.dispatch.items() if code in _OPCODES}  # noqa: RUF012

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the placeholder of a global; raises HostileFileError for all that weights do not need."""
        if module in ("torch", "torch.storage") and name in _ITEM_BYTES:
            return name
        if f"{module}.{name}" in _GLOBALS:
            return _GLOBALS[f"{module}.{name}"]
        if "sparse" in name or "meta" in name or "nested" in name or "quant" in name or "qtensor" in name:
            raise HostileFileError("holds tensors that are sparse, quantized or without data; save plain ones")
        raise HostileFileError(_FOREIGN)

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the placeholder of a storage ("storage", type, key, device, count, ...)."""
        kind, name, key, _, count, *_ = pid
        if kind != "storage" or name not in _ITEM_BYTES or type(count) is not int or count < 0:
            raise HostileFileError(DAMAGED)
        self.storages[str(key)] = max(self.storages.get(str(key), 0), count * _ITEM_BYTES[name])
        return _Storage(count)

    def load_build(self) -> None:
        """Take the attributes of a dict; they are not looked at."""
        self.stack.pop()
        if not isinstance(self.stack[-1], _Attributes):
            raise HostileFileError(_FOREIGN)

    dispatch[pickle.BUILD[0]] = load_build


def _check_value(value: Any) -> None:
    """See that containers are nested a few levels deep only, and never hold themselves."""

    def fail() -> NoReturn:
        raise HostileFileError("nests its values too deeply; save its state_dict only")

    waiting: list[tuple[Any, int]] = [(value, 0)]
    deepest: dict[int, int] = {}  # a container that is found again at the same depth has been looked at
    while waiting:
        item, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            fail()
        if isinstance(item, dict | list | tuple | set):
            if deepest.get(id(item), -1) >= depth:
                continue
            deepest[id(item)] = depth
            parts = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            waiting.extend((part, depth + 1) for part in parts)
        elif not (item is None or type(item) in (bool, int, float, str, bytes, _Tensor)):
            raise HostileFileError(_FOREIGN)
