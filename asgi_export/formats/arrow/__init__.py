"""What a format does with Arrow: the only rooms of `formats` that import pyarrow and polars.

The formats beside this folder open them by `extras.open_room`, so that a service without Arrow needs neither.
"""
