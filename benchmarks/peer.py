"""What PyTorch runs: the loops of its users, on its own defaults."""

import torch
from cases import CASES, Run
from torch_nafnet import NAFNet


def make_runs(name: str) -> dict[str, Run]:
  """Returns a case's forward pass and, where it is trained, its step."""
  case = CASES[name]
  net = NAFNet(case.width, case.encoder, case.middle, case.decoder)
  batch, height, width = case.shape
  blur, sharp = (torch.rand(batch, 3, height, width) for _ in range(2))
  tx = torch.optim.AdamW(net.parameters(), 1e-3)

  def forward() -> None:
    with torch.inference_mode():
      net(blur)

  def step() -> None:
    tx.zero_grad()
    ((net(blur) - sharp) ** 2).mean().backward()
    tx.step()

  return (
    {'forward': forward, 'step': step} if case.trained else {'forward': forward}
  )
