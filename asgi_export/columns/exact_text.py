"""The exact text of values that no Arrow type holds together."""

from __future__ import annotations

import pyarrow as pa


class ExactText(pa.ExtensionType):  # type: ignore[misc]
    """Text in place of typed values: formats of text write it, and typed formats refuse it.

    It never leaves the process: it is made by a source, and known by this class, which is registered so that it
    survives the PyCapsule interface.
    """

    def __init__(self) -> None:
        super().__init__(pa.string(), "asgi_export.columns.exact_text")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> ExactText:
        """Return the same type for every array. A file may claim the name for whatever it holds."""
        if not pa.types.is_string(storage_type):
            raise pa.ArrowInvalid("asgi_export.columns.exact_text: expected text")
        return cls()


pa.register_extension_type(ExactText())
