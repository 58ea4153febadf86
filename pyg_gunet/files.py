"""Files at the door: nothing that was read may run, nothing that is written may be torn."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

# All that the pickled arrays of the Planetoid collection ask for, by old and new module names.
_ARRAY_PICKLES = {
    "numpy": {"ndarray", "dtype"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "scipy.sparse.csr": {"csr_matrix"},
    "scipy.sparse._csr": {"csr_matrix"},
    "scipy.sparse": {"csr_matrix"},
    "__builtin__": {"list", "dict"},
    "builtins": {"list", "dict"},
    "collections": {"defaultdict"},
    "_codecs": {"encode"},  # how protocol 2 writes bytes
}


MAX_LABELS = 10_000  # distinct labels of a node or an edge; each becomes a column


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _ARRAY_PICKLES.get(module, ()):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        if module == "scipy.sparse.csr":  # the name of old pickles is on its way out
            module = "scipy.sparse"
        return super().find_class(module, name)


class _TensorUnpickler(_ArrayUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _load_from_bytes  # torch's own would unpickle anything
        if module in ("torch", "torch._utils", "collections") and name in _TENSOR_PICKLES:
            return pickle.Unpickler.find_class(self, module, name)
        return super().find_class(module, name)


_TENSOR_PICKLES = ("_rebuild_tensor_v2", "OrderedDict", "Size", "device")


def _load_from_bytes(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


def check_pickle(path: Path, tensors: bool = False) -> None:
    """Refuses a pickle that holds anything but arrays, sparse matrices, lists and dicts.

    A file that does not exist passes.

    Args:
        path (Path): The file.
        tensors (bool, optional): Whether it may hold tensors, too. (default: False)

    Raises:
        ValueError: If it does, or if the file is no pickle.
    """
    if not path.is_file():
        return
    try:
        with open(path, "rb") as file:
            (_TensorUnpickler if tensors else _ArrayUnpickler)(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"cannot read '{path}' as pickled arrays: {first_line(error)}") from error


def check_labels(path: Path, most: int = MAX_LABELS) -> None:
    """Refuses a text file of integers with a range beyond `most`, of which one-hot columns would
    be made. A file that does not exist passes.

    Raises:
        ValueError: If it does, or if the file holds something else.
    """
    if not path.is_file():
        return
    low, high = most, -most
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                values = [int(text[:40]) for text in line.split(",") if text.strip()]
                if values:
                    low, high = min(low, *values), max(high, *values)
    except ValueError as error:
        raise ValueError(f"cannot read '{path}' as integers: {first_line(error)}") from error
    if high - low >= most:
        raise ValueError(f"'{path}' holds labels from {low} to {high}, more than {most}")


def read_torch(path: str | os.PathLike[str], name: str) -> Any:
    """Reads what :func:`torch.save` wrote, with ``weights_only=True``, onto the CPU.

    Args:
        path (str): The file.
        name (str): What the caller calls this argument.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a whole file of :func:`torch.save`, or holds more than tensors and
            plain Python values.
    """
    path = check_path(path, name)
    if path.is_dir():
        raise ValueError(f"'{name}' must be a file (got the folder '{path}')")
    if not path.exists():
        raise FileNotFoundError(f"'{name}' does not exist (got '{path}')")
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.save stores without compression: a small file cannot blow up in memory.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("its entries are compressed")
            # Nor by entries that share their bytes.
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("its entries are larger than the file")
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"'{name}' cannot be read: {error.strerror} (got '{path}')") from error
    except Exception as error:  # zipfile, pickle and torch each have their own errors
        reason = first_line(error)
        if isinstance(error, pickle.UnpicklingError):
            reason = "it holds more than tensors and plain values"
        raise ValueError(
            f"'{name}' is truncated or not a file written by torch.save: {reason} (got '{path}')"
        ) from error


@contextmanager
def safe_graphs() -> Iterator[None]:
    """In here :func:`read_torch` takes PyG's `Data`, too, which torch.load, since 2.6, refuses."""
    from torch_geometric.data import Data
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    allowed = getattr(torch.serialization, "safe_globals", None)
    if allowed is None:  # before torch 2.5 torch.load takes all there is
        yield
        return
    # Only what is not allowed yet: the end of the context takes back all that it was given.
    known = torch.serialization.get_safe_globals()
    wanted = (Data, DataEdgeAttr, DataTensorAttr, GlobalStorage)
    with allowed([kind for kind in wanted if kind not in known]):
        yield


@contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a file for writing that takes its name only when it is whole.

    A process that is killed meanwhile leaves the unfinished file beside it, which
    :func:`sweep_aside` deletes.

    Raises:
        OSError: If it cannot be written; then nothing is left behind, and a file that had the name
            before is untouched.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        if error.filename is None and error.errno is not None:  # a full disk does not say which
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def sweep_aside(folder: Path) -> None:
    """Deletes what killed processes left unfinished in a folder."""
    for path in folder.glob(".*.tmp"):
        process = path.name.split(".")[-2]
        if process.isdecimal() and not is_running(int(process)):
            path.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _sync_folder(folder: Path) -> None:
    """Makes a new name last through a power cut, where the system lets folders be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def reading(folder: Path, files: Sequence[str], processed_file: str = "data.pt") -> Iterator[None]:
    """Turns what goes wrong while PyG reads the data set in `folder` into one clear line.

    Args:
        folder (Path): The folder that has `raw` and `processed` in it.
        files (sequence of str): The files that must be in `raw`.
        processed_file (str, optional): What PyG writes to `processed`, after which it needs them no
            more. (default: ``"data.pt"``)

    Raises:
        FileNotFoundError: If a file is missing and was not downloaded: which, and where to put it.
        PermissionError: If PyG cannot write there.
        ValueError: If a file is not what it should be.
    """
    raw, processed = folder / "raw", folder / "processed"
    for path in sorted(processed.glob("*.pt")):
        try:
            read_torch(path, "name")  # PyG would fall back to an unrestricted unpickler
        except ValueError as error:
            raise ValueError(f"{error}; delete it, it is made anew from '{raw}'") from error
    missing = [file for file in files if not (raw / file).is_file()]
    had = [path for path in (folder.parent, folder, raw, processed) if path.exists()]
    try:
        yield
    except Exception as error:
        for path in (processed, raw, folder, folder.parent):
            if path not in had and path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if not files and not raw.is_dir() and isinstance(error, OSError):
            missing = ["its files"]
        if isinstance(error, PermissionError):
            raise PermissionError(
                f"'root' must be writable, PyG keeps processed files there (got '{folder}')"
            ) from error
        if missing and not (processed / processed_file).is_file():
            raise FileNotFoundError(
                f"cannot download {', '.join(missing)} ({first_line(error)}): put them into '{raw}'"
            ) from error
        raise ValueError(f"cannot read the files in '{raw}': {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its name where it has none."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def check_path(path: Any, name: str) -> Path:
    """A path, from a str or a :class:`~pathlib.Path`.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is empty, has a null byte, or a part too long for a file's name.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"'{name}' must be a str or a Path (got {path!r:.80})")
    text = os.fspath(path)
    if not text or "\0" in text:
        raise ValueError(f"'{name}' must name a file or folder (got {text!r:.80})")
    path = Path(text)
    if any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise ValueError(f"'{name}' has a part too long for a file's name (got {str(path)!r:.80})")
    return path
