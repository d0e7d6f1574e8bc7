"""Say what is in a model, what will hurt, and what to do.

=============== ================================================================================================
``advice``      Advice: what will hurt in a model, and the way out.
``estimate``    Estimate what will run in integers: quantize with made-up ranges, and count.
``inspect``     Inspect a model: ``dfq_deploy.inspect``.
``sensitivity`` Look ahead at what would hurt: quantize with samples drawn by rule and measure each layer alone.
=============== ================================================================================================
"""
