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
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    Loss,
    MSELoss,
)
from spherecnn.training.metrics import accuracy, confusion, iou
from spherecnn.training.optim import OPTIMIZERS, SGD, Adam, AdamW, Optimizer, clip_grad_norm
from spherecnn.training.schedule import SCHEDULES, CosineLR, ReduceOnPlateau, Schedule, StepLR

__all__ = [
    "LOSSES",
    "METRICS",
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adam",
    "AdamW",
    "ArrayDataset",
    "BCEWithLogitsLoss",
    "CosineLR",
    "CrossEntropyLoss",
    "Dataset",
    "History",
    "HuberLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "Optimizer",
    "ReduceOnPlateau",
    "Schedule",
    "StepLR",
    "Subset",
    "TrainingDiverged",
    "accuracy",
    "batches",
    "clip_grad_norm",
    "confusion",
    "dump_config",
    "evaluate",
    "fit",
    "iou",
    "load_checkpoint",
    "load_config",
    "predict",
    "restore_model",
    "save_checkpoint",
    "save_config",
    "split",
]
