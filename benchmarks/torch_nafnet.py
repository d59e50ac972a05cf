"""A plain PyTorch NAFNet, the peer of ours: Chen et al. 2022.

Its parameters have the names of the official network.
"""

import torch
from torch import nn
from torch.nn import functional


class LayerNorm(nn.Module):
  """Normalises x[B,C,H,W] over its channels."""

  def __init__(self, channels: int):
    super().__init__()
    self.weight = nn.Parameter(torch.ones(channels))
    self.bias = nn.Parameter(torch.zeros(channels))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Returns the same shape."""
    return _Normalize.apply(x, self.weight, self.bias)


class _Normalize(torch.autograd.Function):
  """With its own gradient, as PyTorch users have it: half the memory."""

  @staticmethod
  def forward(ctx, x, weight, bias):
    centred = x - x.mean(1, keepdim=True)
    rate = torch.rsqrt(centred.square().mean(1, keepdim=True) + 1e-6)
    y = centred.mul_(rate)
    ctx.save_for_backward(y, rate, weight)
    return torch.addcmul(bias[:, None, None], y, weight[:, None, None])

  @staticmethod
  def backward(ctx, grad):
    y, rate, weight = ctx.saved_tensors
    scaled = grad * weight[:, None, None]
    mean = scaled.mean(1, keepdim=True)
    along = (scaled * y).mean(1, keepdim=True)
    to_x = (scaled - mean - y * along).mul_(rate)
    return to_x, (grad * y).sum((0, 2, 3)), grad.sum((0, 2, 3))


def gate(x: torch.Tensor) -> torch.Tensor:
  """SimpleGate."""
  a, b = x.chunk(2, 1)
  return a * b


class Block(nn.Module):
  """One NAFBlock of c channels."""

  def __init__(self, c: int):
    super().__init__()
    self.norm1, self.norm2 = LayerNorm(c), LayerNorm(c)
    self.conv1 = nn.Conv2d(c, 2 * c, 1)
    self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
    self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
    self.conv3 = nn.Conv2d(c, c, 1)
    self.conv4 = nn.Conv2d(c, 2 * c, 1)
    self.conv5 = nn.Conv2d(c, c, 1)
    self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
    self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps x[B,C,H,W] to the same shape."""
    y = gate(self.conv2(self.conv1(self.norm1(x))))
    x = x + self.beta * self.conv3(y * self.sca(y))
    return x + self.gamma * self.conv5(gate(self.conv4(self.norm2(x))))


class NAFNet(nn.Module):
  """The whole network; fields as of `deblur_jax.models.nafnet.NAFNet`."""

  def __init__(self, width: int, encoder, middle: int, decoder):
    super().__init__()
    self.intro = nn.Conv2d(3, width, 3, padding=1)
    self.ending = nn.Conv2d(width, 3, 3, padding=1)
    self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
    self.decoders, self.ups = nn.ModuleList(), nn.ModuleList()
    c = width
    for count in encoder:
      self.encoders.append(nn.Sequential(*[Block(c) for _ in range(count)]))
      self.downs.append(nn.Conv2d(c, 2 * c, 2, 2))
      c *= 2
    self.middle_blks = nn.Sequential(*[Block(c) for _ in range(middle)])
    for count in decoder:
      up = nn.Conv2d(c, 2 * c, 1, bias=False)
      self.ups.append(nn.Sequential(up, nn.PixelShuffle(2)))
      c //= 2
      self.decoders.append(nn.Sequential(*[Block(c) for _ in range(count)]))

  def forward(self, blur: torch.Tensor) -> torch.Tensor:
    """Maps blur[B,3,H,W] to the restored picture."""
    h, w = blur.shape[2:]
    multiple = 2 ** len(self.encoders)
    pads = (0, -w % multiple, 0, -h % multiple)
    x, skips = self.intro(functional.pad(blur, pads)), []
    for blocks, down in zip(self.encoders, self.downs, strict=True):
      x = blocks(x)
      skips.append(x)
      x = down(x)
    x = self.middle_blks(x)
    for blocks, up in zip(self.decoders, self.ups, strict=True):
      x = blocks(up(x) + skips.pop())
    return blur + self.ending(x)[..., :h, :w]
