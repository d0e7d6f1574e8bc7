"""Inputs drawn by rules, independent of the weights.

=========== ===============================================
``inputs``  Rules for token ids, masks, lengths and scales.
``signals`` Procedural signals: sound, vibration, series.
=========== ===============================================
"""
