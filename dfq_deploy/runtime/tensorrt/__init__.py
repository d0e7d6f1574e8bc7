"""TensorRT's Python package and its calibration cache.

=========== ==================================================
``cache``   Read and write TensorRT's calibration cache.
``package`` Import TensorRT, parse a network, collect its log.
=========== ==================================================
"""
