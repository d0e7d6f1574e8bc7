"""Each layer's own noise at the outputs, its causes and remedies.

=============== =====================================================================================
``causes``      Find why a quantized tensor is noisy, from its values.
``engines``     Run a float model with some of its layers quantized, in torch or in ONNX Runtime.
``histograms``  Histograms of quantized tensors: where their values lie, and what the integers hold.
``layers``      Find the quantized layers of a float graph and which of their tensors have encodings.
``remedies``    Name the option that mends a cause.
``roles``       Find what writes an activation, as far as that decides why it is noisy.
``sensitivity`` Measure what each quantized layer alone costs at the model's outputs.
``what_hurts``  Say which layers hurt a quantized model, why, and what to do.
=============== =====================================================================================
"""
