"""The circular classifier on MNIST on a sphere: spherecnn and the same network in torch, side by side.

    python benchmarks/mnist.py FOLDER [--epochs 3] [--height 60] [--side ours|torch|both] [--out benchmarks/mnist.csv]

FOLDER holds the four MNIST files, plain or gzip. Both start from the same weights and see the same batches.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import spherecnn as sc
from spherecnn.bench import find_torch, machine, torch_classifier

COLUMNS = ("side", "epoch", "train loss", "test accuracy", "training s", "projection s")


class Ours:
    """The network of `models.classifier`, trained by Adam."""

    def __init__(self, net, lr):
        self.net, self.optimizer, self.loss = (
            net,
            sc.training.Adam(net.named_params(), lr=lr),
            sc.training.CrossEntropyLoss(),
        )

    def step(self, x, y):
        self.optimizer.zero_grad()
        scores, backward = self.net.forward(x, train=True)
        value, dy = self.loss(scores, y)
        backward(dy, inputs=False)
        self.optimizer.step()
        return value

    def predict(self, x):
        return self.net(x).argmax(axis=1)


class Torch:
    """The same in torch, channels_last, from the weights of a spherecnn network."""

    def __init__(self, torch, net, lr):
        self.torch = torch
        self.net = torch_classifier(torch, net.config["width"], net.config["in_channels"], net.config["classes"])
        ours = iter(net.named_params().values())
        with torch.no_grad():
            for p in self.net.parameters():
                value = next(ours).value
                axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim, (0,))
                p.copy_(torch.from_numpy(np.ascontiguousarray(value.transpose(axes))))
        self.net.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=lr)

    def step(self, x, y):
        self.net.train()
        self.optimizer.zero_grad()
        scores = self.net(self.torch.from_numpy(x).permute(0, 3, 1, 2))
        loss = self.torch.nn.functional.cross_entropy(scores, self.torch.from_numpy(y))
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def predict(self, x):
        self.net.eval()
        with self.torch.no_grad():
            return self.net(self.torch.from_numpy(x).permute(0, 3, 1, 2)).argmax(dim=1).numpy()


def train(side, name, train_data, test_data, epochs, batch):
    """Yield one row an epoch; the projection of the digits on the sphere is timed apart."""
    rng = np.random.default_rng(0)
    for epoch in range(1, epochs + 1):
        order, losses, seconds, projection = rng.permutation(len(train_data)), [], 0.0, 0.0
        for i in tqdm(range(0, len(order), batch), desc=f"{name} {epoch}/{epochs}", leave=False, disable=None):
            a = time.perf_counter()
            x, y = train_data.batch(order[i : i + batch])
            b = time.perf_counter()
            losses.append(side.step(x, y))
            projection, seconds = projection + b - a, seconds + time.perf_counter() - b
        right = 0
        for i in range(0, len(test_data), 250):
            x, y = test_data.batch(np.arange(i, min(i + 250, len(test_data))))
            right += int((side.predict(x) == y).sum())
        accuracy = right / len(test_data)
        cells = (name, epoch, f"{np.mean(losses):.4f}", f"{accuracy:.4f}", f"{seconds:.1f}", f"{projection:.1f}")
        print(", ".join(f"{c}: {v}" for c, v in zip(COLUMNS, cells, strict=True)), flush=True)
        yield cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--height", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", choices=("ours", "torch", "both"), default="both")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("mnist.csv"))
    arguments = parser.parse_args()
    torch = find_torch()
    grid = sc.grids.Equirect(arguments.height)
    data = [sc.datasets.mnist(arguments.folder, grid, split=split) for split in ("train", "test")]
    rows = []
    for name in ("ours", "torch") if arguments.side == "both" else (arguments.side,):
        net = sc.models.classifier("circular", 1, 10, grid, width=16, rng=0)
        side = Ours(net, 1e-3) if name == "ours" else Torch(torch, net, 1e-3)
        rows += train(side, name, *data, arguments.epochs, arguments.batch)
    with arguments.out.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
        about = f"# {machine(torch)}; {grid!r}; batch {arguments.batch}; Adam 1e-3"
        file.write(about.replace(",", ";") + "\n")
    print(f"Wrote {arguments.out}.")


if __name__ == "__main__":
    main()
