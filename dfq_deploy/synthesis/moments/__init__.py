"""Means and variances propagated through a network in closed form.

=============== ================================================================
``moments``     Mean, variance and bounds of a tensor's channels in closed form.
``propagation`` Propagate BatchNormalization's moments through a graph.
=============== ================================================================
"""
