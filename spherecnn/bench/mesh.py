"""Rows of the speed table: convolution on the vertices of an icosphere."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

import spherecnn as sc
from spherecnn.bench.case import Case, Work, against, images, sparse_product, training_step
from spherecnn.grids import operators

SAMPLES, CHANNELS = 16, 32
LEVELS = (5, 6, 7)
MNIST_LEVEL, WIDTH, CLASSES = 4, 16, 10


def cases(smallest: bool) -> list[Case]:
    """Mesh convolution as published, and in torch's best form; the published network of spherical MNIST."""
    layers = [
        case(name, make, level, which, smallest)
        for name, make, levels in (("Mesh, torch as published", published, LEVELS[:1]), ("Mesh", fused, LEVELS))
        for level in levels
        for which in ("forward", "forward+backward")
    ]
    samples, level = (2, 2) if smallest else (SAMPLES, MNIST_LEVEL)
    text = f"{SAMPLES}x{sc.grids.Icosphere(MNIST_LEVEL).sites}, 1 to {CLASSES}"
    return [
        *layers,
        Case(
            "Mesh network of MNIST, torch as published",
            text,
            "step",
            lambda torch: mnist(torch, samples, sc.grids.Icosphere(level)),
        ),
    ]


def case(name: str, make: Any, level: int, which: str, smallest: bool) -> Case:
    """A row at this level, or at a tiny one."""
    samples, small = (1, 1) if smallest else (SAMPLES, level)
    text = f"{SAMPLES}x{sc.grids.Icosphere(level).sites}, {CHANNELS} to {CHANNELS}"
    return Case(name, text, which, lambda torch: make(torch, samples, sc.grids.Icosphere(small), which))


def published(torch: Any, n: int, grid: sc.grids.Icosphere, which: str) -> tuple[Work, Work | None]:
    """Torch as published: channels first, gradients on faces, averaged, and products of all channels, summed."""
    layer = sc.layers.MeshConv(CHANNELS, CHANNELS, grid, rng=0)
    shape = (n, grid.sites, CHANNELS)
    if torch is None:
        return against(None, layer, None, shape, which)
    weight = torch.from_numpy(layer.weight.value.transpose(2, 1, 0).copy()).requires_grad_()
    bias = torch.from_numpy(layer.bias.value.copy()).requires_grad_()  # type: ignore[union-attr]
    convolve = PublishedConv(torch, grid)
    return against(torch, layer, lambda x: convolve(x, weight, bias), shape, which, (weight, bias), "channels first")


class PublishedConv:
    """The published layer in torch, a function of inputs (N, C, P), coefficients (K, C, 4) and biases."""

    def __init__(self, torch: Any, grid: Any, stride: int = 1):
        self.torch, self.sites = torch, grid.sites if stride == 1 else grid.coarsen().sites
        self.faces = len(grid.faces)
        grad, normals = operators.gradient(grid), operators.face_normals(grid)
        north = (grad @ grid.lat).reshape(3, -1).T
        self.ways = [torch.from_numpy(w.astype(np.float32)) for w in (np.cross(north, normals), north)]
        self.gradient = self.coo(grad)
        self.mean = self.coo(operators.face_to_vertex(grid)[: self.sites])
        self.laplacian = self.coo(operators.laplacian(grid)[: self.sites])

    def coo(self, matrix: Any) -> Any:
        """A sparse tensor as the published code makes it: coordinates, float32."""
        entries = matrix.tocoo()
        places = self.torch.from_numpy(np.stack(entries.coords).astype(np.int64))
        values = self.torch.from_numpy(entries.data.astype(np.float32))
        return self.torch.sparse_coo_tensor(places, values, matrix.shape, check_invariants=False)

    def product(self, matrix: Any, x: Any) -> Any:
        """A sparse matrix times every channel of every sample."""
        n, c, p = x.shape
        columns = x.permute(2, 1, 0).contiguous().view(p, c * n)
        return self.torch.spmm(matrix, columns).view(-1, c, n).permute(2, 1, 0)

    def __call__(self, x: Any, weight: Any, bias: Any) -> Any:
        slopes = self.product(self.gradient, x).reshape(*x.shape[:2], 3, self.faces).permute(0, 1, 3, 2)
        found = [x[..., : self.sites], self.product(self.laplacian, x)]
        found += [self.product(self.mean, (slopes * way).sum(-1)) for way in self.ways]
        features = self.torch.stack(found, dim=-1)
        return (features[:, None] * weight[:, :, None]).sum(-1).sum(2) + bias[:, None]


