"""Plots of scores against each other."""

import pathlib
from collections.abc import Sequence

from deblur_jax import files

INCHES, DOTS = (6.4, 4.4), 150


def tradeoff(
  path: pathlib.Path,
  axes: tuple[str, str],
  points: Sequence[tuple[float, float]],
  labels: Sequence[str],
  title: str,
) -> None:
  """Writes labelled points, joined in their order, as PNG.

  Args:
    path: of the picture.
    axes: what is measured to the right and upwards.
    points: (right, up) of each.
    labels: what each point is called.
    title: above the plot.
  """
  # Slow to import, and every command imports this module.
  from matplotlib.figure import Figure

  figure = Figure(INCHES, DOTS, layout='constrained')
  plot = figure.subplots()
  plot.plot(*zip(*points, strict=True), marker='o')
  for point, label in zip(points, labels, strict=True):
    plot.annotate(label, point, (5, 5), textcoords='offset points')
  plot.set(xlabel=axes[0], ylabel=axes[1], title=title)
  plot.grid(alpha=0.3)
  with files.whole(path) as temporary:
    figure.savefig(temporary, format='png')
