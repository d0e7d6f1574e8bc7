"""Turn a float graph and ranges into encodings, and compute the fake-quantized network.

====================== ========================================================================
``bit_widths``         Bit widths such as ``w4a8``, and the integer type that each tensor gets.
``encode``             Prepare a float model for a target and turn ranges into encodings.
``fake_quant``         Fake quantization in torch with fixed encodings.
``integer_io``         Bytes in, integers out: fold the preprocessing into the model.
``known_ranges``       Ranges that the graph tells without samples: of a Softmax behind a mask.
``learned_fake_quant`` Fake quantization with learned steps and offsets (LSQ, LSQ+).
``lowering``           Rewrite operators that lack integer kernels into ones that have them.
``narrow_copies``      Give layers with fewer than 8 bits an input of their own.
``overrides``          Override what is quantized, node by node and tensor by tensor.
``overrides_file``     Read an overrides file (TOML).
``qdq_reader``         Read how tensors are quantized from the Q and DQ around them.
``ranges``             Ranges of a whole float model, and encodings from them.
``weights``            Encode weights.
``placement``          Decide which tensors get Q/DQ for a target.
====================== ========================================================================
"""
