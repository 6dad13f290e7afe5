"""Networks, each built for any method by name, and the blocks they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spherecnn import grids
from spherecnn.errors import InputError
from spherecnn.layers.base import Layer
from spherecnn.models.blocks import ConvConvPool, ConvNormAct, DoubleConv, GatedConv, UpBlock
from spherecnn.models.classifier import Classifier, classifier
from spherecnn.models.coordconv import (
    conv_regressor,
    coordconv_image_painter,
    coordconv_painter,
    coordconv_regressor,
    deconv_painter,
)
from spherecnn.models.deeplab import DeepLab, deeplab
from spherecnn.models.encoder_decoder import EncoderDecoder, encoder_decoder
from spherecnn.models.inpainter import Inpainter, inpainter
from spherecnn.models.mesh import MeshClassifier, mesh_classifier, mesh_modelnet
from spherecnn.models.mesh_block import MeshResBlock
from spherecnn.models.mesh_unet import MeshUNet, MeshUp, mesh_unet
from spherecnn.models.residual import Bottleneck, ResidualBlock
from spherecnn.models.resnet import ResNet, resnet
from spherecnn.models.spherenet import SphereNet, spherenet
from spherecnn.models.spherephd import SpherePHD, spherephd, spherephd_mnist
from spherecnn.models.stack import Stack, stack
from spherecnn.models.unet import UNet, unet

__all__ = [
    "MESH_MODELS",
    "MODELS",
    "Bottleneck",
    "Classifier",
    "ConvConvPool",
    "ConvNormAct",
    "DeepLab",
    "DoubleConv",
    "EncoderDecoder",
    "GatedConv",
    "Inpainter",
    "MeshClassifier",
    "MeshResBlock",
    "MeshUNet",
    "MeshUp",
    "ResNet",
    "ResidualBlock",
    "SphereNet",
    "SpherePHD",
    "Stack",
    "UNet",
    "UpBlock",
    "build",
    "classifier",
    "conv_regressor",
    "coordconv_image_painter",
    "coordconv_painter",
    "coordconv_regressor",
    "deconv_painter",
    "deeplab",
    "encoder_decoder",
    "inpainter",
    "mesh_classifier",
    "mesh_modelnet",
    "mesh_unet",
    "resnet",
    "spherenet",
    "spherephd",
    "spherephd_mnist",
    "stack",
    "unet",
]

MODELS: dict[str, Callable[..., Any]] = {
    "classifier": classifier,
    "deeplab": deeplab,
    "encoder_decoder": encoder_decoder,
    "inpainter": inpainter,
    "resnet": resnet,
    "spherenet": spherenet,
    "spherephd": spherephd,
    "stack": stack,
    "unet": unet,
}

# Networks of one method, which they do not take.
MESH_MODELS: dict[str, Callable[..., Any]] = {"mesh_classifier": mesh_classifier, "mesh_unet": mesh_unet}


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
    makers = MODELS | MESH_MODELS
    if name not in makers:
        raise InputError(f"the model is {name!r}; expected one of {sorted(makers)}: check the config.")
    try:
        fields["grid"] = grids.from_config(fields["grid"])
        return makers[name](**fields, rng=rng)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the model config does not fit {name}: {error}; expected the config that the model saved."
        ) from None
