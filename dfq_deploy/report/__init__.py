"""Write a calibration's report: JSON and HTML.

=========== ====================================================
``html``    The HTML report.
``plots``   Charts of the report: bit widths and the size curve.
``writing`` Write report.json and report.html.
=========== ====================================================
"""
