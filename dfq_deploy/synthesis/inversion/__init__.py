"""Gradient descent on the samples: the loop, its objective, batches, early stopping and journal.

====================== ===================================================================================
``batches``            Invert the samples in batches and collect the results.
``early_stopping``     Early stopping when calibration ranges converge.
``image_augmentation`` Random crops of images during inversion.
``journal``            Journal of finished batches, for ``--resume``.
``loop``               The inversion loop shared by all methods that optimize samples by gradient descent.
``mixing``             Data mixing (MixMix, Li et al., ICCV 2021).
``objective``          DeepInversion's loss: class scores, BatchNormalization statistics, image priors.
``optimizers``         Adam with learning-rate schedules, and pixels as parameters.
``parts``              Run a batch in parts that fit into memory, with the statistics of the whole batch.
====================== ===================================================================================
"""
