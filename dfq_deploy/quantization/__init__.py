"""Turn a float graph and ranges into encodings, and compute the fake-quantized network.

====================== ============================================================================================
``bit_widths``         Bit widths such as ``w4a8``, and the integer type of each tensor.
``dynamic``            Dynamic quantization: the activations of some layers are quantized at run time.
``encode``             Prepare a float model for a target and turn ranges into encodings.
``fake_quant``         Fake quantization in torch with fixed encodings.
``integer_io``         Make inputs and outputs integers: fold the preprocessing into the model.
``kept_float``         What a written file says of the layers that it keeps in float on purpose.
``known_ranges``       Ranges that are known: of a Softmax behind a mask, of kernels with fixed scales, of earlier ones.
``learned_fake_quant`` Fake quantization with learned steps and offsets (LSQ, LSQ+).
``lowering``           Rewrite operators that lack integer kernels into ones that have them.
``narrow_copies``      Insert copies of activations for layers with fewer than 8 bits.
``overrides``          Override what is quantized, node by node and tensor by tensor.
``overrides_file``     Read an overrides file (TOML).
``qdq_reader``         Read the quantization of tensors from the Q and DQ nodes around them.
``ranges``             Derive ranges from known ones, and compute encodings from them.
``tables``             Tables that a Gather looks rows up in (embeddings), as integers.
``weight_blocks``      Weights alone: matrices of a few bits, with a scale and a zero point for each block of inputs.
``weights``            Compute the encodings of weights, and raise scales where biases or sums would overflow.
``wide_heads``         Give the decoding of a detector 16 bits where the target computes all of it in integers.
``placement``          Decide which tensors get Q/DQ for a target.
====================== ============================================================================================
"""
