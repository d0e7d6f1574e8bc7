"""Write a calibration's report: JSON and HTML.

=========== =============================================================
``html``    The HTML report.
``model``   The report of a calibration: frozen sections, and their JSON.
``plots``   Charts of the report: bit widths and the size curve.
``verdict`` The verdict, what hurts and the sanity figures as HTML.
``writing`` Write report.json and report.html.
=========== =============================================================
"""