def fused(torch: Any, n: int, grid: sc.grids.Icosphere, which: str) -> tuple[Work, Work | None]:
    """Torch rewritten, the fastest form found: three operators in one CSR matrix, its transpose made before."""
    layer = sc.layers.MeshConv(CHANNELS, CHANNELS, grid, rng=0)
    shape = (n, grid.sites, CHANNELS)
    if torch is None:
        return against(None, layer, None, shape, which)
    matrix = sparse.vstack([operators.laplacian(grid), *operators.derivatives(grid)]).astype(np.float32).tocsr()
    product = sparse_product(torch, matrix)

    weight, bias = (torch.from_numpy(p.value.copy()).requires_grad_() for p in layer.params.values())

    def peer(x: Any) -> Any:
        x = x.permute(2, 0, 1)
        found = product(x.reshape(grid.sites, -1)).view(3, -1, CHANNELS)
        y = torch.addmm(bias, x.reshape(-1, CHANNELS), weight[0])
        for k in range(3):
            y = torch.addmm(y, found[k], weight[k + 1])
        return y.view(x.shape).permute(1, 2, 0)

    return against(torch, layer, peer, shape, which, (weight, bias), "sites first")


def mnist(torch: Any, n: int, grid: sc.grids.Icosphere) -> tuple[Work, Work | None]:
    """A training step with Adam of the published network."""
    net = sc.models.mesh_classifier(1, CLASSES, grid, WIDTH, rng=0)
    x, labels = images(n, grid.sites, 1), np.arange(n) % CLASSES
    if torch is None:
        return training_step(None, net, x, labels)
    tx = torch.from_numpy(x).permute(0, 2, 1).contiguous()
    return training_step(torch, net, x, labels, published_network(torch, grid), tx)


def published_network(torch: Any, grid: sc.grids.Icosphere) -> Any:
    """The network of `models.mesh_classifier` in torch, as published."""
    nn = torch.nn

    class Conv(nn.Module):  # type: ignore[name-defined]
        def __init__(self, channels: int, outputs: int, mesh: Any) -> None:
            super().__init__()
            bound = 1 / (4 * channels) ** 0.5
            self.weight = nn.Parameter(torch.empty(outputs, channels, 4).uniform_(-bound, bound))
            self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
            self.convolve = PublishedConv(torch, mesh)

        def forward(self, x: Any) -> Any:
            return self.convolve(x, self.weight, self.bias)

    class Drop(nn.Module):  # type: ignore[name-defined]
        def __init__(self, sites: int) -> None:
            super().__init__()
            self.sites = sites

        def forward(self, x: Any) -> Any:
            return x[..., : self.sites]

    class Block(nn.Module):  # type: ignore[name-defined]
        def __init__(self, channels: int, outputs: int, mesh: Any) -> None:
            super().__init__()
            drop, act = Drop(mesh.coarsen().sites), nn.ReLU(inplace=True)
            self.body = nn.Sequential(
                *(nn.Conv1d(channels, channels, 1), drop, nn.BatchNorm1d(channels), act),
                *(Conv(channels, channels, mesh.coarsen()), nn.BatchNorm1d(channels), act),
                *(nn.Conv1d(channels, outputs, 1), nn.BatchNorm1d(outputs)),
            )
            self.skip = nn.Sequential(nn.Conv1d(channels, outputs, 1), drop, nn.BatchNorm1d(outputs))

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.body(x) + self.skip(x))

    first, last = 4 * WIDTH, 16 * WIDTH
    return nn.Sequential(
        *(Conv(1, WIDTH, grid), nn.BatchNorm1d(WIDTH), nn.ReLU(inplace=True)),
        *(Block(WIDTH, first, grid), Block(first, last, grid.coarsen())),
        *(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(last, CLASSES)),
    )
