"""Say what is in a model, what will hurt, and what to do.

=============== =============================================================================================
``advice``      Advice on what will cost accuracy or speed in a model, or prevent synthesis.
``estimate``    Estimate which layers will run in integers: quantize with arbitrary ranges, and count.
``inspect``     Inspect a model: ``dfq_deploy.inspect``.
``sensitivity`` Sensitivity before calibration: quantize on procedural samples, and measure each layer alone.
=============== =============================================================================================
"""
