"""The protocol of each data set, and the networks compared under it.

A config in configs/ is a data set's protocol, which is the same for every
family, with one network. Small forms are sized for two CPU cores.
"""

from ml_collections import ConfigDict

from deblur_jax.config import base_config


def photos(small: bool) -> ConfigDict:
  """The embedded photographs, each under 8 fixed blurs in the test.

  Small: Gaussian blur only, one or two minutes of training.
  """
  config = base_config()
  config.data.name = 'photos'
  config.data.blur.kinds = ('gaussian', 'defocus', 'motion', 'linear')
  config.eval.blurs = 8
  if small:
    _two_cores(config, steps=180, crop=64)
    config.data.blur.kinds = ('gaussian',)
    config.data.blur.sigma = (1.0, 2.5)
    config.data.blur.noise = (0.002, 0.005)
    config.checkpoint.every_steps = 90
    config.eval.every_steps = 180
  return config


def gaussian(small: bool) -> ConfigDict:
  """Sharp scenes of the blur data set under Gaussian and defocus blur."""
  config = base_config()
  config.data.name = 'blur_dataset'
  config.data.blur.kinds = ('gaussian', 'defocus')
  config.data.blur.anisotropy = 0.5
  if small:
    _two_cores(config)
    config.data.blur.sigma = (0.5, 3.0)
    config.data.blur.radius = (1.0, 5.0)
  return config


def motion(small: bool) -> ConfigDict:
  """Sharp scenes of the blur data set under camera shake and linear motion."""
  config = base_config()
  config.data.name = 'blur_dataset'
  config.data.blur.kinds = ('motion', 'linear')
  if small:
    _two_cores(config)
    config.data.blur.length = (5.0, 21.0)
  return config


def celeb(small: bool) -> ConfigDict:
  """The face pairs of the DBlur bundle's CelebA part, as they come."""
  config = base_config()
  config.data.name = 'deblur_collection'
  config.data.subset = 'CelebA'
  config.data.pairs = 'real'
  config.data.crop = 128  # the faces' size
  if small:
    _two_cores(config)
  return config


def universal(small: bool) -> ConfigDict:
  """Photographs, faces and video frames under all kinds of blur at once.

  Small: as the models in the box would be trained today; docs/training.md tells
  how they were, and the config.json of each has its last part.
  """
  config = base_config()
  config.data.name = 'mixture'
  config.data.subset = (
    'photos*16,DBlur/CelebA,DBlur/CelebA/train/sharp*2,DBlur/Gopro*20,'
    'pairs/reds_train*30'
  )
  config.data.pairs = 'mixed'
  blur = config.data.blur
  blur.kinds = ('gaussian', 'defocus', 'motion', 'motion', 'motion')
  blur.sharp = 0.12
  blur.sigma, blur.anisotropy = (0.5, 4.5), 0.5
  blur.radius = (1.0, 8.0)
  blur.length = (5.0, 41.0)
  blur.noise = (0.0, 0.02)
  blur.highlight_probability = 0.3
  blur.jpeg_probability = 0.2
  blur.frame_probability = 0.5
  blur.local_probability = 0.1
  blur.level_probability = 0.15
  blur.bend_probability = 0.5
  blur.mild = 1.5
  if small:
    _two_cores(config, steps=6000, crop=128)
    config.eval.every_steps = 1000
  return config


def cnn(config: ConfigDict, small: bool) -> ConfigDict:
  """Adds the CNN family's network: Chen et al. 2022."""
  config.family = 'cnn'
  config.model.name = 'nafnet'
  if small:
    config.model.nafnet.width = 16
    config.model.nafnet.encoder = (1, 1, 1, 4)
    if config.data.name == 'photos':  # narrow blur: one level less will do
      config.model.nafnet.encoder = (1, 1, 4)
      config.model.nafnet.decoder = (1, 1, 1)
    if config.data.name == 'mixture':
      _in_the_box(config.model.nafnet)
      config.loss = 'psnr'  # mild blur counts as much as strong: it is in dB
      # Without plain pictures, lines beside pure colours are drawn, and what is
      # smooth and sharp is taken for blurred.
      config.data.plain_probability = 0.15
      config.ema.decay = 0.999
      config.optim.name = 'muon'  # in the same time, it comes further
  return config


