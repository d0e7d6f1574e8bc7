"""Work towards a floor: try remedies, cheapest first, measure each, and keep what gains.

============ ==========================================================================================
``attempts`` Quantize with changed settings and measure what comes out.
``faster``   Keep the layers in float that are slower in integers, where the result is slower than float.
``floor``    The floor that a calibration works towards, and the limits of the work.
``known``    Ranges that are not measured: what operators tell, and wider or narrower ones.
``measures`` The remedies, the cheapest first.
``run``      Raise the result of a calibration to its floor.
``samples``  Mix inputs of another kind into the samples.
``search``   Try one remedy after another until the floor or a limit is reached.
``steps``    What was tried: each step's gain and cost, for the report.
``worst``    Find the nodes to keep in float, the noisiest layers first.
============ ==========================================================================================
"""
