"""Read, check, query, edit and write ONNX graphs.

================= ==============================================================================================
``domains``       Write ONNX's own domain as the empty string.
``editing``       Edit a graph: unused names, new constants, removal of unused initializers.
``file_info``     Facts about a model file that need no session: size, quantized or not.
``inputs``        Model inputs: which is the main one, their shapes, the arrays that feed them.
``large_models``  Models over protobuf's 2 GB: the structure, with the weights beside it.
``loading``       Load a float or quantized model, check it, normalize its form.
``main_input``    Say which input of a graph is the main one, by its name and its use.
``operators``     Operators with their domain, and the tables of operators and element types that are shared.
``query``         Query a graph: constants, weighted nodes, BatchNormalization, class scores.
``reading``       Read a model file, check it and upgrade its opset.
``standard_form`` Bring files that ONNX Runtime reads into the form that the ONNX checker accepts.
``task``          Say what a model computes: class scores, and which of its outputs they are, or something else.
``torch_export``  Export a torch.nn.Module to ONNX with its BatchNormalization kept.
``traversal``     Walk a graph forward and backward.
``writing``       Write a model to a file, with external data if it is large.
``passes``        Graph rewrites, one a file; each edits a model in place and says what it changed.
================= ==============================================================================================
"""
