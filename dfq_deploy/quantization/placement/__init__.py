"""Decide which tensors get Q/DQ for a target.

=================== =============================================================================================
``detection_heads`` Detection heads: keep a Concat of boxes and scores in float where one scale cannot hold both.
``exact``           Find outputs that are inputs, so that they come back as they were given.
``limits``          Limits that Relu and Clip set on a tensor.
``place``           The placement rules: which tensors get Q and DQ, operator by operator (Conv, Add, Concat...).
``policies``        Which tensors each placement policy quantizes (kernels, inputs, everything).
``predicates``      Whether a node can be quantized, which of its tensors are, and which share an encoding.
``saturation``      Find the interval beyond which the readers of a tensor saturate.
``spectral``        Find spectral front ends (STFT, mel), which stay in float.
=================== =============================================================================================
"""
