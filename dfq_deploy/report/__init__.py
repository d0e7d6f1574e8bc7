"""Write a calibration's report: JSON and HTML.

============ ================================================================================================
``engine``   The layers of a compiled engine as HTML.
``html``     The HTML report.
``model``    The report of a calibration: frozen sections, and their JSON.
``plots``    Charts and labels of the report: the name of the bit width, and the curve of size against error.
``remedies`` The section of the HTML report on the remedies that were tried.
``verdict``  The verdict, what hurts and the sanity figures as HTML.
``writing``  Write report.json and report.html.
============ ================================================================================================
"""
