"""Judge a quantized model without data: is it good, is it fast, what hurts.

=============== ======================================================================================
``causes``      Find why a quantized tensor is noisy, from its values.
``engines``     Run a float model with some of its layers quantized, in torch or in ONNX Runtime.
``finding``     Findings and the verdict: what is wrong with a result, how bad it is, and the way out.
``layers``      Find the quantized layers of a float graph and which of their tensors have encodings.
``remedies``    Name the option that mends a cause.
``roles``       Find what writes an activation, as far as that decides why it is noisy.
``sensitivity`` Measure what each quantized layer alone costs at the model's outputs.
``speed``       Judge whether a quantized model runs in integers, and faster than the float model.
``what_hurts``  Say which layers hurt a quantized model, why, and what to do.
=============== ======================================================================================
"""
