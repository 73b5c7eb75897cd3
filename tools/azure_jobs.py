#!/usr/bin/env python3
"""Jobs of --backend azure: list them, look at one, follow, cancel, bring home, register.

    python tools/azure_jobs.py list                          # the workspace's latest jobs
    python tools/azure_jobs.py show JOB                      # one job; of a sweep its trials, the best one marked
    python tools/azure_jobs.py stream --run-dir runs/big     # follow it again; Ctrl-C leaves it running
    python tools/azure_jobs.py cancel --run-dir runs/big
    python tools/azure_jobs.py download JOB --run-dir runs/x # record and final model; --what all: checkpoints too
    python tools/azure_jobs.py register JOB --name apt-model # the final model, as a model of the workspace

A job is named by its name, or by the run directory that it fills. A run directory knows its workspace; else it is found
as by train.py: flags, AZUREML_ARM_SUBSCRIPTION, AZUREML_ARM_RESOURCEGROUP and AZUREML_ARM_WORKSPACE_NAME, config.json.
A job that is given no --run-dir goes into runs/JOB; a sweep's best trial into a directory of its own in there.

Exit code: 0; 2 for input that cannot be used and what Azure refuses; of stream the job's own.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, finish, one_of, path_given, whole_number
from training.errors import UserError

if TYPE_CHECKING:
    from tools.cloud_jobs.named_job import NamedJob
    from training.azure.service.workspace import Workspace

MOST_LISTED = 1000
TABLE_WIDTH_ELSEWHERE = 160
"""Columns of the table where the output is not a terminal."""
ACTIONS = {
    "list": {"json", "last"},
    "show": {"json", "job", "run_dir"},
    "stream": {"job", "run_dir", "what"},
    "cancel": {"job", "run_dir"},
    "download": {"job", "run_dir", "what", "trial"},
    "register": {"job", "run_dir", "trial", "name"},
}
"""Action -> flags that it takes, besides those that name a workspace."""
WHATS = ("final", "all", "none")


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("action", metavar="ACTION", help=", ".join(ACTIONS))
    add("job", metavar="JOB", nargs="?", help="name of the job (default: the one that fills --run-dir)")
    add("--run-dir", metavar="DIR", type=path_given, help="run directory on this machine (default: runs/JOB)")
    add("--json", action="store_true", help="list, show: one JSON document")
    add("--last", metavar="N", help="list: so many jobs (default: 20)")
    add(
        "--what",
        metavar="WHAT",
        help="download, and stream when the job has completed: final (record and final model, the default) or all "
        "(checkpoints, snapshots, logs too); stream: or none",
    )
    add("--trial", metavar="TRIAL", help="download, register: this trial of a sweep (default: the best)")
    add("--name", metavar="MODEL", help="register: the model's name (default: the one given at submission)")
    workspace = parser.add_argument_group("workspace")
    for name in ("subscription-id", "resource-group", "workspace-name"):
        workspace.add_argument(f"--{name}", f"--azure-{name}", metavar="NAME" if name != "subscription-id" else "ID")
    workspace.add_argument("--workspace-config", metavar="FILE", type=path_given, help="its config.json")
    return parser


def run(arguments: list[str]) -> int:
    """Do what the command line asks and return the exit code. Raises UserError for unusable input."""
    args = _parser().parse_args(arguments)
    action = one_of("ACTION", args.action, "action", ACTIONS)
    _refuse_foreign_flags(action, args)
    what: Any = one_of("--what", args.what or "final", "part", WHATS if action == "stream" else WHATS[:2])
    last = whole_number("--last", args.last or "20", 1, MOST_LISTED)

    # Imported here, so that --help and a misspelt flag do not wait.
    from tools.cloud_jobs.named_job import connect, find_job
    from training.azure.settings.options import AzureOptions

    options = AzureOptions(
        subscription_id=args.subscription_id,
        resource_group=args.resource_group,
        workspace_name=args.workspace_name,
        workspace_config=args.workspace_config,
    )
    if action == "list":
        _list(connect(options), last, args.json)
        return 0
    job = find_job(args.job, args.run_dir, options)
    if action == "show":
        from tools.cloud_jobs.page import document_of, lines_of, to_json

        document = document_of(job)
        print(to_json(document) if args.json else "\n".join(lines_of(document)))
    elif action == "stream":
        return _stream(job, what)
    elif action == "cancel":
        _cancel(job)
    elif action == "download":
        _download(job, what, args.trial)
    else:
        _register(job, args.trial, args.name)
    return 0


def _refuse_foreign_flags(action: str, args: argparse.Namespace) -> None:
    for name in sorted(set().union(*ACTIONS.values()) - ACTIONS[action]):
        if getattr(args, name):
            flag = "job" if name == "job" else f"--{name.replace('_', '-')}"
            takes = ", ".join(other for other, flags in ACTIONS.items() if name in flags)
            raise UserError(f"{action} takes no {flag} (got {getattr(args, name)}); it belongs to: {takes}")


def _list(workspace: Workspace, last: int, as_json: bool) -> None:
    from rich.console import Console

    from tools.cloud_jobs.listing import rows_of, table_of, to_json

    rows = rows_of(workspace, last)
    if as_json:
        print(to_json(rows))
    elif not rows:
        print(f"no jobs in workspace {workspace.address.workspace_name} yet")
    else:
        console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH_ELSEWHERE)
        console.print(table_of(rows, time.time()))


def _stream(job: NamedJob, what: Literal["final", "all", "none"]) -> int:
    from training.azure.fetch.collect_results import collect_results
    from training.azure.fetch.download import refuse_another_run
    from training.azure.follow.watch import follow

    handle = job.own_handle()
    refuse_another_run(handle, job.run_dir)
    with _held(job.run_dir):
        handle.write(job.run_dir)
        exit_code = follow(job.workspace, handle, job.run_dir)
        if exit_code == 0:
            collect_results(job.workspace, handle, job.run_dir, what)
    return exit_code


def _cancel(job: NamedJob) -> None:
    from training.azure.service.jobs import cancel

    print(cancel(job.workspace, job.state))


def _download(job: NamedJob, what: Literal["final", "all"], trial: str | None) -> None:
    from training.azure.fetch.download import download_run, refuse_another_run
    from training.azure.follow.sweep import best_run

    handle = job.own_handle()
    refuse_another_run(handle, job.run_dir)
    with _held(job.run_dir):
        if handle.path is None:
            handle.write(job.run_dir)
        wanted = best_run(job.workspace, handle, trial)
        place = job.run_dir if wanted is handle else job.run_dir / wanted.job
        download_run(job.workspace, wanted, place, what)
    if (place / "final_model").is_dir():
        print(f"To look at it: python tools/verify_hlbd_model.py --model {shlex.quote(str(place / 'final_model'))}")


def _register(job: NamedJob, trial: str | None, name: str | None) -> None:
    from training.azure.fetch.collect_results import register_model
    from training.azure.follow.sweep import best_run

    handle = job.own_handle()
    name = name or handle.register_model
    if name is None:
        raise UserError(f"register: job {handle.job} was given no name for its model; give --name MODEL")
    register_model(job.workspace, best_run(job.workspace, handle, trial), name)


@contextlib.contextmanager
def _held(run_dir: Path) -> Iterator[None]:
    """Hold `run_dir` for this process alone within the block, and remove it if it stayed empty."""
    from training.checkpoints.run_directory import RunDirectory

    directory = RunDirectory(run_dir, resume=True)
    try:
        yield
    finally:
        directory.release()


if __name__ == "__main__":
    sys.exit(finish("azure_jobs", run))
