"""Plots of scores against each other."""

import pathlib
from collections.abc import Mapping, Sequence

from deblur_jax import files

INCHES, DOTS = (6.4, 4.4), 150
COLOURS, MARKERS = 10, 'osD^v'
"""So many points have colours of their own, the next ones another marker."""


def tradeoff(
  path: pathlib.Path,
  axes: tuple[str, str],
  points: Sequence[tuple[float | None, float | None]],
  labels: Sequence[str],
  title: str,
  joined: bool = True,
) -> None:
  """Writes labelled points as PNG.

  Args:
    path: of the picture.
    axes: what is measured to the right and upwards.
    points: (right, up) of each; one is left out where a score is empty.
    labels: what each point is called, short if joined.
    title: above the plot.
    joined: by a line, in their order.
  """
  figure, plot = _empty()
  shown = [
    (point, label)
    for point, label in zip(points, labels, strict=True)
    if None not in point
  ]
  if joined:
    plot.plot([x for (x, _), _ in shown], [y for (_, y), _ in shown], 'o-')
    for point, label in shown:
      plot.annotate(label, point, (5, 5), textcoords='offset points')
  else:
    for i, (point, label) in enumerate(shown):
      plot.plot(*point, MARKERS[i // COLOURS % len(MARKERS)], label=label)
    figure.legend(loc='outside lower center', ncols=2, fontsize='small')
  plot.set(xlabel=axes[0], ylabel=axes[1], title=title)
  _save(figure, plot, path)


def training(
  path: pathlib.Path, curves: Mapping[str, Sequence[tuple[float, float]]]
) -> None:
  """Writes validation PSNR (dB) over steps, one line a model, as PNG."""
  figure, plot = _empty()
  for name, points in curves.items():
    if points:
      plot.plot(*zip(*points, strict=True), marker='.', label=name)
  plot.set(xlabel='training step', ylabel='validation PSNR (dB)')
  plot.legend()
  _save(figure, plot, path)


def _empty():
  # Slow to import, and every command imports this module.
  from matplotlib.figure import Figure

  figure = Figure(INCHES, DOTS, layout='constrained')
  return figure, figure.subplots()


def _save(figure, plot, path: pathlib.Path) -> None:
  plot.grid(alpha=0.3)
  with files.whole(path) as temporary:
    figure.savefig(temporary, format='png')