def diffusion(config: ConfigDict, small: bool) -> ConfigDict:
  """Adds the diffusion family's networks, sized as in Whang et al. 2022."""
  config.family = 'diffusion'
  config.model.name = 'unet'
  config.predictor.name = 'unet'
  config.predictor.unet.channels = 64
  config.ema.decay = 0.9999
  config.optim.learning_rate = 1e-4
  config.optim.b2 = 0.999
  config.optim.weight_decay = 0.0
  if small:
    config.model.unet.channels = 16
    config.model.unet.multipliers = (1, 2, 4, 8)
    config.model.unet.blocks = 1
    config.predictor.name = 'nafnet'
    config.predictor.nafnet.width = 16
    config.predictor.nafnet.encoder = (1, 1, 1, 1)
    config.ema.decay = 0.99
    config.optim.learning_rate = 2e-3
    config.sampler.start = 'mean'  # from noise, it draws more grain and specks
    config.sampler.nfe = 2  # after so little training, more draw grain
    if config.data.name == 'photos':
      config.model.unet.multipliers = (1, 2, 4)
      config.predictor.nafnet.encoder = (1, 1, 1)
      config.predictor.nafnet.decoder = (1, 1, 1)
    if config.data.name == 'mixture':
      config.sampler.nfe = 8
      _in_the_box(config.predictor.nafnet)
      config.process.joint = False  # the CNN in the box, as it is
      config.process.scale = 20.0  # it leaves about 0.05
      config.process.gamma = 10.0
      config.data.plain_probability = 0.15  # what draws, draws there as well
      config.model.name = 'nafnet'  # with the first blocks of that CNN
      _in_the_box(config.model.nafnet)
      config.model.nafnet.encoder = (1, 4, 5)
      config.optim.learning_rate = 1e-3
      config.optim.warmup_steps = 100
      config.ema.decay = 0.999
  return config


def gan(config: ConfigDict, small: bool) -> ConfigDict:
  """Adds the GAN family: NAFNet against the judges of Kupyn et al. 2019."""
  cnn(config, small)
  config.family = 'gan'
  # The judge rewards any fine texture, and subpixels would grow it as a grid.
  config.model.nafnet.upsampling = 'resize'
  config.ema.decay = 0.999
  config.optim.name = 'adamw'
  config.optim.learning_rate = 1e-4
  config.optim.b1 = 0.5
  config.optim.b2 = 0.999
  config.optim.weight_decay = 0.0
  config.gan.warmup_steps = 10_000
  if small:
    config.gan.perceptual = 'matching'  # VGG16 costs more than all the rest
    config.gan.warmup_steps = config.steps // 4
    config.gan.adversarial_weight = 0.0007
    config.discriminator.channels = 16
    config.discriminator.layers = (3,)
    config.optim.learning_rate = 1e-3
    # The gradient jumps as the warm-up ends: with a memory of 1000 steps the
    # weights would jump as well, and never come back.
    config.optim.b2 = 0.9
    config.optim.clip = 0.1
    if config.data.name == 'mixture':  # starts as the CNN in the box
      config.loss = 'charbonnier'  # beside a loss in dB, a verdict is nothing
      config.gan.perceptual = 'vgg16'  # twice as long, and much closer by LPIPS
      config.gan.warmup_steps = 0
      config.gan.adversarial_weight = 0.001
      config.optim.learning_rate = 3e-4
      config.optim.warmup_steps = 100
  return config


def baseline(config: ConfigDict, small: bool) -> ConfigDict:
  """Adds the origin project's network, trained with the squared error.

  All its layers work at full size: a step costs about ten of the small
  NAFNet's, so the small form is given a tenth of the steps.
  """
  config.family = 'cnn'
  config.model.name = 'encoder_decoder'
  config.loss = 'mse'
  config.optim.b2 = 0.999
  config.optim.weight_decay = 0.0
  if small:
    config.steps //= 10
  return config


def _in_the_box(net: ConfigDict) -> None:
  """The NAFNet that all three families restore with."""
  net.width = 32
  net.halved = True
  net.upsampling = 'resize'
  net.encoder = (1, 4, 8)
  net.middle = 0  # at a sixteenth of the size, blocks learned nothing of use
  net.decoder = (2, 2, 2)


def _two_cores(config: ConfigDict, steps: int = 4000, crop: int = 96) -> None:
  """Shrinks crop, batch, steps and intervals."""
  config.steps = steps
  config.data.crop = crop
  config.data.batch_size = 8
  config.checkpoint.every_steps = 250
  config.eval.every_steps = 500
  config.log.every_steps = 10
