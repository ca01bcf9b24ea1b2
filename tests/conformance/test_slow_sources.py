"""On real servers the head of a typed export is on the wire while its source has not given its fourth row."""

from __future__ import annotations

import pytest

from tests.conformance.servers import Server, ask


@pytest.mark.parametrize(("name", "begun"), [("parquet", b"PAR1"), ("arrow", b""), ("csv", b"id\n1\n")])
@pytest.mark.parametrize("headers", ["", "Accept-Encoding: gzip\r\n"])
def test_the_head_of_a_slow_export_is_on_the_wire(nasty: Server, name: str, begun: bytes, headers: str) -> None:
    with ask(nasty, f"/api/v1/exports/{name}?dataset=forever", headers=headers) as client:
        data = b""
        while b"\r\n\r\n" not in data or (not headers and begun not in data):
            part = client.recv(4096)
            assert part
            data += part
        assert data.startswith(b"HTTP/1.1 200 ")
