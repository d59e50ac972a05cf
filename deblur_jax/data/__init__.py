"""Pictures from disk to batches: numpy on the host, never jax.numpy."""
