"""Does the gradient reach the first layer? Plain and residual networks of 20 and 56 layers.

python demos/gradient_depth.py                     # half a minute

Every network is new, the images are noise, and one loss is differentiated with respect to what each
convolution returns. y = F(x) + x has the derivative F' + 1, so the gradient passes a residual block
whatever its weights are. Left without batch norm: in the plain network each layer multiplies the
gradient by its weights, and little is left of it. Right with batch norm, which rescales the plain
network's gradient in every layer: there it grows instead.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import tinygrad_cnn as tg
from tinygrad_cnn import nn, viz
from tinygrad_cnn.models import plain_net
from tinygrad_cnn.models.resnet_cifar import CifarResNet
from tinygrad_cnn.train import at_least


def build(depth: int, residual: bool, batch_norm: bool) -> nn.Module:
    """A network for 32 × 32 images with the default start of PyTorch's layers: each convolution
    makes the variance of what it passes on six times smaller, ReLU's halving included."""
    tg.manual_seed(0)
    model = CifarResNet(depth, shortcut="A") if residual else plain_net(depth)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
        if not batch_norm:
            for name, child in list(layer.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    setattr(layer, name, nn.Identity())
    return model.double()  # numbers below 1e-45 are zeros in float32


def main(out: Path, depths: list[int], batch_size: int) -> None:
    x = tg.randn(batch_size, 3, 32, 32, generator=tg.Generator(1), dtype=tg.float64)
    y = tg.randint(0, 10, (batch_size,), generator=tg.Generator(2))
    panels: dict[str, dict[str, list[float]]] = {}
    print(f"{'network':12s}{'batch norm':>12s}{'first layer':>14s}{'last conv':>14s}{'ratio':>10s}")
    for batch_norm in (False, True):
        curves = panels.setdefault("with batch norm" if batch_norm else "without batch norm", {})
        for residual in (False, True):
            for depth in depths:
                name = f"{'residual' if residual else 'plain'} {depth}"
                model = build(depth, residual, batch_norm)
                norms = list(viz.gradient_norms(model, x, y, of="output").values())
                first, last = norms[0], norms[-2]  # behind it comes the dense layer
                used = "yes" if batch_norm else "no"
                print(f"{name:12s}{used:>12s}{first:14.1e}{last:14.1e}{first / last:10.1e}")
                curves[name] = norms
    viz.gradient_curves(panels, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/gradient-depth.png"), help="picture to write"
    )
    parser.add_argument(
        "--depths", type=at_least(8), nargs="+", default=[20, 56], metavar="N",
        help="of the networks, 6n + 2 each (default: 20 56)",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=at_least(1), default=4, help="images (default: 4)")
    args = parser.parse_args()
    if wrong := [depth for depth in args.depths if depth % 6 != 2]:
        parser.error(f"argument --depths: expected depths of 6n + 2, received {wrong[0]}")
    main(args.out, args.depths, args.batch_size)
