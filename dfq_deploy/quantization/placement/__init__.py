"""Decide which tensors get Q/DQ for a target.

=================== =============================================================================================
``detection_heads`` Detection heads: keep a Concat of boxes and scores in float where one scale cannot hold both.
``exact``           Find outputs that are inputs, so that they come back as they were given.
``limits``          Bounds that Relu and Clip set on a tensor.
``place``           The placement rules: which tensors get Q and DQ, operator by operator (Conv, Add, Concat...).
``policies``        Select the tensors that each placement policy quantizes (kernels, inputs, everything).
``predicates``      Decide whether a node can be quantized, and which of its tensors share an encoding.
``saturation``      Find the interval beyond which the consumers of a tensor saturate.
``single_scales``   Give the weights of dense layers one scale where channels cost time and gain little.
``spectral``        Find spectral front ends (STFT, mel), which stay in float.
=================== =============================================================================================
"""
