"""Judge a quantized model without data: is it good, is it fast, what hurts.

``agreement``  Agreement of float and quantized model on held-out inputs, kind by kind.
``causes``     Find why a quantized tensor is noisy, from its values.
``engines``    Run a float model with some of its layers quantized, in torch or in ONNX Runtime.
``evaluation`` Judge an evaluation: wrong scales, gates, agreement, top-1, labels, kernels and speed.
``finding``    Findings and the verdict: what is wrong with a result, how bad it is, and the way out.
``gates``      Gates: bounds of the user's own that the figures of a quantized model have to meet.
``held_out``   Held-out inputs of several kinds, none of which calibrates.
``input_scale`` Compare the scale of samples with what the first layers of a network expect.
``input_statistics`` Estimate mean and deviation of the training inputs from the first BatchNormalization.
``intervals``  Confidence intervals of agreement and of the top-1 drop.
``judge``      The verdict: OK, CHECK or BAD, decided by the worst finding.
``labels``     Say where the labels of a sample set are not the model's classes.
``layers``     Find the quantized layers of a float graph and which of their tensors have encodings.
``prediction`` Predicted agreement on real data, from inputs that are not.
``preprocess_answers`` Judge a preprocess by the answers of a network that has no BatchNormalization.
``preprocess_fit`` Judge a preprocess by the input statistics that a network expects, and name the best one.
``remedies``   Name the option that mends a cause.
``response``   Measure how a network responds to samples: its first layer, and its answers.
``roles``      Find what writes an activation, as far as that decides why it is noisy.
``sample_figures`` Judge the quality figures of a sample set: classes, diversity, confidence, statistics.
``sample_set`` Judge a sample set by itself: number, repeats, constant samples, range of the values.
``sanity``     Sanity of what goes in: do samples and preprocess fit the network.
``sensitivity`` Measure what each quantized layer alone costs at the model's outputs.
``speed``      Judge whether a quantized model runs in integers, and faster than the float model.
``what_hurts`` Say which layers hurt a quantized model, why, and what to do.
============== ================================================================================================
=======
============== ================================================================================================
``assess``     Assess a quantized file: sanity of the samples, agreement, what hurts, speed, and the verdict.
``evaluation`` Judge an evaluation: wrong scales, gates, agreement, top-1, labels, kernels and speed.
``finding``    Findings and the verdict: what is wrong with a result, how bad it is, and the way out.
``gates``      Gates: bounds of the user's own that the figures of a quantized model have to meet.
``judge``      The verdict: OK, CHECK or BAD, decided by the worst finding.
``speed``      Judge whether a quantized model runs in integers, and faster than the float model.
``agreement``  Agreement of float and quantized on held-out inputs, and on real data predicted.
``noise``      Each layer's own noise at the outputs, its causes and remedies.
``sanity``     Do samples, preprocess and labels fit the network.
============== ================================================================================================
"""
