"""The rules that a quantized file must obey, by subject; each runtime names those that it has.

============= ==============================================================
``placement`` Rules on the placement of Q and DQ.
``scales``    Rules on scales: constant, positive, shape, axis, bias scales.
``shapes``    Rules on shapes, ranks, constants and operators.
``types``     Rules on integer types, signs, zero points and opsets.
============= ==============================================================
"""
