"""Run models in ONNX Runtime, and talk to TensorRT.

=============== ==================================================================
``activations`` Compute the activations of a float model, a few samples at a time.
``integer_io``  Feed and read models that take bytes and write integers.
``runner``      Run a model on any number of samples.
``session``     ONNX Runtime sessions on files and on models in memory.
``tensorrt``    TensorRT's Python package and its calibration cache.
=============== ==================================================================
"""
