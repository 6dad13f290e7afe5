"""Inpainting: fill holes of pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.cli.tasks.base import EXAMPLES, DenseCommands, each_output, turned
from spherecnn.datasets.folder import fit_to_grid
from spherecnn.datasets.inpainting import Holes, Inpainting, NewHoles, hide
from spherecnn.datasets.transforms import Compose
from spherecnn.errors import InputError
from spherecnn.files import write_atomic
from spherecnn.training.data import Subset
from spherecnn.training.regression import HOLE
from spherecnn.training.task import Task


class Inpaint(DenseCommands):
    """A folder of pictures; the holes are drawn."""

    name = "inpaint"
    asked = HOLE
    takes = ("holes",)
    models = (*DenseCommands.models, "inpainter")
    predicts = ("masks",)

    def open(self, source: str, grid: Any, part: str, config: dict[str, Any], rotate: str = "none") -> Any:
        data = sc.datasets.inpainting(
            source,
            grid,
            split="all" if part == "test" else part,
            validation=config["validation"],
            seed=config["seed"],
            holes=Holes(grid, config.get("holes", "mixed")),
        )
        data.data.load()
        return turned(data, rotate, config["seed"])

    def augment(self, grid: Any, config: dict[str, Any]) -> Any:
        """New holes in every batch, after the rotation."""
        holes = NewHoles(Holes(grid, config["holes"]))
        turn = super().augment(grid, config)
        return holes if turn is None else Compose(turn, holes)

    def outputs(self, data: Any) -> int:
        return 3

    def task(self, config: dict[str, Any], grid: Any) -> Task:
        return sc.training.Inpaint(config.get("loss") or "l1", area=grid.area)

    def report(self, found: dict[str, Any], config: dict[str, Any], out: Path) -> tuple[str, list[str]]:
        write_atomic(out / "errors.csv", o.csv_text([["error", "value"], *([n, found[n]] for n in HOLE)]).encode())
        said = (
            f"in the holes L1 {found['hole_l1']:.4f}, L2 {found['hole_l2']:.5f}, PSNR {found['hole_psnr']:.2f} dB, "
            f"weighted by area; loss {found['loss']:.4f}."
        )
        return said, ["errors.csv"]

    def draw_examples(self, model: Any, task: Task, data: Any, config: dict[str, Any], out: Path) -> list[str]:
        few = Subset(data, np.arange(min(EXAMPLES, len(data))))
        shown: list[np.ndarray] = []
        for i, x, y in each_output(model, task, few, EXAMPLES):
            pictures = x[..., :-1], y, data.batch(np.array([i]))[1][0, ..., :-1]
            shown += [sc.viz.panorama(picture, data.grid) for picture in pictures]
        titles = ["with holes", "filled", "true"] * (len(shown) // 3)
        sc.viz.panel(np.stack(shown), out / "examples.png", titles, columns=3)
        return ["examples.png"]

    def inputs(self, files: Sequence[Path], model: Any, config: dict[str, Any], **options: Any) -> Any:
        pictures = super().inputs(files, model, config)
        if options["masks"] is None:
            return Inpainting(pictures, Holes(model.grid, config.get("holes", "mixed")), config["seed"])
        return GivenHoles(pictures, [find_mask(options["masks"], file) for file in files])

    def write(
        self, x: np.ndarray, y: np.ndarray, stem: Path, model: Any, config: dict[str, Any], **options: Any
    ) -> None:
        for name, picture in (("holes", x[..., :-1]), ("filled", y)):
            buffer = io.BytesIO()
            pixels = (sc.viz.panorama(picture, model.grid) * 255).round().astype(np.uint8)
            Image.fromarray(pixels).save(buffer, "PNG")
            write_atomic(o.beside(stem, f"-{name}.png"), buffer.getvalue())
        sc.viz.globe(y, model.grid, o.beside(stem, "-globe.png"), title=stem.name)

    def said(self, config: dict[str, Any], **options: Any) -> str:
        drawn = "" if options["masks"] else ", with holes drawn at random as no --masks were given"
        return f"NAME-holes.png, NAME-filled.png, NAME-globe.png{drawn}"


class GivenHoles:
    """Pictures with the holes of mask files: white is a hole."""

    def __init__(self, pictures: Any, masks: Sequence[Path]):
        self.pictures, self.masks, self.grid = pictures, masks, pictures.grid

    def __len__(self) -> int:
        return len(self.masks)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        masks = [self._mask(int(i)) for i in indices]
        return hide(self.pictures.batch(indices)[0], np.stack(masks))

    def _mask(self, i: int) -> np.ndarray:
        grey = sc.datasets.read_panorama(self.masks[i])
        if grey.shape[:2] != self.pictures.size(i):
            rows, columns = self.pictures.size(i)
            raise InputError(
                f"{self.masks[i]} is {grey.shape[1]} x {grey.shape[0]} pixels and {self.pictures.files[i]} is "
                f"{columns} x {rows}; expected a mask of the size of its picture: resize it."
            )
        white = (grey[..., :1] > np.iinfo(grey.dtype).max // 2).astype(np.float32)
        # A pixel of the grid with any of the hole in it is filled.
        return fit_to_grid(white, self.grid)[..., 0] > 1e-6


def find_mask(folder: Path, picture: Path) -> Path:
    """The mask file of a picture: PNG, the same stem."""
    mask = folder / f"{picture.stem}.png"
    if not mask.is_file():
        raise InputError(f"{mask} is missing; expected a mask for {picture}, white where it has a hole: add it.")
    return mask
