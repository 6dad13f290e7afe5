"""Networks, each built for any method by name."""

from __future__ import annotations

from typing import Any

from spherecnn import grids
from spherecnn.errors import InputError
from spherecnn.layers.base import Layer
from spherecnn.models.classifier import Classifier, classifier
from spherecnn.models.coordconv import (
    conv_regressor,
    coordconv_image_painter,
    coordconv_painter,
    coordconv_regressor,
    deconv_painter,
)

__all__ = [
    "Classifier",
    "build",
    "classifier",
    "conv_regressor",
    "coordconv_image_painter",
    "coordconv_painter",
    "coordconv_regressor",
    "deconv_painter",
]

_MODELS = {"classifier": classifier}


def build(config: dict[str, Any], rng: Any = None) -> Layer:
    """Build a model from the `config` that a model carries and a checkpoint stores.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = classifier("planar", 1, 10, sc.grids.Equirect(16))
    >>> build(net.config).config == net.config
    True
    """
    fields = dict(config)
    name = fields.pop("model", None)
    if name not in _MODELS:
        raise InputError(f"the model is {name!r}; expected one of {sorted(_MODELS)}: check the config.")
    try:
        fields["grid"] = grids.from_config(fields["grid"])
        return _MODELS[name](**fields, rng=rng)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the model config does not fit {name}: {error}; expected the config that the model saved."
        ) from None
