"""Read, check, query, edit and write ONNX graphs.

================= =================================================================================
``editing``       Edit a graph: unused names, removal of unused initializers.
``file_info``     Facts about a model file that need no session: size, quantized or not.
``inputs``        Model inputs: which is the main one, their shapes, the arrays that feed them.
``large_models``  Models over protobuf's 2 GB: the structure, with the weights beside it.
``loading``       Load a float or quantized model, check it, normalize its form.
``operators``     Tables of operators and element types.
``query``         Query a graph: constants, weighted nodes, BatchNormalization, class scores.
``reading``       Read a model file, check it and upgrade its opset.
``standard_form`` Bring files that ONNX Runtime reads into the form that the ONNX checker accepts.
``torch_export``  Export a torch.nn.Module to ONNX with its BatchNormalization kept.
``traversal``     Walk a graph forward and backward.
``writing``       Write a model to a file, with external data if it is large.
``passes``        Graph rewrites, one a file; each edits a model in place and says what it changed.
================= =================================================================================
"""
