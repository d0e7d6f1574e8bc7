"""Judge a quantized model without data: is it good, is it fast, what hurts.

============== ==============================================================================================
``assess``     Assess a quantized file: sanity of the samples, agreement, what hurts, speed, and the verdict.
``detector``   Judge the head of a detector: boxes and scores apart.
``evaluation`` Judge an evaluation: wrong scales, gates, agreement, top-1, labels, kernels and speed.
``finding``    Findings and the verdict: what is wrong with a result, how bad it is, and the way out.
``gates``      Gates: bounds of the user's own that the figures of a quantized model have to meet.
``judge``      The verdict: OK, CHECK or BAD, decided by the worst finding.
``speed``      Judge whether a quantized model runs in integers, and faster than the float model.
``streaming``  Judge a streaming model on states of its own, which carry its errors from step to step.
``task``       Judge a model by what it is for, where that is stated: classes of pixels, numbers, embeddings.
``agreement``  Agreement of float and quantized on held-out inputs, and on real data predicted.
``noise``      Each layer's own noise at the outputs, its causes and remedies.
``sanity``     Do samples, preprocess and labels fit the network.
============== ==============================================================================================
"""
