"""Rows of the speed table: training steps of whole networks."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import spherecnn as sc
from spherecnn.bench.case import Case, Work, case, images, training_step


def cases(smallest: bool) -> list[Case]:
    """Training steps of the classifier and of U-Net."""
    found = [
        case("circular classifier", classifier, (16, 64, 128), (width,), f"width {width}", "step", smallest)
        for width in (16, 32)
    ]
    for method in ("circular", "planar"):
        found.append(case(f"{method} U-Net", unet, (4, 128, 256), (method,), "32 to 256", "step", smallest))
    return found


def classifier(torch: Any, n: int, h: int, w: int, width: int) -> tuple[Work, Work | None]:
    """A training step of the circular classifier with Adam, RGB input, 10 classes."""
    x, labels = images(n, h, w, 3), np.arange(n) % 10
    net = sc.models.classifier("circular", 3, 10, sc.grids.Equirect(h, w), width=width, rng=0)
    if torch is None:
        return training_step(None, net, x, labels)
    peer = torch_classifier(torch, width).to(memory_format=torch.channels_last)
    return training_step(torch, net, x, labels, peer, torch.from_numpy(x).permute(0, 3, 1, 2))


def unet(torch: Any, n: int, h: int, w: int, method: str) -> tuple[Work, Work | None]:
    """A training step of U-Net with Adam: RGB input, 32 to 256 channels, 3 classes for every pixel."""
    depth = 3 if h > 8 else 1
    x, labels = images(n, h, w, 3), np.random.default_rng(0).integers(0, 3, (n, h, w))
    net = sc.models.unet(method, 3, 3, sc.grids.Equirect(h, w), width=32, depth=depth, rng=0)
    if torch is None:
        return training_step(None, net, x, labels)
    peer = torch_unet(torch, depth, circular=method == "circular").to(memory_format=torch.channels_last)
    return training_step(torch, net, x, labels, peer, torch.from_numpy(x).permute(0, 3, 1, 2))


def torch_conv(torch: Any, circular: bool) -> Any:
    """Torch's 3x3 convolution without bias: its own zero padding, or its best circular form."""
    nn = torch.nn

    class Circular(nn.Conv2d):  # type: ignore[name-defined]
        def forward(self, x: Any) -> Any:
            padded = nn.functional.pad(x, (1, 1, 0, 0), mode="circular")
            return nn.functional.conv2d(padded, self.weight, self.bias, padding=(1, 0))

    if circular:
        return lambda channels, outputs: Circular(channels, outputs, 3, bias=False)
    return lambda channels, outputs: nn.Conv2d(channels, outputs, 3, padding=1, bias=False)


def torch_unet(torch: Any, depth: int, circular: bool, in_channels: int = 3, classes: int = 3, width: int = 32) -> Any:
    """The network of `models.unet` in torch."""
    nn, conv = torch.nn, torch_conv(torch, circular)

    def double(channels: int, outputs: int) -> Any:
        steps = []
        for reads in (channels, outputs):
            steps += [conv(reads, outputs), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        return nn.Sequential(*steps)

    class UNet(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            sizes = [width << stage for stage in range(depth + 1)]
            self.downs = nn.ModuleList(double(a, b) for a, b in zip([in_channels, *sizes], sizes, strict=False))
            self.ups = nn.ModuleList(double(3 * c, c) for c in reversed(sizes[:-1]))
            self.head = nn.Conv2d(width, classes, 1)

        def forward(self, x: Any) -> Any:
            skips: list[Any] = []
            for down in self.downs:
                x = down(x if not skips else nn.functional.max_pool2d(skips[-1], 2))
                skips.append(x)
            skips.pop()
            for up in self.ups:
                x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
                x = up(torch.cat([skips.pop(), x], 1))
            return self.head(x)

    return UNet()


def torch_classifier(torch: Any, width: int, in_channels: int = 3, classes: int = 10) -> Any:
    """The network of `models.classifier("circular", ...)` in torch, with its best circular convolution."""
    nn, conv = torch.nn, torch_conv(torch, circular=True)

    @functools.cache
    def row_shares(height: int, width: int) -> Any:
        area = torch.from_numpy(np.array(sc.grids.Equirect(height, width).row_area, np.float32))
        return area / area.sum()

    class AreaMean(nn.Module):  # type: ignore[name-defined]
        def forward(self, x: Any) -> Any:
            return (x.mean(dim=3) * row_shares(*x.shape[2:])).sum(dim=2)

    steps, channels = [], in_channels
    for stage, convolutions in enumerate((1, 2, 2)):
        steps += [nn.MaxPool2d(2)] if stage else []
        for _ in range(convolutions):
            steps += [conv(channels, width << stage), nn.BatchNorm2d(width << stage), nn.ReLU()]
            channels = width << stage
    return nn.Sequential(*steps, AreaMean(), nn.Linear(channels, classes))
