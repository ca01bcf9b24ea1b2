"""The settings of a service, from flags, environment and a TOML file; flags win over environment over file.

One table has every setting: its flag, its variable, its key in the file, and the parser of its text.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from asgi_export.addresses import redacted
from asgi_export.asgi.coding import GZIP_LEVEL, ZSTD_LEVEL
from asgi_export.asgi.pump import HEAD_AFTER_SECONDS, MAX_SECONDS, STALL_SECONDS
from asgi_export.asgi.request import MAX_HEADER_BYTES, MAX_QUERY_BYTES
from asgi_export.errors import StartupError
from asgi_export.export.catalogue import CATALOGUE_SECONDS, MAX_COLUMNS, MAX_FILTERS
from asgi_export.export.queries import QuerySetting, read_queries
from asgi_export.export.runner import MAX_EXPORTS
from asgi_export.limiter.memory_store import MAX_KEYS
from asgi_export.limiter.redis_leases import LEASE_SECONDS
from asgi_export.limiter.rules import parse_rules
from asgi_export.limiter.sliding_window import Rule
from asgi_export.middleware.cors import EXPECTED as ORIGINS
from asgi_export.middleware.cors import parse_origins
from asgi_export.redis_client.shared import BOUND_SECONDS, POLICIES, OnFailure
from asgi_export.toml_file import read_toml

SERVERS = ("uvicorn", "hypercorn")
STORE_SCHEMES = ("redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+sentinel://")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a service. A default that a class has too is the constant of that class."""

    sources: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 3000
    server: str = "uvicorn"
    workers: int = 1
    limit: tuple[Rule, ...] = field(default_factory=lambda: parse_rules("60/60s"))
    limiter: str = "memory"
    on_store_failure: OnFailure = "local"
    store_bound_seconds: float = BOUND_SECONDS
    instances: int = 0
    lease_seconds: float = LEASE_SECONDS
    api_keys: str = ""
    queries: tuple[QuerySetting, ...] = ()
    jwt_keys: str = ""
    jwt_secret: str = field(default="", repr=False)
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_caller_claim: str = "sub"
    jwt_plan_claim: str = "plan"
    jwt_default_plan: str | None = None
    role_claim: str = ""
    cors_origins: tuple[str, ...] = ()
    max_keys: int = MAX_KEYS
    max_exports: int = MAX_EXPORTS
    catalogue_seconds: float = CATALOGUE_SECONDS
    max_columns: int = MAX_COLUMNS
    max_filters: int = MAX_FILTERS
    max_rows: int | None = None
    max_bytes: int | None = None
    max_query_bytes: int = MAX_QUERY_BYTES
    max_header_bytes: int = MAX_HEADER_BYTES
    stall_seconds: float = STALL_SECONDS
    max_seconds: float = MAX_SECONDS
    head_after_seconds: float = HEAD_AFTER_SECONDS
    drain_seconds: float = 10.0
    gzip_level: int = GZIP_LEVEL
    zstd_level: int = ZSTD_LEVEL
    log_format: Literal["text", "json"] = "text"
    metrics: bool = True


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `parse` gets the text, or the value of the file as text."""

    name: str
    variable: str
    expected: str
    meaning: str
    parse: Callable[[str], Any]
    flag: bool = True


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not low <= int(text) <= high:
            raise ValueError(text)
        return int(text)

    return parse


def _text(text: str) -> str:
    """Refuse empty text: an unset variable in a command line must not mean every address, or no keys."""
    if not text.strip():
        raise ValueError(text)
    return text


def _seconds(text: str) -> float:
    if not 0 < float(text) <= 1e6:
        raise ValueError(text)
    return float(text)


def _switch(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _limiter(text: str) -> str:
    if text != "memory" and not text.startswith(STORE_SCHEMES):
        raise ValueError(text)
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    return {choice: choice for choice in choices}.__getitem__


_POLICIES = ", ".join(POLICIES)
_POSITIVE = "a whole number from 1"
_SECONDS = "a number of seconds above 0"
_MANY = _whole(1, 10**9)
_LEVEL = "a whole number from 1 (fast) to 9 (small)"

TABLE = (
    Setting("host", "ASGI_EXPORT_HOST", "an address", "address to listen on", _text),
    Setting("port", "PORT", "a port from 0 to 65535; 0 takes a free one", "port to listen on", _whole(0, 65535)),
    Setting("server", "ASGI_EXPORT_SERVER", " or ".join(SERVERS), "which ASGI server runs", _one_of(*SERVERS)),
    Setting("workers", "ASGI_EXPORT_WORKERS", "a whole number from 1 to 512", "processes", _whole(1, 512)),
    Setting("limit", "ASGI_EXPORT_LIMIT", "HITS/WINDOW such as 60/60s", "requests a key", parse_rules),
    Setting("limiter", "ASGI_EXPORT_LIMITER", "memory or redis://HOST:PORT/DB", "where limits are kept", _limiter),
    Setting("on_store_failure", "ASGI_EXPORT_ON_STORE_FAILURE", _POLICIES, "without Redis", _one_of(*POLICIES)),
    Setting(
        "store_bound_seconds", "ASGI_EXPORT_STORE_BOUND_SECONDS", _SECONDS, "a decision of Redis", _seconds, False
    ),
    Setting("instances", "ASGI_EXPORT_INSTANCES", _POSITIVE, "processes that share the limits", _MANY, False),
    Setting("lease_seconds", "ASGI_EXPORT_LEASE_SECONDS", _SECONDS, "exports of a killed process", _seconds, False),
    Setting("api_keys", "ASGI_EXPORT_API_KEYS", "a TOML file", "who may ask, and for what", _text),
    Setting("jwt_keys", "ASGI_EXPORT_JWT_KEYS", "a JSON Web Key Set: a file or http(s)://…", "keys of tokens", _text),
    Setting("jwt_secret", "ASGI_EXPORT_JWT_SECRET", "32 bytes at least", "secret of HS256 tokens", _text, False),
    Setting("jwt_issuer", "ASGI_EXPORT_JWT_ISSUER", "the iss of tokens", "who issues tokens", _text),
    Setting("jwt_audience", "ASGI_EXPORT_JWT_AUDIENCE", "the aud of tokens", "for whom tokens are", _text),
    Setting("jwt_caller_claim", "ASGI_EXPORT_JWT_CALLER_CLAIM", "a claim", "the caller's id", _text, False),
    Setting("jwt_plan_claim", "ASGI_EXPORT_JWT_PLAN_CLAIM", "a claim", "the caller's plan", _text, False),
    Setting("jwt_default_plan", "ASGI_EXPORT_JWT_DEFAULT_PLAN", "a plan", "of tokens that name none", _text, False),
    Setting("role_claim", "ASGI_EXPORT_ROLE_CLAIM", "a claim", "the caller's role in PostgreSQL", _text),
    Setting("cors_origins", "ASGI_EXPORT_CORS_ORIGINS", ORIGINS, "pages that may read the answers", parse_origins),
    Setting("max_keys", "ASGI_EXPORT_MAX_KEYS", _POSITIVE, "keys with a window of their own", _MANY, False),
    Setting("max_exports", "ASGI_EXPORT_MAX_EXPORTS", _POSITIVE, "exports at once in a process", _MANY, False),
    Setting("catalogue_seconds", "ASGI_EXPORT_CATALOGUE_SECONDS", _SECONDS, "age of a catalogue", _seconds, False),
    Setting("max_columns", "ASGI_EXPORT_MAX_COLUMNS", _POSITIVE, "columns of one export", _MANY, False),
    Setting("max_filters", "ASGI_EXPORT_MAX_FILTERS", _POSITIVE, "filters of one export", _MANY, False),
    Setting("max_rows", "ASGI_EXPORT_MAX_ROWS", _POSITIVE, "rows of one export", _whole(1, 10**18), False),
    Setting("max_bytes", "ASGI_EXPORT_MAX_BYTES", _POSITIVE, "bytes of one export", _whole(1, 10**18), False),
    Setting("max_query_bytes", "ASGI_EXPORT_MAX_QUERY_BYTES", _POSITIVE, "query string", _MANY, False),
    Setting("max_header_bytes", "ASGI_EXPORT_MAX_HEADER_BYTES", _POSITIVE, "header fields", _MANY, False),
    Setting("stall_seconds", "ASGI_EXPORT_STALL_SECONDS", _SECONDS, "a client that reads nothing", _seconds),
    Setting("max_seconds", "ASGI_EXPORT_MAX_SECONDS", _SECONDS, "one export", _seconds),
    Setting("head_after_seconds", "ASGI_EXPORT_HEAD_AFTER_SECONDS", _SECONDS, "until the head", _seconds, False),
    Setting("gzip_level", "ASGI_EXPORT_GZIP_LEVEL", _LEVEL, "how hard gzip tries", _whole(1, 9), False),
    Setting("zstd_level", "ASGI_EXPORT_ZSTD_LEVEL", _LEVEL, "how hard zstd tries", _whole(1, 9), False),
    Setting(
        "log_format", "ASGI_EXPORT_LOG_FORMAT", "text or json", "how log lines are written", _one_of("text", "json")
    ),
    Setting("metrics", "ASGI_EXPORT_METRICS", "true or false", "whether /metrics is served", _switch, False),
    Setting("drain_seconds", "ASGI_EXPORT_DRAIN_SECONDS", _SECONDS, "running exports at the end", _seconds),
)


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Load the settings from flags (by name, None if not given), environment and `config` file.

    Raises `StartupError`: one line with the setting, its value and what was expected.
    """
    config = flags.get("config")
    if config is None:
        config = environ.get("ASGI_EXPORT_CONFIG") or None
    values: dict[str, Any] = {} if config is None else dict(_from_file(Path(config)))
    sources = environ.get("ASGI_EXPORT_SOURCES")
    if sources:
        values["sources"] = _split(sources)
    for setting in TABLE:
        text = environ.get(setting.variable)
        if text:
            values[setting.name] = _read(setting, setting.variable, text)
        text = flags.get(setting.name)
        if text is not None:
            values[setting.name] = _read(setting, f"--{setting.name.replace('_', '-')}", text)
    if flags.get("sources"):
        values["sources"] = tuple(flags["sources"])
    return check_settings(Settings(**values))


