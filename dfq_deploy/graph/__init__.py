"""Read, check, query, edit and write ONNX graphs.

=================== ===================================================================================================
``batch_axis``      Put a batch of one before the inputs and outputs of a model that has none, and take it away again.
``channel_scaling`` Scale the output or the input channels of a weighted node, and shift the outputs, in its constants.
``detection``       Find the parts of a detector's outputs: boxes and scores, in one output or in several.
``domains``         Normalize the name of ONNX's own domain to the empty string.
``editing``         Edit a graph: unused names, new constants, axes of a mean, removal of unused initializers.
``expanded``        Concats that join an Expand of open size with what a convolution computes.
``file_info``       Properties of a model file that need no session: size, types of its constants, quantized or not.
``file_shapes``     Shapes as a file declares them, whatever they are closed to, and the names of their open sizes.
``foreign_files``   Tell what a file or folder is that is given in place of an ONNX model, and the way to ONNX.
``index_tables``    Tables and axes that an input of integers indexes, and so which ids are valid.
``infer_shapes``    Infer the shapes of all values.
``inputs``          Model inputs: which is the main one, their shapes, the arrays that feed them.
``large_models``    Models over protobuf's limit of 2 GB: separate the structure from the weights.
``loading``         Load a float or quantized model, check it, normalize its form.
``logits``          Find the logits that class scores are computed from.
``loop_invariants`` Take what no iteration changes out of the variables of a Loop: bodies then read it from outside.
``main_input``      Say which input of a graph is the main one, by its name and its use.
``missing_batch``   Tell whether the main input of a model has a batch.
``operators``       Match operators with their domain; shared tables of operators and element types.
``query``           Query a graph: constants, weighted nodes, BatchNormalization, class scores.
``randomness``      Name the outputs that random numbers decide, which differ from run to run.
``reading``         Read a model file, check it and upgrade its opset.
``required_sizes``  Sizes that operators require of an input, where its shape leaves them open: channels, features.
``standard_form``   Convert files that ONNX Runtime reads to the form that the ONNX checker accepts.
``task``            Say what a model computes: class scores, and which of its outputs they are, or something else.
``torch_export``    Export a torch.nn.Module or a torch.export program to ONNX with its BatchNormalization kept.
``traversal``       Traverse a graph forward and backward.
``writing``         Write a model to a file, with external data if it is large.
``passes``          Graph rewrites, one a file; each edits a model in place and says what it changed.
=================== ===================================================================================================
"""
