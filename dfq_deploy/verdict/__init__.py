"""Judge a quantized model without data: is it good, is it fast, what hurts.

=========== ======================================================================================
``finding`` Findings and the verdict: what is wrong with a result, how bad it is, and the way out.
``speed``   Judge whether a quantized model runs in integers, and faster than the float model.
=========== ======================================================================================
"""
