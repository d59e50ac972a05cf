"""Pure functions of arrays: blur, losses, metrics."""
