"""`asgi-export serve`: the command line, and the only room that names a server."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from asgi_export import __version__
from asgi_export.access.key_file import KeyFile
from asgi_export.access.plans import digest_of, new_key
from asgi_export.app import PREFIX
from asgi_export.dataset import Dataset
from asgi_export.errors import StartupError
from asgi_export.middleware.metrics import MULTIPROCESS
from asgi_export.parameters import shown
from asgi_export.settings import SERVERS, TABLE, Settings, environment_of, load_settings

APPLICATION = "asgi_export.service:app"
BACKLOG = 2048
CLOSE_SECONDS = 2.0
"""What closing connections may take after the exports have been broken off."""

UNREAD_SECONDS = 5.0
"""How long after `stall_seconds` the system gives up a connection: later than the export, which says why it ends."""

UNSENT_BYTES = 128 * 1024
"""Two chunks; a download over loopback takes as long as without it."""

UNREAD_BYTES = 16 * 1024
"""What a server gets at once of a request: h11 parses 256 KiB of one-byte chunks for seconds; nobody else runs."""

MAX_LISTED = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 after a clean end, 2 for what the operator must change."""
    flags = vars(parser().parse_args(arguments))
    run: Callable[[dict[str, Any]], int] = flags.pop("run")
    try:
        return run(flags)
    except StartupError as error:
        print("asgi-export:", *str(error).splitlines(), file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The arguments, made of the table of settings."""
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
    """Print a key that is stored nowhere, and what the key file needs to know it."""
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
    os.environ.update(environment_of(flags))  # what `service.app` is made of, here and in workers
    run = _SERVERS[settings.server](settings)
    datasets = asyncio.run(look(settings))
    listening = bind(settings)
    print(banner(settings, listening, datasets), flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ended)
    if settings.workers == 1:
        return run(listening)
    with TemporaryDirectory(prefix="asgi-export-") as shared:
        os.environ.setdefault(MULTIPROCESS, shared)  # where workers leave their metrics
        return run(listening)


def _ended(*_: object) -> None:
    """Servers raise the signal again when they have ended; the end is clean then, so this does nothing."""


async def look(settings: Settings) -> Sequence[Dataset]:
    """Open the sources once, before any process is started: the datasets. Raises `StartupError`."""
    from asgi_export.service import make_export_app, make_store

    if settings.api_keys:
        KeyFile(Path(settings.api_keys))
    await make_store(settings).close()
    app = make_export_app(settings)
    try:
        await app.start()
        return app.datasets
    finally:
        await app.stop()


def bind(settings: Settings) -> socket.socket:
    """A listening socket. Raises `StartupError` where the port is taken or the address is not ours."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            _bound_connections(listening, settings)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        raise StartupError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    listening.set_inheritable(True)
    return listening


def _bound_connections(listening: socket.socket, settings: Settings) -> None:
    """What its connections inherit: they end when nothing is taken from them, and hold little that is in transit.

    Servers keep a connection whose client reads nothing for ever. Linux takes up to 4 MB from an export for a slow
    client, and room for more only when a third of that has gone: a client that reads 20 KB/s would seem to stall.
    """
    unread_ms = round((settings.stall_seconds + UNREAD_SECONDS) * 1000)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread_ms)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)


def banner(settings: Settings, listening: socket.socket, datasets: Sequence[Dataset]) -> str:
    """What `serve` prints: the address, the datasets, and a curl line that works."""
    host, port = listening.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(address, address)  # noqa: S104 - compared, not bound
    names = [f"  {shown(found.name)} ({len(found.columns)} columns)" for found in datasets[:MAX_LISTED]]
    if len(datasets) > MAX_LISTED:
        names.append(f"  and {len(datasets) - MAX_LISTED} more, see {PREFIX}/")
    asking = '-H "X-API-Key: $KEY" ' if settings.api_keys else ""
    if not settings.api_keys:
        names.append("  no --api-keys: whoever reaches the port may read all of it")
    query = f"dataset={quote(datasets[0].name, safe='')}"
    return "\n".join(
        [
            f"asgi-export {__version__} on http://{address}:{port} ({settings.server})",
            *names,
            f"  curl -fo export.csv {asking}'http://{here}:{port}{PREFIX}/csv?{query}'",
        ]
    )


Run = Callable[[socket.socket], int]


def uvicorn_server(settings: Settings) -> Run:
    """uvicorn: the core's own server."""
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    config = uvicorn.Config(
        APPLICATION,
        workers=settings.workers,
        http="h11",  # httptools sends chunks to HTTP/1.0 clients; exports are as fast. RFC 9112 §6.1
        lifespan="on",
        ws="none",
        log_level="warning",
        access_log=False,  # ours has the rows and the ending, and no query string
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        h11_max_incomplete_event_size=_head_bytes(settings),
    )

    supervise: Any = Multiprocess
    if "target" in signature(Multiprocess).parameters:  # older versions
        supervise = partial(supervise, target=uvicorn.Server(config).run)

    def run(listening: socket.socket) -> int:
        server = uvicorn.Server(config)
        if settings.workers > 1:
            supervise(config, sockets=[listening]).run()
            return 0
        server.run(sockets=[listening])
        return 0 if server.started else 1

    return run


def _head_bytes(settings: Settings) -> int:
    """What a server must let through, so that a longer head gets our answer and not its own."""
    return settings.max_header_bytes + settings.max_query_bytes + 4096


def hypercorn_server(settings: Settings) -> Run:
    """Hypercorn, from the extra of that name. Raises `StartupError` where it is not installed."""
    try:
        from hypercorn.config import Config
        from hypercorn.run import run as run_hypercorn
    except ImportError:
        raise StartupError("--server hypercorn: not installed; pip install 'asgi-export[hypercorn]'") from None

    def run(listening: socket.socket) -> int:
        config = Config()
        config.application_path = APPLICATION
        config.bind = [f"fd://{listening.detach()}"]
        config.backlog = BACKLOG
        config.workers = settings.workers
        config.graceful_timeout = settings.drain_seconds
        config.h11_max_incomplete_size = _head_bytes(settings)
        config.loglevel = "WARNING"
        if settings.workers > 1:
            return run_hypercorn(config)
        asyncio.run(_serve_by_hypercorn(config, settings))
        return 0

    return run


async def _serve_by_hypercorn(config: Any, settings: Settings) -> None:
    """Serve until a signal; then break the exports off ourselves, since Hypercorn may wait for them for ever.

    Where a client reads nothing, Hypercorn waits for its connection even so: then the process ends with the
    sources closed and that connection open.
    """
    from hypercorn.asyncio import serve as serve_by_hypercorn

    from asgi_export.service import make_export_app, make_service, make_store

    store = make_store(settings)
    exports = make_export_app(settings, store)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    app: Any = make_service(settings, exports, store)
    serving = asyncio.ensure_future(serve_by_hypercorn(app, config, shutdown_trigger=stop.wait))
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():  # connections of HTTP/2 that Hypercorn cuts down fail in its own hands, each with a traceback
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    await asyncio.wait({serving}, timeout=settings.drain_seconds)
    await exports.stop()
    await asyncio.wait({serving}, timeout=CLOSE_SECONDS)
    stopped.cancel()
    if not serving.done():
        logging.shutdown()
        os._exit(0)
    if not stop.is_set():
        await serving  # the start failed
    elif error := serving.exception():
        logging.getLogger("asgi_export").debug("Hypercorn's own end failed", exc_info=error)


_SERVERS: dict[str, Callable[[Settings], Run]] = {"uvicorn": uvicorn_server, "hypercorn": hypercorn_server}
