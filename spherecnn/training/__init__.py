"""Training: losses, metrics, optimizers, schedules, checkpoints and the loop."""

from spherecnn.training.checkpoint import load_checkpoint, restore_model, save_checkpoint
from spherecnn.training.config import dump_config, load_config, save_config
from spherecnn.training.data import ArrayDataset, Dataset, Subset, batches, split
from spherecnn.training.evaluation import METRICS, evaluate, predict
from spherecnn.training.history import History
from spherecnn.training.loop import TrainingDiverged, fit
from spherecnn.training.losses import (
    LOSSES,
    BCEWithLogitsLoss,
    BerHuLoss,
    CrossEntropyLoss,
    HuberLoss,
    InpaintLoss,
    L1Loss,
    Loss,
    MSELoss,
)
from spherecnn.training.metrics import accuracy, confusion, iou, recall
from spherecnn.training.optim import OPTIMIZERS, SGD, Adam, AdamW, Optimizer, clip_grad_norm
from spherecnn.training.precision import Detect, average_precision
from spherecnn.training.regression import hole_errors, regression_errors
from spherecnn.training.schedule import SCHEDULES, CosineLR, ReduceOnPlateau, Schedule, StepLR
from spherecnn.training.statistics import class_weights, target_moments
from spherecnn.training.task import TASKS, Classify, Inpaint, Regress, Segment, Task

__all__ = [
    "LOSSES",
    "METRICS",
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "TASKS",
    "Adam",
    "AdamW",
    "ArrayDataset",
    "BCEWithLogitsLoss",
    "BerHuLoss",
    "Classify",
    "CosineLR",
    "CrossEntropyLoss",
    "Dataset",
    "Detect",
    "History",
    "HuberLoss",
    "Inpaint",
    "InpaintLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "Optimizer",
    "ReduceOnPlateau",
    "Regress",
    "Schedule",
    "Segment",
    "StepLR",
    "Subset",
    "Task",
    "TrainingDiverged",
    "accuracy",
    "average_precision",
    "batches",
    "class_weights",
    "clip_grad_norm",
    "confusion",
    "dump_config",
    "evaluate",
    "fit",
    "hole_errors",
    "iou",
    "load_checkpoint",
    "load_config",
    "predict",
    "recall",
    "regression_errors",
    "restore_model",
    "save_checkpoint",
    "save_config",
    "split",
    "target_moments",
]
