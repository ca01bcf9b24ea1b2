"""Run the command line many times, in processes forked from one that has imported it: `python -m tests.starts`.

Standard input is a JSON list of argument lists; for each comes a JSON line of exit status, output and error output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import IO

from asgi_export.cli import main
from tests.conformance.servers import ENVIRONMENT, ROOT


def starts(several: Sequence[Sequence[str]]) -> list[subprocess.CompletedProcess[str]]:
    """What came of `asgi-export` with each of these arguments."""
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, input=json.dumps(several), stdout=subprocess.PIPE, text=True, check=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [subprocess.CompletedProcess(given, *ended) for given, ended in zip(several, found, strict=True)]


def _start(arguments: Sequence[str]) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if not child:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            _end(arguments)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), _read(output), _read(errors)


def _end(arguments: Sequence[str]) -> None:
    """Leave the process as the interpreter does."""
    status = 1
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


if __name__ == "__main__":
    for given in json.load(sys.stdin):
        sys.stdout.write(json.dumps(_start(given)) + "\n")
        sys.stdout.flush()
