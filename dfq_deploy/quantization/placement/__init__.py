"""Decide which tensors get Q/DQ for a target.

=================== ============================================================================
``detection_heads`` Keep boxes and scores of a detection head from sharing one scale.
``limits``          Bounds that Relu and Clip set on a tensor.
``place``           Decide which tensors get Q and DQ.
``policies``        Select the tensors that each placement policy quantizes (kernels, inputs, everything).
``predicates``      Decide whether a node can be quantized, and which of its tensors share an encoding.
``saturation``      Find the interval beyond which the consumers of a tensor saturate.
``spectral``        Find spectral front ends (STFT, mel), which stay in float.
=================== ============================================================================
"""
