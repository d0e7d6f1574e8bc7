"""Each layer's own noise at the outputs, its causes and remedies.

================= ======================================================================================================
``causes``        Find why a quantized tensor is noisy, from its values.
``engine_choice`` Choose what measures the noise of single layers soonest: the twin, or ONNX Runtime with switches.
``engines``       Run a float model with some of its layers quantized, in torch or in ONNX Runtime.
``histograms``    Histograms of quantized tensors: where their values lie, and what the integers hold.
``layers``        Find the quantized layers of a float graph and which of their tensors have encodings.
``ratios``        Noise of outputs relative to their signal.
``remedies``      Name the option that mends a cause.
``roles``         Find what writes an activation, as far as that decides why it is noisy.
``sensitivity``   Measure what each quantized layer alone costs at the model's outputs.
``switches``      Run a float model in ONNX Runtime with a switch for the rounding of each layer.
``what_hurts``    Say which layers hurt a quantized model, why, and what to do.
================= ======================================================================================================
"""
