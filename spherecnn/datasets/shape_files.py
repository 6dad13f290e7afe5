"""Folders of shapes: which file is of which class, and which are there to test on."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spherecnn.errors import InputError
from spherecnn.grids.mesh_files import SUFFIXES

# The last of each class are for testing where nothing else is said.
TEST_SHARE = 0.3
PARTS = ("train", "test")
_NUMBERED = re.compile(r"(.*?)[_-]?(\d+)$")


@dataclass(frozen=True)
class ShapeFile:
    """A file of a shape.

    Attributes
    ----------
    path : Path
    name : str
        Its path in the folder, without the suffix.
    label : str
        Its class.
    part : str or None
        "train" or "test", where the folders say it.
    number : int or None
        The digits at the end of its name.
    """

    path: Path
    name: str
    label: str
    part: str | None
    number: int | None


def find_shapes(folder: str | os.PathLike[str], suffixes: Sequence[str] = SUFFIXES) -> list[ShapeFile]:
    """Find the files of shapes in a folder, by class, number and name.

    The class is the first folder on the way to a file that is not ``train`` or ``test``, or else the file's name
    without the number at its end. These layouts are read so::

        chair/train/chair_0001.off   ModelNet
        chair/a.off                  a folder for each class
        chair7.off                   the class in the name
        train/chair_0001.off         and folders ending in _train and _test

    Parameters
    ----------
    folder : path
    suffixes : sequence of str
        Of the files; others and hidden ones are left aside.

    Returns
    -------
    list of ShapeFile

    Raises
    ------
    InputError
        If there is no such folder, it holds no shapes, two files differ in their suffix only, or only some of the files
        lie in ``train`` and ``test``.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; expected one of shapes, sorted by class: check the path.")
    found = [_shape(p, root) for p in root.rglob("*") if p.suffix.lower() in suffixes and _visible(p, root)]
    if not found:
        raise InputError(
            f"{root} holds no shapes ({', '.join(suffixes)}); expected CLASS/train/*.off and CLASS/test/*.off, "
            "CLASS/*.off, or files such as chair7.off: check the path."
        )
    found.sort(key=lambda f: (f.label, -1 if f.number is None else f.number, f.name))
    seen: dict[str, ShapeFile] = {}
    for file in found:
        if (other := seen.setdefault(file.name, file)) is not file:
            raise InputError(f"{other.path} and {file.path} differ in their suffix only; expected one: remove one.")
    odd = next((f for f in found if f.part is None), None)
    if odd is not None and any(f.part for f in found):
        raise InputError(
            f"{odd.path} lies in neither train nor test, as others do; expected all or none there: move it."
        )
    return found


def holds_shapes(folder: str | os.PathLike[str], suffixes: Sequence[str] = SUFFIXES) -> bool:
    """Whether there are files of shapes in a folder or below."""
    root = Path(folder)
    return root.is_dir() and any(p.suffix.lower() in suffixes and _visible(p, root) for p in root.rglob("*"))


def _visible(path: Path, root: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)


def _shape(path: Path, root: Path) -> ShapeFile:
    inside = path.relative_to(root)
    part = None
    folders = []
    for name in inside.parts[:-1]:
        end = re.split(r"[_-]", name.lower())[-1]
        if part is None and end in PARTS:
            part = end
        else:
            folders.append(name)
    numbered = _NUMBERED.match(path.stem)
    label = folders[0] if folders else (numbered[1] if numbered and numbered[1] else path.stem)
    return ShapeFile(path, inside.with_suffix("").as_posix(), label, part, int(numbered[2]) if numbered else None)


def numbers(text: str) -> set[int]:
    """Numbers and ranges in words.

    Examples
    --------
    >>> sorted(numbers("3,7-9"))
    [3, 7, 8, 9]
    """
    found: set[int] = set()
    for piece in text.split(","):
        ends = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", piece)
        if ends is None or int(ends[2] or ends[1]) < int(ends[1]) or int(ends[2] or 0) - int(ends[1]) > 10**6:
            raise InputError(f"the numbers are {text!r}; expected numbers and ranges such as 7-9 or 3,7-9: correct it.")
        found |= set(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return found


def in_test(files: Sequence[ShapeFile], test_numbers: str | None = None) -> np.ndarray:
    """Which shapes are there to test on: a bool for each.

    Those in folders named test; else those with the given numbers; else the last 30 % of each class, of two or more
    shapes at least one, in the order of `find_shapes`.

    Parameters
    ----------
    files : sequence of ShapeFile
    test_numbers : str, optional
        Numbers at the end of the names, such as "7-9", where the folders do not say it.

    Raises
    ------
    InputError
        If the numbers are given beside folders that say it, or are those of no shape or of all.

    Examples
    --------
    >>> files = [ShapeFile(Path(f"a{n}.off"), f"a{n}", "a", None, n) for n in range(10)]
    >>> in_test(files).nonzero()[0], in_test(files, "0,5").nonzero()[0]
    (array([7, 8, 9]), array([0, 5]))
    """
    if any(f.part for f in files):
        if test_numbers is not None:
            raise InputError(
                f"the test numbers {test_numbers!r} are given for shapes in folders train and test; expected one of "
                "both: leave them out."
            )
        return np.array([f.part == "test" for f in files])
    if test_numbers is not None:
        asked = numbers(test_numbers)
        chosen = np.array([f.number in asked for f in files])
        if chosen.all() or not chosen.any():
            raise InputError(
                f"the test numbers {test_numbers!r} are those of {'all' if chosen.all() else 'no'} shapes; expected "
                "some to train on and some to test on: choose others."
            )
        return chosen
    labels = np.array([f.label for f in files])
    chosen = np.zeros(len(files), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        count = min(max(round(TEST_SHARE * len(own)), 1), len(own) - 1)
        chosen[own[len(own) - count :]] = True
    return chosen
