"""Choose the statement of one export of PostgreSQL: COPY if it can write the dialect, else a portal of rows."""

from __future__ import annotations

from collections.abc import Sequence

from asgi_export.sources.postgres.catalogue import SQL_ASCII, ColumnForms, Form, Relation
from asgi_export.sources.postgres.conditions import ALIAS, order_by, where
from asgi_export.sources.postgres.cursor import CopyQuery, Query, RowsQuery
from asgi_export.table import Dialect, Selection

BIGINT_MAX = 2**63 - 1


def copy_can_write(dialect: Dialect) -> bool:
    """Return whether COPY writes this dialect. https://www.postgresql.org/docs/current/sql-copy.html"""
    delimiter, reserved = dialect.delimiter, '\r\n"\0'
    return (
        dialect.newline == "\n"
        and dialect.quote == "minimal"
        and not dialect.escape_formulas
        and len(delimiter) == 1
        and delimiter.isascii()
        and delimiter not in reserved
        and set(dialect.null).isdisjoint(reserved + delimiter)
    )


def query_for(relation: Relation, selection: Selection) -> Query:
    """Choose the statement of one export, and how to run it.

    Raises `KeyError` for a column that the relation does not have.
    """
    known = {forms.column.name: forms for forms in relation.columns}
    columns = [known[name] for name in selection.columns]
    dialect = selection.dialect
    tail = _tail(relation, selection)
    if dialect is None:
        return _rows_query([forms.value for forms in columns], tail)
    if _copies(relation, dialect) and len(columns) > 1:
        return CopyQuery(_select([forms.copied for forms in columns], tail), dialect)
    if _copies(relation, dialect) and not dialect.null:
        return CopyQuery(_select([_never_null(forms) for forms in columns], tail), dialect)
    return _rows_query([_text(forms, dialect) for forms in columns], tail)


def _copies(relation: Relation, dialect: Dialect) -> bool:
    """Return whether COPY writes this dialect here: the database's encoding may lack a character of the null text."""
    encoding = relation.server.encoding
    if encoding == SQL_ASCII:
        return False
    return copy_can_write(dialect) and (dialect.null.isascii() or encoding == "UTF8")


def _rows_query(forms: Sequence[Form], tail: str) -> RowsQuery:
    return RowsQuery(_select([form.sql for form in forms], tail), tuple(form.decode for form in forms))


def _select(expressions: Sequence[str], tail: str) -> str:
    return f"SELECT {', '.join(expressions)}{tail}"


def _tail(relation: Relation, selection: Selection) -> str:
    """Return what comes behind the columns of the SELECT."""
    alias = f" AS {ALIAS}" if selection.filters or selection.sort or relation.is_query else ""
    rows = where(relation, selection.filters) + order_by(relation, selection.sort)
    return f" FROM {relation.sql}{alias}{rows}{_limit(selection.limit)}"


def _limit(limit: int | None) -> str:
    return "" if limit is None else f" LIMIT {min(limit, BIGINT_MAX)}"


def _never_null(forms: ColumnForms) -> str:
    """Return the only column of a row: COPY would write a null as an empty line, which readers drop.

    An empty text it writes as `""`, but only where that is the null text; so another one is left to rows.
    """
    return f"coalesce({forms.text.sql}, '')"


def _text(forms: ColumnForms, dialect: Dialect) -> Form:
    """Choose the text of a value, or the value if it is a number and only text is escaped."""
    return forms.value if forms.number and dialect.escape_formulas else forms.text
