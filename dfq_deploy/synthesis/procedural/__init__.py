"""Inputs drawn by rule, without looking at the weights.

=========== ===============================================
``inputs``  Rules for token ids, masks, lengths and scales.
``signals`` Procedural signals: sound, vibration, series.
=========== ===============================================
"""
