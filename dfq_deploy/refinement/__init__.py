"""Improve a quantized model after calibration: equalization, learned rounding, bias correction, mixed precision.

============================ ===========================================================================================
``adaround``                 Learned rounding of weights (AdaRound).
``bias_correction``          Bias correction: remove the mean shift of each channel.
``block_learner``            Learn rounding and steps, one block after another.
``block_values``             Keep the features between two blocks, on disk if large.
``blocks``                   Split a network into blocks for reconstruction.
``channel_ranges``           Give the channels of an activation equal ranges, so that one scale serves them all.
``cross_layer_equalization`` Cross-layer equalization: move scale between consecutive layers.
``mean_correction``          Correct channel means while a block is learned.
``more_samples``             Add augmented and procedural images to a small sample set.
``one_by_one``               Bias correction where the twin takes one sample at a time, since the graph fixes its batch.
``reconstruction``           Block-wise reconstruction: learn rounding and steps.
``registry``                 Registry of refinements, in the order in which they run.
``runtime_shifts``           Measure the mean shift of each channel in ONNX Runtime, faster than in the twin.
``weight_blocks``            Round weights in blocks; later inputs make up for the errors of earlier ones (GPTQ).
``closed_form``              Round weights without descent: ridge regression, then GPTQ.
``mixed_precision``          Mixed precision: choose the bit width of each weight within a budget.
============================ ===========================================================================================
"""
