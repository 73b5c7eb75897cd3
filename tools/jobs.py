#!/usr/bin/env python3
"""Jobs of a running server (tools/serve.py) from the terminal: submitted, listed, watched, stopped, resumed.

    python tools/jobs.py submit --name first --dataset HLBD_Full_V2.json d_model=64 epochs=3
    python tools/jobs.py list
    python tools/jobs.py watch first               # by its name or its id; ends when the job does
    python tools/jobs.py stop first
    python tools/jobs.py resume first
    python tools/jobs.py resume first --checkpoint checkpoint_step_40
    python tools/jobs.py logs first --follow

The server of --root is found by the files that it has written there; another one by --url and --token. Ctrl-C ends
watching, never the job. A server that is started again is found again.

Exit code: 0 (watch, submit --watch: the job has finished), 1 if the job that was watched failed, was stopped or lost,
and 2 for unusable input.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, finish, number_between, path_given, print_any_character, whole_number
from training.errors import UserError, printable, printable_text
from training.language.messages import Message, say, translated
from training.machine.units import as_duration

if TYPE_CHECKING:
    from tools.server.client import ServerClient, ServerEvent

DEFAULT_ROOT = Path("runs")
DEFAULT_PATIENCE = 300.0
ATTEMPTS_TO_SUBMIT = 5
SECONDS_BETWEEN_LOGS = 0.5
SECONDS_BETWEEN_STEPS = 1.0
"""Time of a run between two updates that are shown."""
LOG_BYTES = 256 * 1024
MOST_PRIORITY = 1000
MOST_LISTED = 1000


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--root", metavar="DIR", type=path_given, default=DEFAULT_ROOT, help="the server's directory of runs [runs]")
    add("--url", metavar="URL", help="address of the server, such as http://127.0.0.1:8765")
    add("--token", metavar="TOKEN", help="the server's secret; default: ROOT/.server/token")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        options: dict[str, Any] = {"text": text, "is_part": True}
        return commands.add_parser(name, help=text, **options)

    part = command("submit", "Start a run as soon as a slot is free.")
    part.add_argument("settings", metavar="SETTING=VALUE", nargs="*", help="settings, as in a YAML file")
    part.add_argument("--config", metavar="ID", help="id of a stored config, in place of settings")
    part.add_argument("--name", metavar="NAME", help="name of the run [its task]")
    part.add_argument("--dataset", metavar="NAME", help="id or name of a data set that the server knows")
    for word in ("backend", "task", "model"):
        part.add_argument(f"--{word}", metavar="NAME", help=f"as --{word} of train.py")
    part.add_argument("--priority", metavar="N", default="0", help="jobs of a higher one start earlier [0]")
    part.add_argument("--watch", action="store_true", help="stay and show what the job does")
    _add_patience(part)
    part = command("list", "List runs and jobs.")
    part.add_argument("--state", metavar="STATE", action="append", default=[], help="only runs in this state")
    part.add_argument("--json", action="store_true", help="print the server's document")
    part = command("watch", "Show what a job does until it ends.")
    part.add_argument("job", metavar="JOB", help="name or id")
    _add_patience(part)
    part = command("stop", "Stop a job; it saves a checkpoint first.")
    part.add_argument("job", metavar="JOB", help="name or id")
    part.add_argument("--at-once", action="store_true", help="kill it, without a checkpoint")
    part = command("resume", "Go on with a job, or a run of a terminal, from its newest checkpoint or a chosen one.")
    part.add_argument("job", metavar="JOB", help="name or id")
    part.add_argument(
        "--checkpoint",
        metavar="NAME",
        help="of the run's, such as checkpoint_step_40; what came after it is set aside [the newest good one]",
    )
    part = command("logs", "Print what a job has printed.")
    part.add_argument("job", metavar="JOB", help="name or id")
    part.add_argument("--follow", action="store_true", help="go on until the job ends")
    return parser


def _add_patience(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--patience",
        metavar="SECONDS",
        default=f"{DEFAULT_PATIENCE:g}",
        help="how long to wait for a server that is gone [300]",
    )


def run(arguments: list[str]) -> int:
    """Carry out one command and return the exit code.

    Raises:
        UserError: a flag cannot be used, there is no server, or it refuses.
    """
    args = _parser().parse_args(arguments)
    print_any_character(as_json=bool(getattr(args, "json", False)))
    from tools.server.client import Address, ServerClient, address_of

    def where() -> Address:
        if args.url is None:
            found = address_of(args.root)
            return found if args.token is None else Address(found.url, args.token)
        return Address(args.url, args.token if args.token is not None else address_of(args.root).token)

    client = ServerClient(where)
    if args.command == "submit":
        return _submit(client, args)
    if args.command == "list":
        return _list(client, args)
    if args.command == "watch":
        return _watch(client, args.job, args.patience)
    if args.command == "logs":
        _print_log(client, args.job, args.follow)
    else:
        document: dict[str, Any] | None = None
        if args.command == "stop" and args.at_once:
            document = {"at_once": True}
        if args.command == "resume" and args.checkpoint is not None:
            document = {"checkpoint": args.checkpoint}
        _say_state(_act(client, args.job, args.command, document))
    return 0


# -- what is asked for ---------------------------------------------------------------------------------------------


def _submit(client: ServerClient, args: argparse.Namespace) -> int:
    from tools.server.client import NoServerError

    document = {
        "settings": dict(map(_setting, args.settings)),
        "priority": whole_number("--priority", args.priority.removeprefix("-"), 0, MOST_PRIORITY)
        * (-1 if args.priority.startswith("-") else 1),
        **{
            key: value
            for key, value in (
                ("config_id", args.config), ("name", args.name), ("dataset", args.dataset),
                ("backend", args.backend), ("task", args.task), ("model", args.model),
            )
            if value is not None
        },
    }  # fmt: skip
    key = uuid.uuid4().hex
    for attempt in range(1, ATTEMPTS_TO_SUBMIT + 1):
        try:
            job = client.ask("POST", "/api/training/jobs/start", document, key=key)
            break
        except NoServerError:  # it may have the job already, and have been killed before it answered
            if attempt == ATTEMPTS_TO_SUBMIT:
                raise
            time.sleep(SECONDS_BETWEEN_LOGS)
    _say_state(job)
    return _watch(client, job["job_id"], args.patience) if args.watch else 0


def _setting(word: str) -> tuple[str, Any]:
    """Return the name and the value of `name=value`; the value is read as in a YAML file.

    Raises:
        UserError: it has no such form.
    """
    from training.settings.plain_yaml import parse_yaml

    name, equals, text = word.partition("=")
    if not name or not equals:
        raise UserError(f"{word!r}: settings are given as NAME=VALUE, such as epochs=3")
    try:
        return name, parse_yaml(text)
    except ValueError as error:
        raise UserError(f"{word!r}: {error}") from error


def _act(client: ServerClient, wanted: str, act: str, document: Any = None) -> Any:
    from tools.server.client import find_job, job_path

    return client.ask("POST", job_path(find_job(client, wanted), act), document)


def _say_state(job: Mapping[str, Any]) -> None:
    state, name = Message(str(job["status"])), job.get("name") or job["job_id"]
    if job.get("position") is not None:
        say(
            Message(
                "{name} ({id})  {state}, number {position} of those that wait",
                name=name,
                id=job["job_id"],
                state=state,
                position=job["position"],
            )
        )
    else:
        say(Message("{name} ({id})  {state}", name=name, id=job["job_id"], state=state))


def _list(client: ServerClient, args: argparse.Namespace) -> int:
    document = client.ask("GET", "/api/training/jobs", query={"state": args.state, "limit": MOST_LISTED})
    if args.json:
        print(json.dumps(document, ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for word in (Message("id"), Message("run"), Message("state"), Message("step"), Message("loss"), Message("left")):
        table.add_column(translated(word), no_wrap=True)
    for row in document["jobs"]:
        cells = (
            row["id"],
            row["name"],
            translated(Message(row["state"])),
            _steps(row),
            _figure(row["loss"]),
            _left(row),
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0


def _steps(row: Mapping[str, Any]) -> str:
    return f"{row['step']:,}" + (f"/{row['total_steps']:,}" if row["total_steps"] else "")


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "—"


def _left(row: Mapping[str, Any]) -> str:
    return as_duration(row["eta_seconds"]) if isinstance(row["eta_seconds"], int | float) else "—"


# -- watching ------------------------------------------------------------------------------------------------------


def _watch(client: ServerClient, wanted: str, patience_text: str) -> int:
    """Show the events of a run until it ends, and return 0 if it has finished, else 1."""
    from tools.server.client import ENDED, find_job, job_path

    patience = number_between("--patience", patience_text, 0.0, 1e9, "seconds")
    path = job_path(find_job(client, wanted), "events")
    shown = _Shown()
    for event in client.events(path, patience, _say_gone):
        if event.name == "state" and event.data.get("status") in ENDED:
            break
        for line in shown.lines(event):
            say(line)
    for later in client.rest(path):
        if later.name != "state":
            for line in shown.lines(later):
                say(line)
    for line in shown.lines(event):
        say(line)
    return 0 if shown.state == "finished" else 1


def _say_gone(line: str) -> None:
    say(Message("{line}; waiting for it", line=line) if line else Message("the server is back"), sys.stderr)


class _Shown:
    """Turns the events of a run into lines, and remembers what they must not repeat."""

    def __init__(self) -> None:
        self.state = ""
        self._total: int | None = None
        self._step_at = float("-inf")

    def lines(self, event: ServerEvent) -> Iterator[str]:
        """Yield the lines that an event is worth."""
        name, data = event.name, event.data
        if name == "state":
            yield from self._of_state(data)
        elif name == "reset":
            self._step_at = float("-inf")
            yield Message("the run was begun again")
        elif name in ("run_started", "run_resumed"):
            if isinstance(total := data.get("total_steps"), int):
                self._total = total
        elif name == "step":
            if isinstance(at := data.get("time"), int | float) and at - self._step_at >= SECONDS_BETWEEN_STEPS:
                self._step_at = at
                yield self._of_step(data)
        elif name == "eval":
            yield Message("step {step}  validation loss {loss}", step=data.get("step"), loss=_figure(data.get("loss")))
        elif name == "checkpoint":
            file = str(data.get("path", "")).rstrip("/").rpartition("/")[2]
            yield Message("step {step}  saved {path}", step=data.get("step"), path=file)
        elif name == "warning":
            yield Message("warning: {message}", message=str(data.get("message", "")))
        elif name == "run_failed":
            yield Message("error: {message}", message=str(data.get("error", "")))

    def _of_state(self, data: Mapping[str, Any]) -> Iterator[str]:
        state, reason = str(data.get("status", "")), str(data.get("reason") or "")
        if state == "removed" and self.state:
            raise UserError("the run was deleted")
        if state not in (self.state, "removed"):
            self.state = state
            word = Message(state)
            yield (
                Message("state   {state}: {reason}", state=word, reason=reason)
                if reason
                else Message("state   {state}", state=word)
            )

    def _of_step(self, data: Mapping[str, Any]) -> str:
        loss = _figure(data.get("loss"))
        if self._total is None:
            return Message("step {step}  loss {loss}", step=data.get("step"), loss=loss)
        return Message("step {step}/{total}  loss {loss}", step=data.get("step"), total=self._total, loss=loss)


def _print_log(client: ServerClient, wanted: str, follow: bool) -> None:
    from tools.server.client import ENDED, find_job, job_path

    job_id, offset = find_job(client, wanted), 0
    while True:
        is_over = not follow or client.ask("GET", job_path(job_id, "status"))["status"] in ENDED
        piece = client.ask("GET", job_path(job_id, "logs"), query={"offset": offset, "limit": LOG_BYTES})
        if piece["size"] < offset:  # a new output was begun: the job goes on, or the old one was full
            offset = 0
            continue
        sys.stdout.write(printable_text(piece["text"]))
        sys.stdout.flush()
        is_at_end = piece["next_offset"] >= piece["size"] or piece["next_offset"] <= offset
        offset = piece["next_offset"]
        if is_at_end and is_over:
            return
        if is_at_end:
            time.sleep(SECONDS_BETWEEN_LOGS)


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("jobs", run, "stopped; the job goes on")


if __name__ == "__main__":
    sys.exit(main())
