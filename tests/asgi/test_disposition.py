"""Any file name in Content-Disposition: both forms are the same safe name, and nothing of it can break a head."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from hypothesis import example, given
from hypothesis import strategies as st

from asgi_export.asgi.disposition import content_disposition, safe_filename

VALUE = re.compile(
    rb"attachment; filename=\"(?P<plain>[ !#-.0-\[\]-~]*)\""  # RFC 9110 §5.6.4 without escapes, and no slash
    rb"(?:; filename\*=UTF-8''(?P<encoded>(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*))?"  # RFC 8187 §3.2.1
)


@given(st.text(min_size=1, max_size=40) | st.text("\"\\/\r\n\0;'%* a", min_size=1, max_size=10))
@example("a\r\nSet-Cookie: x=1")
@example('"; filename="evil.exe')
@example("../../etc/passwd")
@example("\\\\host\\share")
@example("%41.csv")
def test_a_reader_of_rfc_8187_gets_the_safe_name_and_no_head_is_broken(filename: str) -> None:
    name, value = content_disposition(filename)
    assert name == b"content-disposition"
    match = VALUE.fullmatch(value)
    assert match, value
    safe = safe_filename(filename)
    if match["encoded"] is None:
        assert match["plain"] == safe.encode()
    else:
        assert unquote_to_bytes(match["encoded"]) == safe.encode()
        assert len(match["plain"]) == len(safe)


@given(st.text(st.characters(exclude_categories=()), min_size=1, max_size=20))
def test_lone_surrogates_harm_nobody(filename: str) -> None:
    assert VALUE.fullmatch(content_disposition(filename)[1])
