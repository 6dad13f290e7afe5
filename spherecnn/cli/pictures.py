"""Picture files as arrays with their own channels and bits, and back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from spherecnn.datasets.folder import SUFFIXES, decode
from spherecnn.errors import InputError
from spherecnn.files import make_folder, write_atomic
from spherecnn.grids.cubemap import FACES

KINDS = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGBA"}


def read_picture(path: Path) -> np.ndarray:
    """Decode a JPEG or PNG file to (H, W, C): grey, grey and alpha, RGB or RGBA; uint8, or uint16 for 16-bit grey.

    Palettes become RGB, or RGBA where they have transparency; other modes RGB. The EXIF orientation is applied.
    """
    picture = decode(path)
    if picture.mode.startswith("I"):
        return np.asarray(picture).astype(np.uint16)[..., None]
    if picture.mode == "1":
        picture = picture.convert("L")
    elif "transparency" in picture.info and picture.mode in ("P", "RGB"):
        picture = picture.convert("RGBA")
    elif picture.mode not in ("L", "LA", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def loses_bits(path: Path) -> bool:
    """Whether a file is a 16-bit PNG of more than one channel, which Pillow reads by its upper 8 bits."""
    with open(path, "rb") as file:
        head = file.read(26)
    return head[:8] == b"\x89PNG\r\n\x1a\n" and head[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06")


def check_suffix(path: Path) -> None:
    """Refuse a name that is none of a JPEG or PNG file."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"the picture to write is {path}; expected a name in {', '.join(SUFFIXES)}: rename it.")


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, C) of uint8 or uint16 as PNG, or as JPEG of quality 95, wholly or not at all."""
    jpeg = path.suffix.lower() != ".png"
    if jpeg and (pixels.dtype != np.uint8 or pixels.shape[2] in (2, 4)):
        raise InputError(
            f"{path} is to hold {describe(pixels)}; expected 8 bits without alpha in a JPEG file: name a .png file."
        )
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.save(buffer, **({"format": "JPEG", "quality": 95} if jpeg else {"format": "PNG"}))
    write_atomic(path, buffer.getvalue())


def read_faces(folder: Path) -> tuple[np.ndarray, list[Path]]:
    """The faces (6, n, n, C) in a folder of front, right, back, left, up and down pictures, and their files."""
    files = []
    for name in FACES:
        found = [folder / (name + suffix) for suffix in SUFFIXES if (folder / (name + suffix)).is_file()]
        if len(found) != 1:
            raise InputError(
                f"{folder} holds {len(found) or 'no'} pictures named {name}; expected one each of {', '.join(FACES)} "
                f"({', '.join(SUFFIXES)}): rename the files."
            )
        files += found
    faces = [read_picture(file) for file in files]
    height, width, _ = faces[0].shape
    for file, face in zip(files, faces, strict=True):
        if height != width or face.shape != faces[0].shape or face.dtype != faces[0].dtype:
            raise InputError(
                f"{file} is {face.shape[0]} x {face.shape[1]} pixels, {describe(face)}, beside {height} x {width}, "
                f"{describe(faces[0])}, of {files[0].name}; expected six equal squares: crop or convert them."
            )
    return np.stack(faces), files


def write_faces(folder: Path, faces: np.ndarray) -> None:
    """Write faces (6, n, n, C) as front.png, right.png, back.png, left.png, up.png and down.png."""
    make_folder(folder)
    for name, face in zip(FACES, faces, strict=True):
        write_picture(folder / f"{name}.png", face)


def describe(pixels: np.ndarray) -> str:
    """Channels and bits of (..., C) pixels.

    Examples
    --------
    >>> describe(np.zeros((2, 2, 3), np.uint8))
    'RGB of 8 bits'
    """
    return f"{KINDS[pixels.shape[-1]]} of {8 * pixels.dtype.itemsize} bits"
