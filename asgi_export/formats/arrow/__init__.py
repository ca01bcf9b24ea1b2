"""Arrow for formats: the only rooms of `formats` that import pyarrow and polars.

The formats beside this folder open them by `extras.extra`, so that a service without Arrow needs neither.
"""