def check_settings(settings: Settings) -> Settings:
    """Return the settings. Raises `StartupError` for settings that exclude each other."""
    if settings.workers > 1 and settings.limiter == "memory":
        raise StartupError(
            f"--workers {settings.workers}: each process would count its own requests, so that a key could pass"
            f" {settings.workers} times its limit; expected one worker, or one store for all of them:"
            " --limiter redis://HOST:PORT/DB"
        )
    return settings


def environment_of(settings_flags: Mapping[str, Any]) -> dict[str, str]:
    """Convert flags to the same variables, for worker processes, which read only the environment."""
    variables = {setting.variable: settings_flags.get(setting.name) for setting in TABLE}
    variables["ASGI_EXPORT_CONFIG"] = settings_flags.get("config")
    if settings_flags.get("sources"):
        variables["ASGI_EXPORT_SOURCES"] = shlex.join(settings_flags["sources"])
    return {name: str(value) for name, value in variables.items() if value is not None}


def _split(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise StartupError(
            f"ASGI_EXPORT_SOURCES={redacted(text)}: {error}; expected locations with blanks between"
        ) from None


def _read(setting: Setting, label: str, text: str) -> Any:
    try:
        return setting.parse(text)
    except (ValueError, KeyError, OverflowError):
        raise StartupError(f"{label}={redacted(text)}: expected {setting.expected}") from None


def _from_file(path: Path) -> Sequence[tuple[str, Any]]:
    document = read_toml(path)
    table = {setting.name: setting for setting in TABLE}
    unknown = document.keys() - {found.name for found in fields(Settings)}
    if unknown:
        raise StartupError(f"{path}: unknown setting {min(unknown)!r}; expected {', '.join([*_FILE_ONLY, *table])}")
    return [(name, _file_value(path, table.get(name), name, value)) for name, value in document.items()]


def _file_value(path: Path, setting: Setting | None, name: str, value: Any) -> Any:
    if setting is not None:
        return _read(setting, f"{path}: {name}", str(value))
    try:
        return _FILE_ONLY[name](value)
    except ValueError as error:
        raise StartupError(f"{path}: {error}") from None


def _locations(value: Any) -> tuple[str, ...]:
    locations = [value] if isinstance(value, str) else value
    if not isinstance(locations, list) or not all(isinstance(location, str) for location in locations):
        raise ValueError("sources: expected a list of locations")
    return tuple(locations)


_FILE_ONLY: Mapping[str, Callable[[Any], Any]] = {"sources": _locations, "queries": read_queries}
"""Settings of the file that are no single value."""
