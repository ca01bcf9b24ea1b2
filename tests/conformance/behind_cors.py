"""Exports that break off, behind `Cors`."""

from __future__ import annotations

from asgi_export import Cors, ExportApp, Observe, Outermost
from tests.conformance.nasty import failing

app = Outermost(Observe(Cors(ExportApp([failing]), origins=["https://app.example"])))
