"""Improve a quantized model after calibration: equalization, learned rounding, bias correction, mixed precision.

============================ ===========================================================================================
``adaround``                 Learned rounding of weights (AdaRound).
``bias_correction``          Bias correction: remove the mean shift of each channel.
``block_learner``            Learn the roundings and steps of one block after another.
``blocks``                   Split a network into blocks for reconstruction.
``cross_layer_equalization`` Cross-layer equalization: neighboring layers trade scale.
``mean_correction``          Keep channel means while a block is learned.
``mixed_precision``          Mixed precision: choose the bit width of each weight within a budget.
``more_samples``             Add augmented and procedural images where few samples are given.
``one_by_one``               Bias correction where the twin takes one sample at a time, since the graph fixes its batch.
``reconstruction``           Block-wise reconstruction: learn roundings and steps.
``registry``                 Refinements by name, in their order.
============================ ===========================================================================================
"""
