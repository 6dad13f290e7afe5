"""A depthwise 3x3 convolution through its own tiles, and through those of the channel mix with one channel per group.

python benchmarks/depthwise.py
"""

from spherecnn.bench import alternate, images
from spherecnn.kernels.depthwise import depthwise
from spherecnn.kernels.gather_gemm import gather_gemm
from spherecnn.stencils import window


def main():
    stencil = window((64, 128), (3, 3), padding=((1, 1), (1, 1)), padding_mode="circular")
    x, w = images(8, 64 * 128, 64), images(9, 64)
    own, mix = alternate(
        [lambda: depthwise(x, w, None, stencil), lambda: gather_gemm(x, w[:, None], None, stencil, 64)], turns=9
    )
    print(f"own tiles {own * 1e3:.2f} ms, channel mix with 64 groups {mix * 1e3:.2f} ms: {mix / own:.0f} times slower")


if __name__ == "__main__":
    main()
