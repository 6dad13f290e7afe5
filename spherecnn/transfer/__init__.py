"""A planar network carried over to the sphere: exact outputs by reprojection, copied and learned weights."""

from spherecnn.transfer.chain import Chain, chain_to
from spherecnn.transfer.exact import exact
from spherecnn.transfer.sphere import to_sphere

__all__ = ["Chain", "chain_to", "exact", "to_sphere"]
