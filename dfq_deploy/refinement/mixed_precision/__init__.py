"""Mixed precision: choose the bit width of each weight within a budget.

=============== ============================================================================
``allocation``  Choose the bit width of each weight within a budget.
``frontier``    The trade-off between the size of the file and the error of its outputs.
``knapsack``    Choose one width for each weight such that all fit into a number of bits.
``sensitivity`` Measure how much the outputs change with one weight at fewer bits.
=============== ============================================================================
"""
