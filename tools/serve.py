#!/usr/bin/env python3
"""Serve runs over HTTP: a REST API and a web page where training is started, watched and compared.

    python tools/serve.py                          # the runs in runs/, at http://127.0.0.1:8765
    python tools/serve.py --root experiments --port 9000 --slots 2 --data /data/chats

Open the link that it prints: it logs the browser in. Scripts send the token, which also stands in ROOT/.server/token:

    curl -H "Authorization: Bearer $(cat runs/.server/token)" http://127.0.0.1:8765/api/training/jobs

The server owns nothing. A job that it starts is a process of its own, with its run directory; Ctrl-C, a crash or a
reboot of the server ends no job, and the next server on the same root goes on with them.

It listens on this machine alone (127.0.0.1). To reach it from another one: `ssh -L 8765:127.0.0.1:8765 HOST`. Another
--host is refused without --public-host, the name by which browsers call this machine: the server speaks plain
HTTP, so everybody on the way can read the token; put a proxy with TLS in front of it.

Exit code: 0 after Ctrl-C or SIGTERM, 2 for unusable input.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, check_directory, finish, path_given, whole_number
from tools.server.gate.state import (
    ServerState,
    announce,
    make_state,
    only_server,
    open_root,
    read_or_make_token,
    withdraw,
)
from training.errors import UserError
from training.language.messages import Message, say

if TYPE_CHECKING:
    import uvicorn

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8765
MOST_SLOTS = 1024
MOST_PORT = 65535
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|[0-9a-f:]{2,45}")


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--root", metavar="DIR", type=path_given, default=Path("runs"), help="directory of runs (default: runs)")
    add("--host", metavar="ADDRESS", default=DEFAULT_HOST, help="address to listen at (default: 127.0.0.1)")
    add("--port", metavar="N", default=str(DEFAULT_PORT), help="port (default: 8765; 0: any free one)")
    add("--slots", metavar="N", default="1", help="jobs at a time where there is no GPU (default: 1)")
    add(
        "--data",
        metavar="DIR",
        type=path_given,
        nargs="+",
        action="extend",
        help="directories of data sets (default: the checkout's data/ and ROOT/data)",
    )
    add(
        "--public-host",
        metavar="NAME",
        nargs="+",
        action="extend",
        default=[],
        help="names by which browsers call this machine, for a --host that others can reach",
    )
    return parser


def run(arguments: list[str]) -> int:
    """Serve until Ctrl-C and return the exit code.

    Raises:
        UserError: the root, the port or a flag cannot be used.
    """
    args = _parser().parse_args(arguments)
    if os.name == "nt":
        raise UserError("the server runs on Linux and macOS; on Windows, start it in WSL")
    port = whole_number("--port", args.port, 0, MOST_PORT)
    slots = whole_number("--slots", args.slots, 1, MOST_SLOTS)
    hosts = _public_hosts(args.host, args.public_host)
    import uvicorn  # noqa: F401  # a missing extra is said before anything is made

    root = open_root(args.root)
    data = _data_directories(root, args.data)
    with only_server(root) as lock, listen(args.host, port) as listener:
        state = make_state(
            root,
            token=read_or_make_token(root / ".server"),
            data_directories=data,
            host=args.host,
            port=listener.getsockname()[1],
            slots=slots,
            hosts=hosts,
        )

        def introduce() -> None:
            announce(state, lock)
            _introduce(state, is_public=args.host not in _LOOPBACK)

        try:
            make_server(state, introduce).run(sockets=[listener])
            running, waiting = _jobs_of(state)
        finally:
            withdraw(state)
            state.close()
    say(
        Message(
            "ended   {running} running jobs go on by themselves; {waiting} wait for the next server on {root}",
            running=running,
            waiting=waiting,
            root=args.root,
        )
    )
    return 0


def make_server(state: ServerState, when_started: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """Return a server that answers requests until SIGINT, SIGTERM or SIGHUP.

    Args:
        state: what it serves.
        when_started: called when it answers.
    """
    import uvicorn

    from tools.server.app import make_app
    from tools.server.gate.connections import EndingServer, protocol_within

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("uvicorn.error", "apt_trainer.server"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.ERROR)  # requests are not logged: an address may hold the token
    config = uvicorn.Config(
        make_app(state),
        http=protocol_within(state.limits),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # anybody could name a client in them
        server_header=False,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=state.limits.head_bytes,
    )
    return EndingServer(config, state.stopping, when_started)


def _public_hosts(host: str, names: list[str]) -> frozenset[str]:
    """Return the names by which the server may be called.

    Raises:
        UserError: it would be reachable by others, and nobody said by which name; or a name is none.
    """
    if host not in _LOOPBACK and not names:
        raise UserError(
            f"--host {host}: other machines could reach the server there, over plain HTTP; keep the default and use "
            f"`ssh -L {DEFAULT_PORT}:127.0.0.1:{DEFAULT_PORT}`, or name this machine with --public-host NAME"
        )
    found = {name.lower() for name in names}
    for name in found:
        if not _HOST_NAME.fullmatch(name):
            raise UserError(f"--public-host {name}: no name of a machine; give one without http:// and without a port")
    return frozenset(found)


def _data_directories(root: Path, given: list[Path] | None) -> tuple[Path, ...]:
    """Return the directories of data sets that there are.

    Raises:
        UserError: a directory that was named is not there.
    """
    if given is not None:
        for directory in given:
            check_directory(directory, "give a directory of data sets", "--data")
    wanted = given if given is not None else [one for one in (ROOT / "data", root / "data") if one.is_dir()]
    return tuple(dict.fromkeys(directory.resolve() for directory in wanted))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UserError: the address is not this machine's, or the port is taken or not this user's to take.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(512)
        except OSError:
            listener.close()
            raise
    except socket.gaierror as error:
        raise UserError(f"--host {host}: no address of this machine ({error.strerror}); use 127.0.0.1") from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--port {port}: cannot listen at {host}:{port} ({reason}); choose another port") from error
    return listener


def _jobs_of(state: ServerState) -> tuple[int, int]:
    """Return how many jobs are at work, and how many wait for a slot."""
    from training.experiments.jobs.states import JobState

    found = [job.state for job in state.queue.jobs()]
    at_work = (JobState.STARTING, JobState.RUNNING, JobState.STOPPING)
    return sum(one in at_work for one in found), found.count(JobState.QUEUED)


def _introduce(state: ServerState, is_public: bool) -> None:
    """Say what is served, and how to get in."""
    data = ", ".join(map(str, state.data_directories)) or "—"
    say(Message("runs    {root}", root=state.root))
    say(Message("data    {directories}", directories=data))
    if is_public:
        say(Message("warning the server speaks plain HTTP: whoever is on the way can read the token and all data"))
    say(Message("open    {link}", link=state.login_link))
    say(Message("stop    Ctrl-C ends the server; jobs that it started go on"))


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("serve", run)


if __name__ == "__main__":
    sys.exit(main())
