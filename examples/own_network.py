"""Run a network of your own: tiles, batches, colours and files come with it."""

from fractions import Fraction

import torch
from torch import Tensor, nn

import vsr_plugin as vsr
from vsr_plugin.frames import Matrix, Range


class Sharpener(nn.Module):
    """Nearest neighbour, sharpened: (N, 3, H, W) RGB in [0, 1] → (N, 3, 2H, 2W)."""

    def __init__(self) -> None:
        super().__init__()
        self.enlarge = nn.Upsample(scale_factor=2)
        self.sharpen = nn.Conv2d(3, 3, 3, padding=1, padding_mode="replicate", groups=3, bias=False)
        kernel = torch.tensor([[0.0, -0.25, 0.0], [-0.25, 2.0, -0.25], [0.0, -0.25, 0.0]])
        self.sharpen.weight.data = kernel.expand(3, 1, 3, 3).clone()

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        result: Tensor = self.sharpen(self.enlarge(x))
        return result


# It takes RGB, has the scale 2, and an output pixel depends on input pixels at most 1 away.
SPEC = vsr.NetworkSpec(name="sharpener", overlap={2: 1}, channels=3)


def main() -> None:
    """Enlarge one frame of random RGB samples in tiles of 32."""
    planes = torch.randint(0, 256, (3, 70, 100), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    color = vsr.ColorSpec(matrix=Matrix.RGB, range=Range.FULL)
    frame = vsr.Frame(tuple(planes), pts=0, time_base=Fraction(1, 25), color=color)
    with vsr.Upscaler.from_module(Sharpener(), SPEC, 2, vsr.Execution(tile=32)) as upscaler:
        print(upscaler.upscale([frame])[0])


if __name__ == "__main__":
    main()
