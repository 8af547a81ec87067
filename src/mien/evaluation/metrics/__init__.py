"""The metrics, one idea a file: to add one, add a file with a class of `mien.evaluation.metric`.

Tables, JSON and pages pick it up from here; no list names it.
"""
