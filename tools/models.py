#!/usr/bin/env python3
"""Versions of models: numbered, never changed, named by aliases that move only through a gate.

    python tools/models.py register digits runs/digits --note "first"   # the finished model of a run: digits:1
    python tools/models.py list
    python tools/models.py show digits:1                 # its run, parent, data, figures, settings, files
    python tools/models.py diff digits:1 digits:2        # settings, data, figures and files that differ
    python tools/models.py alias digits prod 2 --gate "verifier.new_fact >= 0.6"
    python tools/models.py alias digits prod             # where it pointed, when, and by which gate
    python tools/models.py rollback digits prod          # to where it pointed before
    python tools/models.py verify                        # reads every byte again
    python tools/models.py pull digits@prod --output model
    python tools/chat.py --model "$(python tools/models.py show digits@prod --path)"

A version is named digits:2, digits@prod, digits@latest, or digits for the newest one. Its files are copies: it outlives
its run. A gate is a condition on its figures and settings, as --where of tools/experiments.py (docs/MODELS.md).

Exit code: 0; 1 if a gate is shut, or if verify or pull finds a file that is not as it was registered; 2 for unusable
input, also for a gate that names a figure which nobody measured.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, finish, one_of, path_given, print_any_character
from training.errors import UserError, printable
from training.language.messages import Message, say, translated

if TYPE_CHECKING:
    from training.experiments.model_versions.registry import Registry
    from training.experiments.model_versions.version import Version

DEFAULT_ROOT = Path("models")
REGISTRIES = ("directory", "mlflow")
FORMAT, SCHEMA_VERSION = "apt-models", 1
DIGEST_SHOWN = 12
"""Characters of a SHA-256 that a table shows."""
UNKNOWN = "—"
NOT_FINITE = "nan"
"""Value of a figure that was measured, and is not finite."""


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    _add_registry(parser, None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        options: dict[str, Any] = {"text": text, "is_part": True}
        part = commands.add_parser(name, help=text, **options)
        _add_registry(part, argparse.SUPPRESS)  # the values given before the command stay
        return part

    part = command("register", "Make a finished model the next version of a name.")
    part.add_argument("name", metavar="NAME", help="name of the model; a new one is made")
    part.add_argument(
        "model", metavar="MODEL", type=path_given, help="run, model directory, or version that was pulled"
    )
    part.add_argument("--note", metavar="TEXT", default="", help="what is to be remembered of it")
    _add_verification(part)
    part = command("list", "List versions with the aliases that point to them.")
    part.add_argument("name", metavar="NAME", nargs="?", help="only those of this model")
    _add_json(part)
    part = command("show", "Show what a version is and where it comes from.")
    _add_version(part)
    form = part.add_mutually_exclusive_group()
    _add_json(form)
    form.add_argument("--path", action="store_true", help="print only the directory that every --model takes")
    part = command("diff", "Show how two versions differ.")
    part.add_argument("first", metavar="A", help="a version, such as digits:1")
    part.add_argument("second", metavar="B", help="another one")
    _add_json(part)
    part = command("alias", "Let an alias point to a version; without a version, show where it pointed.")
    part.add_argument("name", metavar="NAME", help="name of the model")
    part.add_argument("alias", metavar="ALIAS", nargs="?", help="such as prod; none: show all aliases")
    part.add_argument("to", metavar="VERSION", nargs="?", help="number of the version, or another alias")
    part.add_argument("--gate", metavar="CONDITION", help='only if it holds, such as "val_loss < 2"')
    _add_verification(part)
    part = command("rollback", "Let an alias point to where it pointed before.")
    part.add_argument("name", metavar="NAME", help="name of the model")
    part.add_argument("alias", metavar="ALIAS", help="such as prod")
    part = command("verify", "Read versions whole, and name each file that is damaged, missing or added.")
    part.add_argument(
        "version", metavar="VERSION", nargs="?", help="a version, or a name for all of its versions [all]"
    )
    _add_json(part)
    part = command("pull", "Copy a version out, and compare every byte.")
    _add_version(part)
    part.add_argument("--output", metavar="DIR", type=path_given, required=True, help="directory to write; must be new")
    return parser


def _add_registry(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument(
        "--root", metavar="DIR", type=path_given, default=default, help="directory of the registry (default: models)"
    )
    parser.add_argument(
        "--registry", metavar="KIND", default=default, help="directory, or mlflow: MLflow's own (default: directory)"
    )
    parser.add_argument(
        "--mlflow-tracking-uri",
        metavar="URI",
        default=default,
        help="with --registry mlflow: its server or database (default: MLFLOW_TRACKING_URI)",
    )


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION", help="NAME:NUMBER, NAME@ALIAS, or NAME for the newest version")


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document (docs/MODELS.md)")


def _add_verification(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--verification",
        metavar="FILE",
        type=path_given,
        help="verifier's report on the model (tools/verify_hlbd_model.py --json) [that of its run]",
    )


def run(arguments: list[str]) -> int:
    """Carry out one command and return the exit code.

    Raises:
        UserError: the input cannot be used; nothing was changed then.
    """
    args = _parser().parse_args(arguments)
    print_any_character(as_json=bool(getattr(args, "json", False)))

    return _COMMANDS[args.command](_registry(args), args)


def _registry(args: argparse.Namespace) -> Registry:
    """Return the registry that the flags name.

    Raises:
        UserError: they contradict one another, or there is no such registry.
    """
    kind = one_of("--registry", args.registry or REGISTRIES[0], "registry", REGISTRIES)
    uri = args.mlflow_tracking_uri
    if kind == "directory":
        if uri is not None:
            raise UserError(f"--mlflow-tracking-uri {uri}: the registry is a directory; add --registry mlflow")

        # Imported here, so that --help and a misspelt flag do not wait.
        from training.experiments.model_versions.local_registry import LocalRegistry

        return LocalRegistry(args.root if args.root is not None else DEFAULT_ROOT)
    if args.root is not None:
        raise UserError(f"--root {args.root}: the registry is MLflow's; leave --root or --registry mlflow out")
    uri = uri if uri is not None else os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise UserError("--registry mlflow: where? Give --mlflow-tracking-uri, such as http://127.0.0.1:5000")
    from training.experiments.model_versions.mlflow_registry import MLflowRegistry

    return MLflowRegistry(uri)


# -- what is asked for ---------------------------------------------------------------------------------------------


def _register(registry: Registry, args: argparse.Namespace) -> int:
    done = registry.register(args.name, args.model, note=args.note, verification=args.verification)
    version = done.version
    for note in done.notes:
        say(Message("note   {note}", note=note))
    if not done.is_new:
        say(
            Message(
                "{version} holds these very bytes already (registered {time}); nothing was written",
                version=str(version),
                time=_time(version.registered_at),
            )
        )
        return 0
    say(
        Message(
            "registered {version}: {files} files, {size}, from {path}",
            version=str(version),
            files=len(version.files),
            size=_size(version.bytes),
            path=args.model,
        )
    )
    if version.parent is not None:
        say(Message("parent  {version}", version=str(version.parent)))
    return 0


def _list(registry: Registry, args: argparse.Namespace) -> int:
    from tools.figures.wording import aligned, cut, figure, head_of

    faults: list[str] = []
    versions = registry.versions(args.name, faults)
    aliases = {name: registry.aliases(name) for name in dict.fromkeys(version.name for version in versions)}
    for fault in faults:
        say(Message("note   {note}", note=fault), sys.stderr)
    if args.json:
        _print_json(registry, versions=[_document(version, aliases[version.name]) for version in versions])
        return 0
    if not versions:
        say(Message("no models in {root} yet", root=registry.place))
        return 0
    head = head_of(
        *(Message("version"), Message("aliases"), Message("registered"), Message("task"), Message("model")),
        *(Message("loss"), Message("val. loss"), Message("size"), Message("parent"), Message("note")),
    )
    rows = [
        [
            str(version),
            ", ".join(_pointing(aliases[version.name], version.number)) or UNKNOWN,
            _time(version.registered_at),
            version.task or UNKNOWN,
            version.family,
            *(
                figure(value) if (value := version.figures.get(n)) is not None else UNKNOWN
                for n in ("loss", "val_loss")
            ),
            _size(version.bytes),
            str(version.parent) if version.parent is not None else UNKNOWN,
            cut(printable(version.note), 40) or UNKNOWN,
        ]
        for version in versions
    ]
    for line in aligned([head, *rows], indent=""):
        print(line)
    return 0


def _show(registry: Registry, args: argparse.Namespace) -> int:
    version = registry.find(args.version)
    if args.path:
        print(registry.model_path(version))
        return 0
    aliases = registry.aliases(version.name)
    if args.json:
        _print_json(registry, version=_document(version, aliases))
        return 0
    print("   ".join([str(version), *(printable(f"@{alias}") for alias in _pointing(aliases, version.number))]))
    _print_pairs(_facts(registry, version))
    files = [(name, f"{_size(file.bytes):>8}  {file.sha256}") for name, file in version.files.items()]
    figures = [(name, _value(value)) for name, value in sorted(_named(version.figures).items())]
    settings = [(name, _setting(value)) for name, value in sorted((version.settings or {}).items())]
    for title, pairs in ((Message("files"), files), (Message("figures"), figures), (Message("settings"), settings)):
        if pairs:
            print(f"\n{translated(title)}")
            _print_pairs(pairs)
    return 0


def _facts(registry: Registry, version: Version) -> Iterator[tuple[str, str]]:
    run = version.run
    facts: tuple[tuple[str, str | None], ...] = (
        (Message("model"), version.family),
        (Message("task"), version.task),
        (Message("registered"), _time(version.registered_at)),
        (Message("path"), str(registry.model_path(version))),
        (Message("parent"), str(version.parent) if version.parent is not None else None),
        (Message("started from"), version.started_from),
        (Message("run"), f"{run.directory} ({run.run_id or UNKNOWN}, {run.state})" if run is not None else None),
        (Message("step"), f"{run.model_step:,}" if run is not None and run.model_step is not None else None),
        (Message("data fingerprint"), version.data_fingerprint),
        (Message("config hash"), version.config_hash),
        ("SHA-256", version.digest),
        (Message("note"), version.note or None),
    )
    for name, value in facts:
        if value is not None:
            yield translated(name), value


def _diff(registry: Registry, args: argparse.Namespace) -> int:
    a, b = registry.find(args.first), registry.find(args.second)
    settings = _differing(a.settings or {}, b.settings or {})
    figures = _differing(_named(a.figures), _named(b.figures))
    hashes = _differing(
        {name: file.sha256 for name, file in a.files.items()}, {name: file.sha256 for name, file in b.files.items()}
    )
    data = (a.data_fingerprint, b.data_fingerprint)
    if args.json:
        documents = {"a": str(a), "b": str(b), "settings": settings, "figures": figures, "files": hashes}
        _print_json(registry, **documents, data_fingerprint=None if data[0] == data[1] else list(data))
        return 0
    print(f"{a}   {b}")
    if not (settings or figures or hashes) and data[0] == data[1]:
        say(Message("nothing differs: settings, data, figures and files are the same"))
    elif data[0] != data[1]:
        _print_pairs([(translated(Message("data fingerprint")), f"{data[0] or UNKNOWN}   {data[1] or UNKNOWN}")])
    else:
        say(Message("the data are the same") if data[0] is not None else Message("of the data nothing is known"))
    for title, found, form in (
        (Message("settings"), settings, _setting),
        (Message("figures"), figures, _value),
        (Message("files"), hashes, _digest),
    ):
        if found:
            print(f"\n{translated(title)}")
            _print_columns([[name, form(first), form(second)] for name, (first, second) in sorted(found.items())])
    return 0


def _alias(registry: Registry, args: argparse.Namespace) -> int:
    if args.to is None:
        for flag, given in (("--gate", args.gate), ("--verification", args.verification)):
            if given is not None:
                raise UserError(f"{flag} {given}: it decides about a version, and none is given; add its number")
        return _show_aliases(registry, args.name, args.alias)
    done = registry.point(args.name, args.alias, args.to, gate=args.gate, verification=args.verification)
    alias = f"{args.name}@{args.alias}"
    if done.gate is not None:
        values = ", ".join(f"{name} = {_value(value)}" for name, value in _named(done.gate.values).items())
        if done.is_done:
            say(Message("gate open  {gate}   ({values})", gate=done.gate.gate, values=values))
        else:
            say(Message("gate shut  {gate}   ({values})", gate=done.gate.gate, values=values), sys.stderr)
    if not done.is_done:
        stays = (
            Message("{alias} stays at version {before}", alias=alias, before=done.before)
            if done.before is not None
            else Message("{alias} still points to no version", alias=alias)
        )
        say(stays, sys.stderr)
        return 1
    _say_moved(alias, done.before, done.version.number)
    return 0


def _say_moved(alias: str, before: int | None, now: int) -> None:
    if before == now:
        say(Message("{alias} points to version {now} already", alias=alias, now=now))
    elif before is None:
        say(Message("{alias} points to version {now}", alias=alias, now=now))
    else:
        say(Message("{alias} points to version {now}; before, to {before}", alias=alias, now=now, before=before))


def _show_aliases(registry: Registry, name: str, alias: str | None) -> int:
    from tools.figures.wording import aligned, head_of

    registry.numbers(name)
    if alias is None:
        for known, number in registry.aliases(name).items():
            print(printable(f"{name}@{known}  {number}"))
        return 0
    ways = {"set": Message("set"), "rollback": Message("rolled back")}
    rows = [
        [_time(move.at), str(move.number), translated(ways[move.how]), move.gate or UNKNOWN]
        for move in registry.history(name, alias)
    ]
    for line in aligned([head_of(Message("time"), Message("version"), Message("move"), Message("gate")), *rows], ""):
        print(line)
    return 0


def _rollback(registry: Registry, args: argparse.Namespace) -> int:
    before, now = registry.rollback(args.name, args.alias)
    _say_moved(f"{args.name}@{args.alias}", before, now)
    return 0


def _verify(registry: Registry, args: argparse.Namespace) -> int:
    documents, is_whole = [], True
    for checked in registry.verify(args.version):
        name = checked.name if checked.number is None else f"{checked.name}:{checked.number}"
        is_whole = is_whole and not checked.faults
        faults = [{"path": f.path, "damage": f.damage.value, "detail": f.detail} for f in checked.faults]
        documents.append({"name": checked.name, "number": checked.number, "faults": faults})
        if args.json:
            continue
        if checked.version is not None and not checked.faults:
            count, size = len(checked.version.files), _size(checked.version.bytes)
            say(Message("{version}  whole: {files} files, {size}", version=name, files=count, size=size))
        for fault in checked.faults:
            say(
                Message(
                    "{version}  {path}  {damage}: {detail}",
                    version=name,
                    path=fault.path,
                    damage=Message(fault.damage.value),
                    detail=fault.detail,
                )
            )
    if args.json:
        _print_json(registry, checked=documents)
    elif not documents:
        say(Message("no models in {root} yet", root=registry.place))
    return 0 if is_whole else 1


def _pull(registry: Registry, args: argparse.Namespace) -> int:
    from training.checkpoints.run_directory import MODEL_DIRECTORY
    from training.experiments.model_versions.registry import DamagedVersionError

    try:
        version = registry.pull(args.version, args.output)
    except DamagedVersionError as error:
        print(f"models: {error}", file=sys.stderr)
        return 1
    count, size = len(version.files), _size(version.bytes)
    say(
        Message(
            "pulled {version} to {path}: {files} files, {size}, every byte as it was registered",
            version=str(version),
            path=args.output,
            files=count,
            size=size,
        )
    )
    say(Message("use it   --model {path}", path=args.output / MODEL_DIRECTORY))
    return 0


_COMMANDS: dict[str, Callable[[Any, argparse.Namespace], int]] = {
    "register": _register,
    "list": _list,
    "show": _show,
    "diff": _diff,
    "alias": _alias,
    "rollback": _rollback,
    "verify": _verify,
    "pull": _pull,
}


# -- how it is shown -----------------------------------------------------------------------------------------------


def _pointing(aliases: Mapping[str, int], number: int) -> list[str]:
    return [alias for alias, at in aliases.items() if at == number]


def _document(version: Version, aliases: Mapping[str, int]) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(version), "aliases": _pointing(aliases, version.number)}


def _print_json(registry: Registry, **content: Any) -> None:
    import json

    document = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "registry": printable(registry.place), **content}
    print(json.dumps(document, ensure_ascii=False, indent=1))


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values that differ, in pairs, by name; None: there is none."""
    return {name: [a.get(name), b.get(name)] for name in {**a, **b} if a.get(name) != b.get(name)}


def _print_pairs(pairs: Any) -> None:
    _print_columns([list(pair) for pair in pairs])


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns that begin below one another; nothing is cut."""
    from tools.figures.wording import columns_of

    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(columns_of(row[k]) for row in shown) for k in range(len(shown[0]))]
    for row in shown:
        cells = (cell + " " * (width - columns_of(cell)) for cell, width in zip(row, widths, strict=True))
        print("  " + "   ".join(cells).rstrip())


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"


def _size(count: int) -> str:
    from training.machine.units import as_size

    return as_size(count)


def _named(figures: Mapping[str, float | None]) -> dict[str, float | str]:
    """Return figures in which one that is not finite differs from one that is not there."""
    return {name: value if value is not None else NOT_FINITE for name, value in figures.items()}


def _value(value: Any) -> str:
    """Return a figure as short as it is exact enough."""
    if value is None:
        return UNKNOWN
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _setting(value: Any) -> str:
    from tools.figures.wording import setting_text

    return setting_text(value) if value is not None else UNKNOWN


def _digest(value: Any) -> str:
    return f"{value[:DIGEST_SHOWN]}…" if value is not None else UNKNOWN


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("models", run)


if __name__ == "__main__":
    sys.exit(main())
