"""Image deblurring in JAX: CNN, diffusion and GAN under one protocol."""

__version__ = '0.1.0'
