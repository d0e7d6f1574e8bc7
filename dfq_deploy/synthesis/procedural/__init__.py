"""Inputs drawn by rule, without looking at the weights.

============= ================================================================================================
``inputs``    Rules for token ids, masks, lengths and scales.
``sequences`` Token ids, masks, types and positions of samples of varied lengths, which agree with each other.
``signals``   Procedural signals: sound, vibration, series.
============= ================================================================================================
"""
