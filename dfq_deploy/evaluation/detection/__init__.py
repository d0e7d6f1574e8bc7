"""Evaluate detectors: decode their outputs, compare boxes and scores, mean average precision.

===================== ==========================================================================================
``annotations``       Read the true boxes of images: COCO's JSON, or a folder of YOLO's text files.
``average_precision`` Mean average precision, as COCO defines it.
``boxes``             Overlap of boxes, and non-maximum suppression.
``decoder``           Decode the outputs of a detector to boxes in pixels and class scores.
``grids``             Find the grid of a detector's anchors from their number.
``head_errors``       Compare the head of a detector: boxes and scores of float and quantized model.
``map_metric``        Mean average precision of the float and the quantized model.
===================== ==========================================================================================
"""
