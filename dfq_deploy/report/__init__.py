"""Write a calibration's report: JSON and HTML.

============== ============================================================================================
``charts``     Charts of the report as SVG.
``compared``   Compare the report of a run with that of another.
``formats``    Numbers, sizes, durations and names as the report shows them.
``model``      The report of a calibration: frozen sections, and their JSON.
``page``       The report as one HTML file, from the report or from what report.json holds.
``run``        How a result was made: command, options, versions, machine.
``sections``   What the sections of the page show, from the report.
``tables``     Sortable tables of the report: layers, activations, weights, what stays float, layers of an engine.
``terms``      The terms of the report and what they mean; docs/glossary.md has the same words.
``thumbnails`` Small pictures of samples for the report.
``writing``    Write report.json and report.html.
============== ============================================================================================

``templates/`` holds the page (jinja2), its style and its script: one file for each section.
"""
