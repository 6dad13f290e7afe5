"""`spherecnn train`: train a network on a data set, into a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.cli.tasks import TASKS
from spherecnn.datasets.inpainting import KINDS as HOLES
from spherecnn.errors import InputError
from spherecnn.training import task as tasks
from spherecnn.training.config import load_config
from spherecnn.training.optim import OPTIMIZERS
from spherecnn.training.schedule import SCHEDULES

# What a run's config.toml records beside the options.
RECORDED = {"classes", "class_weight", "label_mean", "label_std", "channel_mean", "channel_std"}
# Options that do not change what a run computes, and may be given anew when it is resumed.
FREE = {"resume", "data", "epochs", "threads", "device", "precision"}


def settings_of(command: click.Command, path: Path) -> dict[str, Any]:
    """Read the options of a command from a TOML file."""
    settings = load_config(path)
    known = {p.name for p in command.params} - {"config", "resume"}
    unknown = sorted(settings.keys() - known - RECORDED)
    if unknown:
        raise InputError(
            f"{path} sets {unknown[0]!r}, which is no option of train; "
            f"expected some of {', '.join(sorted(known))}: correct the name."
        )
    return {name: value for name, value in settings.items() if name in known}


def use_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    if path is not None:
        ctx.default_map = settings_of(ctx.command, path)


def use_run(ctx: click.Context, param: click.Parameter, run: Path | None) -> Path | None:
    if run is not None:
        if not (run / "last.safetensors").is_file():
            raise InputError(f"{run} holds no last.safetensors; expected a run folder to go on with: check the path.")
        ctx.default_map = settings_of(ctx.command, run / "config.toml")
    return run


@click.command(
    "train",
    epilog="""\b
