"""Loss terms of the synthesis methods.

========================= ====================================================
``attention``             Find the attention outputs of a twin.
``batch_norm_statistics`` Distance to BatchNormalization's running statistics.
``image_priors``          Class loss, total variation and image norm.
``per_image_statistics``  Distance to the running statistics, per image.
``soft_labels``           Soft labels from the outputs of the teachers.
``swing_convolution``     Swing convolution (GENIE, Jeon et al., CVPR 2023).
========================= ====================================================
"""
