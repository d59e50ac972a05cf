"""Picture files: reading, writing, tiling."""
