"""One export as a value: the request, parsed and permitted, before anything is opened."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from asgi_export.access.identity import IDENTITY, Identity, access_of
from asgi_export.access.plans import AccessPlan
from asgi_export.asgi.coding import CODINGS
from asgi_export.asgi.context import Key, RequestContext
from asgi_export.asgi.disposition import content_disposition
from asgi_export.asgi.message import HTTPResponseStartEvent, head
from asgi_export.asgi.negotiate import UNCODED, choose_coding
from asgi_export.asgi.problem import common_headers
from asgi_export.asgi.request import ACCEPT_ENCODING
from asgi_export.errors import BadRequest, Forbidden
from asgi_export.export.catalogue import Datasets, listed_columns, readable
from asgi_export.export.filters import check_sort, read_filters
from asgi_export.export.parameters import Parameters, shown
from asgi_export.export.queries import read_arguments
from asgi_export.export.row_rights import row_filters
from asgi_export.formats import Format
from asgi_export.table import Column, Dataset, Dialect, Selection, depends_on_caller


@dataclass(frozen=True, slots=True)
class Export:
    """One export: a selection of a dataset, its format, dialect and content coding, and whose it is.

    `access` has the bounds of this export; `identity` is None if requests are not authenticated.
    """

    dataset: Dataset
    columns: tuple[Column, ...]
    selection: Selection
    format: Format
    dialect: Dialect
    coding: str
    filename: str
    access: AccessPlan
    identity: Identity | None
    request_id: str

    def head(self) -> HTTPResponseStartEvent:
        """Build the head of its 200."""
        headers = [
            (b"content-type", self.format.media_type.encode()),
            content_disposition(self.filename),
            *common_headers(self.request_id),
            (b"x-accel-buffering", b"no"),  # else nginx buffers the whole body on disk
        ]
        if self.coding != UNCODED:
            headers.append((b"content-encoding", self.coding.encode()))
        return head(200, headers)

    def fingerprint(self) -> str:
        """Return a stable text, equal for two exports if and only if the same snapshot gives the same bytes.

        It has the dataset, columns, filters, sort, arguments, row limit and format, and the dialect if the format has
        one; it has neither file name nor content coding. The caller (id, plan, claims) is in it if the rows may
        depend on it, as those of a function that takes the selection.
        """
        asked: dict[str, object] = {
            "dataset": self.dataset.name,
            "columns": self.selection.columns,
            "limit": self.selection.limit,
            "filters": [[found.column, found.operator, repr(found.value)] for found in self.selection.filters],
            "arguments": {name: repr(value) for name, value in self.selection.arguments.items()},
            "sort": [[found.column, found.descending] for found in self.selection.sort],
            "format": self.format.name,
        }
        if self.format.delimited:
            asked["dialect"] = asdict(self.dialect)
        caller = self.selection.caller
        if caller is not None and depends_on_caller(self.dataset):
            asked["caller"] = {"id": caller.id, "plan": caller.plan, "claims": dict(caller.claims)}
        return json.dumps(asked, sort_keys=True, separators=(",", ":"), default=repr)


EXPORT: Key[Export] = Key("export")
"""Set when the export is planned, also for a HEAD."""


def plan_export(catalogue: Datasets, parameters: Parameters, found: Format, context: RequestContext) -> Export:
    """Plan the export of these parameters. Raises `NotFound`, `Forbidden` and `BadRequest`."""
    identity = context.get(IDENTITY)
    caller = identity.caller if identity else None
    access = catalogue.bounded(access_of(identity))
    dataset = catalogue.dataset(parameters.dataset, access)
    columns = _pick(dataset, parameters.columns, access, catalogue.bounds.max_columns)
    dialect = _dialect(parameters, found)
    return Export(
        dataset=dataset,
        columns=columns,
        selection=Selection(
            columns=tuple([column.name for column in columns]),
            limit=_limit(dataset, parameters.total, access),
            dialect=dialect if found.delimited else None,
            filters=(
                *row_filters(dataset, access, caller),
                *read_filters(parameters.filters, dataset, access, catalogue.bounds.max_filters),
            ),
            sort=check_sort(parameters.sort, dataset, access),
            arguments=read_arguments(parameters.arguments, dataset),
            caller=caller,
        ),
        format=found,
        dialect=dialect,
        coding=choose_coding(context.request.header(ACCEPT_ENCODING) or "", list(CODINGS), useful=found.compressible),
        filename=parameters.filename or f"export.{found.name}",
        access=access,
        identity=identity,
        request_id=context.request_id,
    )


def _dialect(parameters: Parameters, found: Format) -> Dialect:
    return Dialect(
        delimiter=_delimiter(parameters, found),
        header=parameters.header,
        quote=parameters.quote,
        null=parameters.null,
        newline=parameters.newline,
        bom=parameters.bom,
        escape_formulas=parameters.escape_formulas,
    )


def _delimiter(parameters: Parameters, found: Format) -> str:
    if found.name == "tsv" and parameters.delimiter not in ("", "\t"):
        raise BadRequest(f"delimiter={shown(parameters.delimiter)}: expected tab, as tsv has no other; or take csv")
    return parameters.delimiter or found.delimiter or ","


def _limit(dataset: Dataset, total: int | None, access: AccessPlan) -> int | None:
    """Return how many rows to read: at most one more than the plan allows, which breaks the export off."""
    limit = dataset.default_limit if total is None else total
    if access.max_rows is None:
        return limit
    if total is not None and total > access.max_rows:
        raise Forbidden(f"total={total}: an export may have {access.max_rows} rows at most")
    return access.max_rows + 1 if limit is None else min(limit, access.max_rows + 1)


def _pick(dataset: Dataset, names: Sequence[str], access: AccessPlan, most: int) -> tuple[Column, ...]:
    """Find the columns of these names, in order; without names, all that `access` may read."""
    there = {column.name: column for column in dataset.columns}
    allowed = {column.name: column for column in readable(dataset, access)}
    if not allowed:
        raise Forbidden(f"this key may not read any column of {shown(dataset.name)}")
    if len(names or allowed) > most:
        raise BadRequest(f"columns: {len(names or allowed)} of them; expected at most {most}, asked for by name")
    if not names:
        return tuple(allowed.values())
    picked: dict[str, Column] = {}
    for name in names:
        if name not in there:
            raise BadRequest(f"columns={shown(name)}: unknown column; there are {listed_columns(allowed)}")
        if name not in allowed:
            raise Forbidden(f"columns={shown(name)}: this key may not read it; it may read {listed_columns(allowed)}")
        if name in picked:
            raise BadRequest(f"columns={shown(name)}: given twice; there are {listed_columns(allowed)}")
        picked[name] = allowed[name]
    return tuple(picked.values())
