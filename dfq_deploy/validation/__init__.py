"""Check a file before anything computes with it.

Models, archives and arrays are data from anywhere. What these checks refuse would otherwise end in an exception of the
wrong kind, in a process that native code aborts, in more memory than the machine has, or in a run without end.

============= ==========================================================================================
``archives``  Open a zip archive within limits: its members, their declared sizes, their packing.
``arrays``    Read an array of NumPy's format, once its type and shape have been checked.
``bounds``    How much a model file may ask for.
``budget``    What ``--max-memory`` leaves to the steps, and sentences on what they changed for it.
``check``     All checks on a parsed model, in order.
``clock``     Limit the time that a file may take of this process.
``functions`` Count the nodes that model-local functions expand to, without expanding them.
``loops``     Count the turns of Loops that nothing ends before.
``names``     Check the names in a model: valid UTF-8, of a sensible length, without control characters.
``probe``     The script of the child process: shape inference, then one run in ONNX Runtime.
``tensors``   Check stored tensors: shapes, element types and the bytes that they need.
``trial``     Load and run a file in a child process the first time that it is seen.
``types``     Check the types of inputs, outputs and values: tensors, sequences and optional ones.
``walk``      Iterate over the parts of a model, nested ones included.
============= ==========================================================================================
"""
