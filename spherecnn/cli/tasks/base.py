"""What a task brings to the commands train, evaluate and predict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

import spherecnn as sc
from spherecnn.datasets.transforms import RotateAugment
from spherecnn.errors import InputError
from spherecnn.files import make_folder
from spherecnn.training.data import batches
from spherecnn.training.task import TASKS, Task

# What `predict` and `evaluate` write of a picture beside its numbers.
EXAMPLES = 3
# Shares of red, green and blue in the grey that a network of one channel sees (ITU-R BT.601).
LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)


class TaskCommands:
    """One task on the command line.

    Attributes
    ----------
    name : str
        As in `spherecnn.training.TASKS`.
    models : tuple of str
        Networks that serve it; the first is the default.
    counts : str
        What the networks call the number of their outputs.
    asked : tuple of str
        Scores that `evaluate` computes.
    """

    name = ""
    models: tuple[str, ...] = ("unet", "encoder_decoder", "deeplab")
    counts = "out_channels"
    asked: tuple[str, ...] = ()
    # Options of train that concern some tasks only, and those of them that this task takes.
    special: ClassVar[dict[str, Any]] = {
        "ignore_label": None,
        "class_weights": "none",
        "label_scale": 1.0,
        "holes": "mixed",
        "test_numbers": None,
    }
    takes: tuple[str, ...] = ()

    def check(self, options: dict[str, Any]) -> None:
        """Refuse options of `train` that this task does not have."""
        for name, default in self.special.items():
            if name not in self.takes and options.get(name, default) != default:
                raise InputError(
                    f"--{name.replace('_', '-')} is {options[name]}, which the task {self.name} does not take: "
                    "leave it out or choose another task."
                )
        losses = TASKS[self.name].losses
        if options.get("loss") not in (None, *losses):
            raise InputError(
                f"--loss is {options['loss']} for the task {self.name}; expected one of {', '.join(losses)}."
            )
        if options.get("model") not in (None, *self.models):
            raise InputError(
                f"--model is {options['model']} for the task {self.name}; expected one of {', '.join(self.models)}."
            )

    def open(self, source: str, grid: Any, part: str, config: dict[str, Any], rotate: str = "none") -> Any:
        """Open a part ("train", "validation" or "test") of the data that `source` names."""
        raise NotImplementedError

    def held_back(self, config: dict[str, Any], grid: Any, rotate: str, data: str | None) -> Any:
        """All of `data`, or what training on the run's own data held back for validation."""
        return self.open(data or config["data"], grid, "test" if data else "validation", config, rotate)

    def augment(self, grid: Any, config: dict[str, Any]) -> Any:
        """What is done to every training batch, or None."""
        kind = config["augment"]
        return None if kind == "none" else RotateAugment(grid, kind)

    def outputs(self, data: Any) -> int:
        """Channels that the network puts out."""
        raise NotImplementedError

    def learned(self, data: Any, config: dict[str, Any]) -> dict[str, Any]:
        """What the task takes from the training data, as config.toml keeps it."""
        return {}

    def task(self, config: dict[str, Any], grid: Any) -> Task:
        """The task of a run, from its config."""
        raise NotImplementedError

    def build(self, config: dict[str, Any], data: Any) -> Any:
        """The network of a run."""
        name, grid = config["model"], data.grid
        settings: dict[str, Any] = {self.counts: self.outputs(data)}
        if name in ("unet", "encoder_decoder"):
            # Four stages, fewer on a small grid.
            settings["depth"] = max(1, min(4, grid.poolings))
        if name == "unet":
            settings["up"] = config["up"]
        channels = int(data.batch(np.array([0]))[0].shape[-1])
        return sc.models.build(
            {"model": name, "method": config["method"], "in_channels": channels, "grid": grid.config()}
            | {"width": config["width"]}
            | settings,
            rng=config["seed"],
        )

    def describe(self, data: Any) -> str:
        """A few words about the data, after the number of pictures."""
        return ""

    def report(self, found: dict[str, Any], config: dict[str, Any], out: Path) -> tuple[str, list[str]]:
        """What `evaluate` says, and the files that it writes into `out`."""
        raise NotImplementedError

    def draw_examples(self, model: Any, task: Task, data: Any, config: dict[str, Any], out: Path) -> list[str]:
        """Pictures of a few samples for `evaluate`; return their names."""
        return []

    def predict(
        self, model: Any, config: dict[str, Any], files: Sequence[Path], out: Path | None, run: Path, **options: Any
    ) -> str:
        """Write what the network makes of pictures; return what to say."""
        raise NotImplementedError


