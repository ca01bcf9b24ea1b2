"""Stream a table of any size as CSV from any ASGI server, in constant memory."""

__version__ = "0.1.0"
