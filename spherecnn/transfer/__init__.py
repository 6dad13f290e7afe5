"""A planar network carried over to the sphere: exact outputs by reprojection, copied and learned weights."""

from spherecnn.transfer.chain import Chain, chain_to, convolutions
from spherecnn.transfer.exact import exact
from spherecnn.transfer.learn import descend
from spherecnn.transfer.report import LayerErrors, Report, rmse_rows
from spherecnn.transfer.rows import fit_rows, project_rows
from spherecnn.transfer.sphere import to_sphere
from spherecnn.transfer.torch_files import from_torch

__all__ = [
    "Chain",
    "LayerErrors",
    "Report",
    "chain_to",
    "convolutions",
    "descend",
    "exact",
    "fit_rows",
    "from_torch",
    "project_rows",
    "rmse_rows",
    "to_sphere",
]
