"""Writing files so that a full disk or a kill never leaves half a file."""

from __future__ import annotations

import contextlib
import os
import tokenize
import zipfile
import zlib
from pathlib import Path

from spherecnn.errors import InputError

# What numpy and zipfile raise on damaged files of arrays.
DAMAGED = (
    *(ValueError, KeyError, EOFError, OSError, RuntimeError, MemoryError, SyntaxError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder and its parents; return it."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be created ({error.strerror}); expected a place that can be written: name another folder."
        ) from error
    return folder


def write_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace the file at `path` by `content`, wholly or not at all.

    The content goes to a temporary file in the same folder, is flushed to the disk and then takes the name.

    Raises
    ------
    InputError
        If the disk is full or the folder cannot be written; what stood at `path` before stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror}) and what stood there before is untouched; "
            "expected a folder with free space: free some or name another folder."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
