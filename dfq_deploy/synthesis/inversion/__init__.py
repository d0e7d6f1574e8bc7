"""Gradient descent on the samples: DeepInversion's loss, the loop, batches, early stopping, journal.

====================== ================================================================================
``batches``            Invert batch after batch and collect the set.
``early_stopping``     Early stopping when calibration ranges converge.
``image_augmentation`` Random crops of images during inversion.
``journal``            Journal of finished batches, for ``--resume``.
``loop``               The inversion loop that every method of gradient descent on samples shares.
``mixing``             Data mixing (MixMix, Li et al., ICCV 2021).
``objective``          DeepInversion's loss: class scores, BatchNormalization statistics, image priors.
``optimizers``         Adam, its learning rates, and the pixels that it moves.
====================== ================================================================================
"""
