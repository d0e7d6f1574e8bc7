"""Calibrators: one module for each algorithm. Installed as ``dfq_deploy.calibrators``.

==================== ================================================================================================
``entropy``          Entropy calibration: the range with the smallest Kullback-Leibler divergence.
``histogram``        Histograms of constant size over streams whose range is not known beforehand. NumPy only.
``minmax``           Min-max: the range is the smallest and the largest value seen.
``mse``              Mean squared error calibration: the range with the smallest sum of rounding and clipping errors.
``percentile``       Percentile calibration: a fixed fraction of the values is clipped.
``streaming``        The loop over the samples that all histogram calibrators share.
``tensorrt``         TensorRT 10's own INT8 calibrators, fed with samples. TensorRT 11 has none: it reads Q and DQ.
``tensorrt_batches`` Batches for TensorRT's calibrators: all of one size, in device memory, passed as addresses.
==================== ================================================================================================
"""
