"""Inputs drawn by rule, without looking at the weights.

============= ================================================================================================
``blur``      Gaussian blur of a picture, with reflected borders.
``inputs``    Rules for token ids, masks, lengths and scales.
``sequences`` Token ids, masks, types and positions of samples of varied lengths, which agree with each other.
``signals``   Procedural signals: sound, vibration, series.
============= ================================================================================================
"""
