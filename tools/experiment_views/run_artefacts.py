"""List what a run has made: checkpoints, models, pictures, certificates, and whether it is still there and unchanged.

    python tools/experiments.py artefacts sweep/a           # by size and time; what was never read is "unchecked"
    python tools/experiments.py artefacts sweep/a --check   # reads everything again

Exit code: 0; 1 if something has changed or is missing; 2 for unusable input.
"""

from __future__ import annotations

import argparse

from tools.command_line import print_any_character


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the sub-command."""
    parser.add_argument("name", metavar="RUN", help="its name, the last part of it, or its id")
    parser.add_argument("--check", action="store_true", help="read all of it, and compare checksums")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """List the artefacts and return the exit code.

    Raises:
        UserError: there is no such run, or something may not be read.
    """
    from tools.experiment_views.opened_store import opened_store
    from tools.figures.wording import aligned, size_text
    from training.experiments.store.artefacts import Condition
    from training.language.messages import Message, say, translated

    print_any_character(as_json=args.json)
    with opened_store(args.root) as store:
        row = store.run(args.name)
        found = store.checked_artefacts(row.id, again=True) if args.check else store.artefacts(row.id)
    is_whole = all(one.condition not in (Condition.CHANGED, Condition.MISSING) for one in found)
    if args.json:
        import json

        document = {"id": row.id, "name": row.name, "artefacts": [one.to_dict() for one in found]}
        print(json.dumps(document, ensure_ascii=False, indent=1))
        return 0 if is_whole else 1
    if not found:
        say(Message("{name}: it has made nothing yet", name=row.name))
        return 0
    heads = (Message("artefact"), Message("kind"), Message("size"), Message("condition"))
    rows = [
        [
            one.name,
            one.kind,
            size_text(one.bytes) if one.bytes is not None else "-",
            translated(Message(one.condition.value)),
            one.sha256[:12] if one.sha256 is not None else "-",
        ]
        for one in found
    ]
    for line in aligned([[*map(translated, heads), "SHA-256"], *rows], indent=""):
        print(line)
    for one in found:
        if one.detail:
            say(Message("{name}: {fault}", name=one.name, fault=one.detail))
    return 0 if is_whole else 1
