"""Agreement of float and quantized on held-out inputs, and on real data predicted.

============== =====================================================================================
``held_out``   Held-out inputs of several kinds, none of which calibrates.
``intervals``  Confidence intervals of agreement and of the top-1 drop.
``margins``    Estimate how many answers of a classifier change on inputs that it is sure of, from others.
``measure``    Agreement of float and quantized model on held-out inputs, kind by kind.
``outputs``    The noise of outputs that are no class scores, on inputs on which they show something.
``prediction`` Predicted agreement on real data, from inputs that are not.
``written``    Photographs with lines of text, for networks that find nothing on plain ones.
============== =====================================================================================
"""
