"""Single loss terms of the synthesis methods; ``inversion.objective`` adds them up to DeepInversion's loss.

========================= ====================================================
``attention``             Attention outputs of a twin, found by structure.
``batch_norm_statistics`` Distance to BatchNormalization's running statistics.
``image_priors``          Class loss, total variation and image norm.
``per_image_statistics``  Distance to the running statistics, image by image.
``soft_labels``           Label finished images with the teacher's answers.
``swing_convolution``     Swing convolution (GENIE, Jeon et al., CVPR 2023).
========================= ====================================================
"""
