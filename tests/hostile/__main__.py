"""Run hostile cases, and print how many there were and what each fault was.

    python -m tests.hostile --cases 2000              # 0 to 1999 of seed 0, two at a time
    python -m tests.hostile --seed 3 --only 1742      # one of them, with its command line and output

Exit code: 0 without a fault, 1 with one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.hostile.cases import KINDS, Case, hostile_case
from tests.hostile.sandbox import faults, flags_of_scripts, import_what_is_slow, make_template, run_case


def main() -> int:
    """Run the cases that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the series (default: 0)")
    parser.add_argument("--only", type=int, help="this case alone, shown whole")
    parser.add_argument("--kind", choices=list(KINDS), help="cases of this kind alone")
    parser.add_argument("--deadline", type=float, default=90.0, help="seconds for a case (default: 90)")
    parser.add_argument("--planted", nargs="*", default=[], help="faults of tests/hostile/planted.py to judge first")
    given = parser.parse_args()
    import_what_is_slow()
    flags = flags_of_scripts()
    numbers = range(given.first, given.first + given.cases) if given.only is None else [given.only]
    kinds, found, codes = Counter[str](), Counter[str](), Counter[str]()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        template = make_template(Path(place) / "template")
        for number, fault in enumerate(given.planted):
            directory = Path(place) / f"planted_{number}"
            directory.mkdir()
            case = Case(number, "planted", ("tests/hostile/planted.py", fault))
            wrong = faults(case, run_case(case, template, directory, deadline=2 if fault == "hang" else 60))
            print(f"{fault} -> {', '.join(kind.split(':')[0] for kind in wrong)}", flush=True)
        for number in numbers:
            case = hostile_case(given.seed, number, flags)
            if given.kind is not None and case.kind != given.kind:
                continue
            directory = Path(place) / f"case_{number}"
            directory.mkdir()
            outcome = run_case(case, template, directory, given.deadline)
            kinds[case.kind] += 1
            codes[str(outcome.exit_code)] += 1
            wrong = faults(case, outcome)
            for fault in wrong:
                found[fault.split(":")[0]] += 1
            if wrong or given.only is not None:
                shown = {"case": number, "kind": case.kind, "faults": wrong, "words": [w[:200] for w in case.words]}
                if case.environment:
                    shown["environment"] = dict(case.environment)
                if case.changes:
                    shown["changes"] = [f"{c.kind} {c.path} {c.content[:80]!r}" for c in case.changes]
                print(json.dumps(shown), flush=True)
            if given.only is not None:
                sys.stdout.write(outcome.output.encode("utf-8", "backslashreplace").decode() + "\n")
                print(f"exit code {outcome.exit_code}, {outcome.seconds:.1f} s, changed: {outcome.changed}")
            shutil.rmtree(directory)
    print(
        f"{sum(kinds.values())} cases in {time.monotonic() - began:.0f} s"
        f" ({', '.join(f'{count} {kind}' for kind, count in kinds.items())});"
        f" exit codes {dict(codes)}; faults: {dict(found) or 'none'}"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
