"""Judge a quantized model without data: is it good, is it fast, what hurts.

============== ======================================================================================
``agreement``  Agreement of float and quantized model on held-out inputs, kind by kind.
``finding``    Findings and the verdict: what is wrong with a result, how bad it is, and the way out.
``held_out``   Held-out inputs of several kinds, none of which calibrates.
``intervals``  Confidence intervals of agreement and of the top-1 drop.
``judge``      The verdict: OK, CHECK or BAD, decided by the worst finding.
``prediction`` Predicted agreement on real data, from inputs that are not.
============== ======================================================================================
"""
