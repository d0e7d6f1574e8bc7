"""The synthesis methods, one a file.

================= ===================================================================================================
``adversarial``   Data-free adversarial distillation (Choi et al., CVPR Workshops 2020).
``analytic``      Ranges in closed form, from BatchNormalization alone (Nagel et al., ICCV 2019).
``anchored``      Pictures by rule that descend on class scores, anchored by the statistics of the first layers.
``deepinversion`` DeepInversion: gradient descent on the pixels (Yin et al., CVPR 2020).
``dfqf``          DFQF: a fixed set from a generator (Li et al., ACML 2020).
``gdfq``          GDFQ: a conditional generator (Xu et al., ECCV 2020).
``genie``         GENIE: latents and generator, batch by batch (Jeon et al., CVPR 2023).
``hast``          HAST: images that the teacher finds hard (Li et al., CVPR 2023).
``lis``           Learning in School: several teachers invert one set (Li et al., 2020).
``lowpass``       Low-pass filter on the samples of any method (SynQ, Kim et al., ICLR 2025).
``noise``         Noise, uniform or Gaussian: the baseline.
``photographs``   Random crops of the photographs that the package ships.
``procedural``    Procedural samples: pictures and signals drawn by rule, no model needed.
``psaq``          PSAQ-ViT: images with diverse patch similarities (Li et al., ECCV 2022).
``qimera``        Qimera: samples near decision boundaries (Choi et al., NeurIPS 2021).
``zeroq``         ZeroQ: each image matches the statistics by itself (Cai et al., CVPR 2020).
================= ===================================================================================================
"""