Examples:
  spherecnn train --data digits --method circular --epochs 20 --out runs/circular
  spherecnn train --data photos/ --height 128 --augment yaw --out runs/photos
  spherecnn train --data photos/ --method spherephd --level 5 --out runs/faces
  spherecnn train --task segment --data land/ --height 128 --class-weights balanced --out runs/land
  spherecnn train --task regress --data depth/ --label-scale 0.001 --ignore-label 0 --loss berhu
  spherecnn train --task inpaint --data photos/ --holes strokes --batch-size 8
  spherecnn train --data photos/ --height 256 --device cuda --precision tf32
  spherecnn train --resume runs/circular --epochs 40""",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=use_config,
    help="TOML file of options, such as the config.toml of a run; options given here count more.",
)
@click.option("--resume", type=o.FOLDER, is_eager=True, callback=use_run, help="Go on with the run in this folder.")
@click.option(
    "--data",
    required=True,
    help="classify: digits, a folder of MNIST-format files, a folder with a sub-folder a class, or shapes of "
    "`spherecnn mesh project`. "
    "segment, regress: a folder with images/ and labels/. inpaint: a folder of pictures.",
)
@o.method_option
@click.option("--task", type=click.Choice(list(TASKS)), default="classify", show_default=True, help="What to learn.")
@click.option(
    "--model",
    type=click.Choice(list(dict.fromkeys(name for kind in TASKS.values() for name in kind.models))),
    help="Network; classifier or unet by default, as the task is.",
)
@click.option(
    "--up",
    type=click.Choice(["bilinear", "nearest", "transpose"]),
    default="bilinear",
    show_default=True,
    help="How unet enlarges; transpose is a learned convolution.",
)
@o.grid_options
@o.width_option
@click.option("--epochs", type=o.AT_LEAST_1, default=20, show_default=True, help="Passes over the data, in all.")
@o.batch_option
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True, help="Learning rate.")
@click.option(
    "--optimizer", type=click.Choice(list(OPTIMIZERS)), default="adam", show_default=True, help="Update rule."
)
@click.option(
    "--schedule",
    type=click.Choice(["none", *SCHEDULES]),
    default="cosine",
    show_default=True,
    help="Of the rate.",
)
@click.option("--clip-norm", type=click.FloatRange(0, min_open=True), help="Largest norm of the gradient.")
@click.option("--patience", type=o.AT_LEAST_1, help="Stop when the validation loss has not fallen for so many epochs.")
@o.rotate_option("--augment", "Turn the training pictures at random, and their labels with them.")
@click.option(
    "--loss",
    type=click.Choice(list(dict.fromkeys(name for kind in tasks.TASKS.values() for name in kind.losses))),
    help="cross_entropy (classify, segment), l1, mse, huber (regress, inpaint) or berhu (regress); "
    "the first of the task by default.",
)
@click.option(
    "--class-weights",
    type=click.Choice(["none", "balanced"]),
    default="none",
    show_default=True,
    help="balanced: rare classes count as much as frequent ones (classify, segment).",
)
@click.option(
    "--ignore-label",
    type=float,
    help="Label that means no class (segment; 255 by default) or a missing value, as stored (regress).",
)
@click.option(
    "--label-scale",
    type=float,
    default=1.0,
    show_default=True,
    help="Values are what the label files hold times this, e.g. 0.001 from mm to m (regress).",
)
@click.option(
    "--holes", type=click.Choice(HOLES), default="mixed", show_default=True, help="Shape of the holes (inpaint)."
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the training data to validate on; 0 trains on all.",
)
@click.option("--test-numbers", help="Which to test on, such as 7-9; the last 30 % of each class by default (shapes).")
@o.seed_option
@click.option("--out", type=o.FOLDER, help="Run folder; a new one under runs/ by default.")
@o.device_options
@o.threads_option
@click.pass_context
def command(ctx: click.Context, resume: Path | None, **options: Any) -> None:
    """Train a network; write its run folder: config, log, checkpoints, curves."""
    if resume is not None:
        given = [n for n in options if ctx.get_parameter_source(n) is click.core.ParameterSource.COMMANDLINE]
        if changed := sorted(set(given) - FREE):
            raise click.UsageError(f"--resume goes on with the run's own settings; leave out {', '.join(changed)}", ctx)
    train(resume, **options)


def train(resume: Path | None, data: str, task: str, *, next_command: str = "evaluate", **options: Any) -> None:
    """Run the command on its options."""
    kind = TASKS[task]
    kind.check(options)
    out = resume or options["out"] or o.new_run("train")
    grid = o.grid_of(options)
    source = data if data == "digits" else str(Path(data).resolve())
    config = options | o.size_of(grid) | {"data": source, "task": task, "model": options["model"] or kind.models[0]}
    config["precision"] = sc.get_precision()
    training = kind.open(data, grid, "train", config)
    validation = kind.open(data, grid, "validation", config) if options["validation"] else None
    config |= kind.learned(training, config) | {"out": None, "threads": None}
    model = kind.build(config, training)
    click.echo(
        f"{len(training)} {getattr(training, 'noun', 'pictures')} to train on and {len(validation or ())} to validate "
        f"on{kind.describe(training)}, "
        f"{grid!r}; {config['model']}, {config['method']}, {model.parameter_count:,} parameters"
        f"{'' if options['device'] == 'cpu' else f'; on the GPU {o.gpu().name}'}"
    )
    schedule = options["schedule"]
    history = sc.training.fit(
        model,
        training,
        validation=validation,
        task=kind.task(config, grid),
        optimizer=options["optimizer"],
        schedule=None if schedule == "none" else schedule,
        augment=kind.augment(grid, config),
        **{name: options[name] for name in ("epochs", "batch_size", "lr", "clip_norm", "patience", "seed")},
        device=options["device"],
        out=out,
        config=config,
        resume=resume is not None,
    )
    best = history.rows[history.best_epoch - 1]
    part, words = ("train", "training") if validation is None else ("val", "validation")
    scores = [f"{name.replace('_', ' ')} {best[f'{part}_{name}']:.4g}" for name in ("loss", *history.metrics)]
    click.echo(
        f"\nBest epoch {history.best_epoch} of {history.epochs}, in {words}: {', '.join(scores)}.\n"
        f"Wrote {out}: config.toml, log.csv, curves.png, best.safetensors, last.safetensors.\n"
        f"Next: spherecnn {next_command} {out}"
    )
