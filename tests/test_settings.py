"""One table of settings, three places to say them."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_export.errors import StartupError
from asgi_export.settings import TABLE, Setting, Settings, environment_of, load_settings

EXAMPLES = {
    "host": "0.0.0.0",
    "port": "0",
    "server": "hypercorn",
    "workers": "1",
    "limit": "7/60s",
    "limiter": "redis://cache:6379/0",
    "on_store_failure": "deny",
    "store_bound_seconds": "0.5",
    "instances": "3",
    "lease_seconds": "2.5",
    "api_keys": "keys.toml",
    "jwt_keys": "https://id.example/jwks.json",
    "jwt_secret": "a secret of thirty-two bytes, or more",
    "jwt_issuer": "https://id.example/",
    "jwt_audience": "exports",
    "jwt_caller_claim": "email",
    "jwt_plan_claim": "https://app.example/plan",
    "jwt_default_plan": "basic",
    "role_claim": "role",
    "cors_origins": "https://app.example,http://localhost:5173",
    "max_keys": "10",
    "max_exports": "2",
    "catalogue_seconds": "5",
    "max_columns": "7",
    "max_filters": "9",
    "max_rows": "1000000",
    "max_bytes": "1000000000",
    "max_query_bytes": "100",
    "max_header_bytes": "1000",
    "stall_seconds": "1.5",
    "max_seconds": "10",
    "head_after_seconds": "3",
    "gzip_level": "9",
    "zstd_level": "4",
    "log_format": "json",
    "metrics": "false",
    "drain_seconds": "3",
}


def test_nothing_said_is_the_defaults() -> None:
    assert load_settings({}, {}) == Settings()
    assert load_settings(dict.fromkeys(EXAMPLES), dict.fromkeys([setting.variable for setting in TABLE], "")) == (
        Settings()
    )


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_every_setting_can_be_said_everywhere_and_means_the_same(setting: Setting, tmp_path: Path) -> None:
    name, variable = setting.name, setting.variable
    text = EXAMPLES[name]
    (tmp_path / "config.toml").write_text(f'{name} = "{text}"\n')
    by_flag = load_settings({name: text}, {})
    assert getattr(by_flag, name) != getattr(Settings(), name) or name == "workers"
    assert load_settings({}, {variable: text}) == by_flag
    assert load_settings({"config": str(tmp_path / "config.toml")}, {}) == by_flag
    assert load_settings({}, environment_of({name: text})) == by_flag


def test_flags_win_over_environment_and_environment_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('port = 1\nlimit = "1/1s"\nmax_seconds = 1\nsources = ["a.db"]\n')
    environ = {"ASGI_EXPORT_CONFIG": str(config), "ASGI_EXPORT_LIMIT": "2/1s", "PORT": "2"}
    found = load_settings({"port": "3"}, environ)
    assert (found.port, found.limit[0].limit, found.max_seconds, found.sources) == (3, 2, 1.0, ("a.db",))
    assert load_settings({}, {**environ, "ASGI_EXPORT_SOURCES": "b.db"}).sources == ("b.db",)
    assert load_settings({}, {**environ, "ASGI_EXPORT_SOURCES": ""}).sources == ("a.db",)
    assert load_settings({"sources": ["c.db"]}, {**environ, "ASGI_EXPORT_SOURCES": "b.db"}).sources == ("c.db",)


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("a.db b.db", ("a.db", "b.db")),
        ("  a.db\t\nb.db ", ("a.db", "b.db")),
        ("'my shop.db' x=my\\ shop.db", ("my shop.db", "x=my shop.db")),
        ("\"a 'b'.db\"", ("a 'b'.db",)),
        ("postgresql://me:p%20w@host/db?sslmode=require", ("postgresql://me:p%20w@host/db?sslmode=require",)),
    ],
)
def test_sources_are_blank_separated_and_may_be_quoted(text: str, sources: tuple[str, ...]) -> None:
    assert load_settings({}, {"ASGI_EXPORT_SOURCES": text}).sources == sources
    assert load_settings({}, environment_of({"sources": list(sources)})).sources == sources


def test_a_quote_that_is_not_closed_is_one_line() -> None:
    with pytest.raises(StartupError, match="No closing quotation"):
        load_settings({}, {"ASGI_EXPORT_SOURCES": "'a.db"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("host", ""),
        ("api_keys", ""),
        ("api_keys", " "),
        ("jwt_keys", ""),
        ("jwt_secret", " "),
        ("jwt_issuer", ""),
        ("jwt_default_plan", ""),
        ("port", "-1"),
        ("port", "65536"),
        ("port", "http"),
        ("port", "3000.0"),
        ("port", ""),
        ("workers", "0"),
        ("workers", "513"),
        ("limit", ""),
        ("limit", "60"),
        ("limit", "60/0s"),
        ("limit", "60/60s,61/60s"),
        ("limiter", "memcached://x"),
        ("server", "Uvicorn"),
        ("stall_seconds", "0"),
        ("stall_seconds", "-1"),
        ("stall_seconds", "nan"),
        ("stall_seconds", "inf"),
        ("max_seconds", "1e9"),
        ("drain_seconds", "ten"),
        ("max_columns", "0"),
        ("max_filters", "0"),
        ("max_rows", "-1"),
        ("max_rows", "none"),
        ("max_bytes", "1e9"),
        ("on_store_failure", "panic"),
        ("gzip_level", "0"),
        ("gzip_level", "10"),
        ("zstd_level", "-1"),
        ("zstd_level", "fast"),
        ("port", "9" * 5000),
    ],
)
def test_a_value_out_of_its_range_names_the_flag_the_value_and_what_was_expected(name: str, text: str) -> None:
    with pytest.raises(StartupError) as raised:
        load_settings({name: text}, {})
    expected = next(setting.expected for setting in TABLE if setting.name == name)
    assert str(raised.value) == f"--{name.replace('_', '-')}={text}: expected {expected}"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("port = ", "not TOML"),
        ("\udcff", "not TOML"),
        ("prot = 1", "unknown setting 'prot'; expected sources, queries, host, port"),
        ("[sources]\nx = 1", "sources: expected a list of locations"),
        ("sources = [1]", "sources: expected a list of locations"),
        ("port = true", "port=True: expected a port"),
        ('limit = ["1/1s"]', "expected HITS/WINDOW"),
        ("api_keys = ''", "expected a TOML file"),
    ],
)
def test_a_bad_file_is_one_line_with_its_path(tmp_path: Path, document: str, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(document, errors="surrogateescape")
    with pytest.raises(StartupError) as raised:
        load_settings({}, {"ASGI_EXPORT_CONFIG": str(path)})
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("config", ["", "nope.toml", "."])
def test_a_file_that_cannot_be_read_is_one_line(config: str) -> None:
    """An empty name as well: it comes from a variable that is not set, and would drop every setting."""
    with pytest.raises(StartupError, match=r"No such file|Is a directory"):
        load_settings({"config": config}, {})


def test_several_workers_need_one_store_for_all() -> None:
    with pytest.raises(StartupError, match="--limiter redis://HOST:PORT/DB") as raised:
        load_settings({"workers": "4"}, {})
    assert "4 times its limit" in str(raised.value)
    assert load_settings({"workers": "4", "limiter": "redis://cache/0"}, {}).workers == 4