class DenseCommands(TaskCommands):
    """A task with an output for each pixel: `predict` writes a set of files for each picture."""

    # Options of predict that concern some tasks only.
    predicts: tuple[str, ...] = ()

    def inputs(self, files: Sequence[Path], model: Any, config: dict[str, Any], **options: Any) -> Any:
        """The network's inputs of pictures: a data set."""
        return sc.datasets.PanoramaFolder(files, np.zeros(len(files), int), [], model.grid)

    def write(
        self, x: np.ndarray, y: np.ndarray, stem: Path, model: Any, config: dict[str, Any], **options: Any
    ) -> None:
        """Write the files of a picture, whose names begin with `stem`."""
        raise NotImplementedError

    def said(self, config: dict[str, Any], **options: Any) -> str:
        """What the files of a picture are."""
        raise NotImplementedError

    def predict(
        self, model: Any, config: dict[str, Any], files: Sequence[Path], out: Path | None, run: Path, **options: Any
    ) -> str:
        for name in ("masks", "png16"):
            if options[name] and name not in self.predicts:
                raise InputError(f"--{name} is given for a run of the task {self.name}, which has none: leave it out.")
        names = [file.stem for file in files]
        for i, name in enumerate(names):
            if names.index(name) < i:
                raise InputError(
                    f"{files[names.index(name)]} and {files[i]} have the same stem, which names their output; "
                    "expected different ones: predict them one after the other."
                )
        data, task = self.inputs(files, model, config, **options), self.task(config, model.grid)
        out = make_folder(out or run / "predict")
        for i, x, y in each_output(model, task, data, options["batch_size"]):
            self.write(x, y, out / names[i], model, config, **options)
        noun = "picture" if len(files) == 1 else "pictures"
        return f"Wrote {len(files)} {noun} to {out}: {self.said(config, **options)}."


def each_output(model: Any, task: Task, data: Any, batch_size: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the number, the input and the output of each picture, with a progress bar."""
    with tqdm(total=len(data), desc="predicting", unit="file", leave=False, disable=None) as bar:
        for indices in batches(len(data), batch_size):
            x = data.batch(indices)[0]
            y = sc.training.predict(model, x, batch_size, task=task)
            for i, one, output in zip(indices, x, y, strict=True):
                yield int(i), one, output
                bar.update()


class Turned:
    """A data set whose every picture is turned by a rotation that depends on the seed and its number only.

    What is known of its pixels turns with it.
    """

    def __init__(self, data: Any, kind: str, seed: int):
        self.data, self.seed = data, seed
        self.turn: Callable[..., Any] = RotateAugment(data.grid, kind)

    def __len__(self) -> int:
        return len(self.data)

    def __getattr__(self, name: str) -> Any:
        if name == "data":
            raise AttributeError(name)
        return getattr(self.data, name)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = self.data.batch(indices)
        turned = [self.turn(x[k : k + 1], y[k : k + 1], self._rng(i)) for k, i in enumerate(indices)]
        return np.concatenate([t[0] for t in turned]), np.concatenate([t[1] for t in turned])

    def _rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, int(index)))


def turned(data: Any, rotate: str, seed: int) -> Any:
    """The data, its pictures turned where that is asked."""
    return data if rotate == "none" else Turned(data, rotate, seed)
