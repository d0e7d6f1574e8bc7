"""Charts of the report as SVG.

Each is as wide as its place: across, positions are percentages, so that text keeps its size on a phone.

============= ==============================================================
``axes``      Ticks, grid lines and labels of a chart.
``bars``      Bars: a figure beside its number, a whole in parts, quartiles.
``channels``  The range of each channel of a weight.
``histogram`` Histogram of a tensor with its clipping points and its integers.
``noise``     Signal to noise along the graph: accumulated, and of each layer alone.
``svg``       Build SVG elements; text and attributes are escaped.
``tradeoff``  Size against error of mixed bit widths.
============= ==============================================================
"""
