"""spherecnn: convolutional networks on spherical images, in Numba."""
