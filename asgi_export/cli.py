"""`asgi-export`: the command line."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from asgi_export import __version__
from asgi_export.access.key_file import KeyFile
from asgi_export.access.plans import digest_of, new_key
from asgi_export.app import PREFIX
from asgi_export.errors import StartupError
from asgi_export.export.parameters import shown
from asgi_export.middleware.metrics import MULTIPROCESS, expect_folder
from asgi_export.settings import SERVERS, TABLE, Settings, environment_of, load_settings
from asgi_export.table import Dataset

MAX_LISTED = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 after a clean end, 2 for what the operator must change."""
    flags = vars(parser().parse_args(arguments))
    run: Callable[[dict[str, Any]], int] = flags.pop("run")
    try:
        return run(flags)
    except StartupError as error:
        print("asgi-export:", *str(error).splitlines(), file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Build the parser of the arguments from the table of settings."""
    top = argparse.ArgumentParser(prog="asgi-export", description="Stream tables as CSV over HTTP.")
    top.add_argument("--version", action="version", version=f"asgi-export {__version__}")
    commands = top.add_subparsers(required=True, metavar="serve|key")
    serving = commands.add_parser("serve", help="serve tables over HTTP", description="Serve tables over HTTP.")
    serving.add_argument("sources", nargs="*", metavar="SOURCE", help="NAME=LOCATION or a location, such as shop.db")
    for setting in TABLE:
        if setting.flag:
            flag = f"--{setting.name.replace('_', '-')}"
            serving.add_argument(
                flag,
                metavar="|".join(SERVERS) if setting.name == "server" else None,
                help=f"{setting.meaning}: {setting.expected}",
            )
    serving.add_argument("--config", metavar="FILE.toml", help="settings as a TOML file")
    serving.set_defaults(run=serve)
    keys = commands.add_parser("key", help="make API keys").add_subparsers(required=True, metavar="new|hash")
    new = keys.add_parser("new", help="print a fresh key once, and the lines for the key file")
    new.add_argument("--plan", required=True, help="a plan of the key file")
    new.add_argument("--owner", default="NAME", help="the owner's name, as logs show it")
    new.set_defaults(run=print_new_key)
    hashing = keys.add_parser("hash", help="read a key from standard input, print its digest")
    hashing.set_defaults(run=print_digest)
    return top


def print_new_key(flags: dict[str, Any]) -> int:
    """Print a new key, which is stored nowhere, and its entry for the key file."""
    key = new_key()
    print(f"# the key, shown this once:\n#   {key}\n")
    print(f'[keys."{flags["owner"]}"]\nsha256 = "{digest_of(key).hex()}"\nplan = "{flags["plan"]}"')
    return 0


def print_digest(_flags: dict[str, Any]) -> int:
    """Print the digest of the first line of standard input."""
    key = sys.stdin.readline().rstrip("\r\n")
    if not key:
        raise StartupError("no key on standard input; expected one line")
    print(digest_of(key).hex())
    return 0


def serve(flags: dict[str, Any]) -> int:
    """Check the settings and the sources, bind the port, and run the server until a signal ends it."""
    settings = load_settings(flags, os.environ)
    os.environ.update(environment_of(flags))  # `service.app` reads these, here and in workers
    from asgi_export.serving.listening import bind
    from asgi_export.serving.process import find_server, serve_alone, serve_as_worker
    from asgi_export.serving.signals import hold_signals
    from asgi_export.serving.supervisor import Supervisor

    find_server(settings)
    datasets = asyncio.run(look(settings))
    listening = bind(settings)
    hold_signals()
    print(banner(settings, listening, datasets), flush=True)
    if settings.workers == 1:
        return serve_alone(settings, listening)
    with TemporaryDirectory(prefix="asgi-export-") as shared:
        os.environ.setdefault(MULTIPROCESS, shared)  # where workers leave their metrics
        return Supervisor(
            serve_as_worker, listening, count=settings.workers, drain_seconds=settings.drain_seconds
        ).run()


async def look(settings: Settings) -> Sequence[Dataset]:
    """Open the sources once, before any process is started; return the datasets. Raises `StartupError`."""
    from asgi_export.service import make_export_app, make_store, make_tokens

    tokens = make_tokens(settings, KeyFile(Path(settings.api_keys)) if settings.api_keys else None)
    if tokens is not None:
        await tokens.start()
    if settings.metrics:
        expect_folder()
    await make_store(settings).close()
    app = make_export_app(settings)
    logging.disable(logging.WARNING)  # the server starts the sources again, and they log the same then
    try:
        await app.start()
        return app.datasets
    finally:
        logging.disable(logging.NOTSET)
        await app.stop()


def banner(settings: Settings, listening: socket.socket, datasets: Sequence[Dataset]) -> str:
    """Build what `serve` prints: the address, the datasets, and a curl line that works."""
    host, port = listening.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(address, address)  # noqa: S104 - compared, not bound
    names = [f"  {shown(found.name)} ({len(found.columns)} columns)" for found in datasets[:MAX_LISTED]]
    if len(datasets) > MAX_LISTED:
        names.append(f"  and {len(datasets) - MAX_LISTED} more, see {PREFIX}/")
    asking = '-H "X-API-Key: $KEY" ' if settings.api_keys else ""
    if settings.jwt_keys or settings.jwt_secret:
        asking = '-H "Authorization: Bearer $TOKEN" '
    if not asking:
        names.append("  no --api-keys or --jwt-keys: every client that reaches the port may read everything")
    query = f"dataset={quote(datasets[0].name, safe='')}"
    return "\n".join(
        [
            f"asgi-export {__version__} on http://{address}:{port} ({settings.server})",
            *names,
            f"  curl -fo export.csv {asking}'http://{here}:{port}{PREFIX}/csv?{query}'",
        ]
    )
