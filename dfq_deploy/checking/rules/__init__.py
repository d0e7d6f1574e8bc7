"""The rules of quantized files, by subject; each target lists those of its runtime.

============= ==============================================================
``placement`` Rules on the placement of Q and DQ.
``scales``    Rules on scales: constant, positive, shape, axis, bias scales.
``shapes``    Rules on shapes, ranks, constants and operators.
``types``     Rules on integer types, signs, zero points and opsets.
============= ==============================================================
"""
