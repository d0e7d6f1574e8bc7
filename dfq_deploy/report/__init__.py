"""Write a calibration's report: JSON and HTML.

=========== =============================================================
``html``    The HTML report.
``model``   The report of a calibration: frozen sections, and their JSON.
``plots``   Charts of the report: bit widths and the size curve.
``writing`` Write report.json and report.html.
=========== =============================================================
"""
