"""Graph rewrites, one a file; each edits a model in place and says what it changed.

==================== ===============================================================================================
``copied_sizes``     Compute sizes at load time: copy them in Reshape, and make constants of static ones.
``dense_layers``     Write dense layers in the forms that runtimes have integer kernels for.
``einsum_products``  Write an Einsum that is a matrix product as MatMul, for which runtimes have integer kernels.
``fold_affine``      Fold scales and shifts by constants into the weights before them.
``fold_batch_norm``  Fold BatchNormalization into the weights before it.
``fold_constants``   Compute at load time what depends on constants alone.
``fold_pads``        Fold zero Pads into the convolutions and pooling that read them, and write the others for all axes.
``fuse_gelu``        Fuse Gelu where it is written with Erf.
``input_shapes``     Close open dimensions of inputs, for good or only to measure with.
``open_batch``       Open the batch dimension where the graph fixes it.
``open_sizes``       Remember the open shapes of a model whose sizes are closed to measure with, and give them back.
``own_biases``       Give every weighted node a bias of its own.
``short_hard_swish`` Write hard swishes that exporters spread over four operators in two.
``static_shapes``    Close all dimensions, for runtimes that take static shapes only.
``to_float32``       Compute float16, bfloat16 and double models in float32.
==================== ===============================================================================================
"""
