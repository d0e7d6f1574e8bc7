"""TensorRT's Python package and its calibration cache, and TensorRT-RTX's compiler.

================= ==================================================================================================
``cache``         Read and write TensorRT's calibration cache.
``engine_layers`` The layers of an engine: read from TensorRT's log, and matched with the layers of the model.
``package``       Import TensorRT, parse a network, collect its log.
``rtx``           Compile for NVIDIA GPUs without one: TensorRT-RTX's parser and builder, where they are installed.
``rtx_worker``    The process in which TensorRT-RTX compiles, started by ``rtx``.
================= ==================================================================================================
"""
