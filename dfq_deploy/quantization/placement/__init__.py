"""Decide which tensors get Q/DQ for a target.

=================== ============================================================================
``detection_heads`` Separate boxes and scores that one scale would break.
``exact``           Find outputs that are inputs, so that they come back as they were given.
``limits``          Limits that Relu and Clip set on a tensor.
``place``           Decide which tensors get Q and DQ.
``policies``        Which tensors each placement policy quantizes (kernels, inputs, everything).
``predicates``      Whether a node can be quantized, and which of its tensors share an encoding.
``saturation``      Find the interval beyond which the readers of a tensor saturate.
``spectral``        Find spectral front ends (STFT, mel), which stay in float.
=================== ============================================================================
"""
