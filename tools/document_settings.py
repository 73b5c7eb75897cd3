#!/usr/bin/env python3
"""Write docs/CONFIGURATION.md, the page of all settings, from the declarations of the settings.

    python tools/document_settings.py            # write it
    python tools/document_settings.py --check    # only check that it is up to date

A test runs the check, so a setting that was added or changed is documented in the same commit.

Exit code: 0, 1 with --check if the page is out of date, 2 for unusable input.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, finish
from tools.figures.output_file import write_atomically
from training.backends.prepare import config_class, task_for
from training.backends.registry import BACKENDS
from training.experiments.sweep.command_line import with_sweep_options
from training.models.registry import MODELS
from training.settings.declarations import aliases, leaves, type_name
from training.settings.tree import TrainingConfig
from training.tasks.registry import TASKS

EXIT_OUT_OF_DATE = 1
PAGE = ROOT / "docs" / "CONFIGURATION.md"
HEAD = """# Settings

[中文](zh-CN/CONFIGURATION.md)

This page is written by `python tools/document_settings.py`; a test keeps it up to date.

Settings come in layers, each over the one before: the defaults, the backend's preset in `configs/`, the resumed run's
own settings, your YAML (`--config FILE`, or the bare name of a preset), your flags. `--explain KEY` says what a setting
means, its value and which layer set it; `--dry-run` prints them all.

Every name is unique, so `d_model: 256` may stand at the top of a YAML file or in its section (`model: {d_model: 256}`),
and its flag is `--d-model`. On the command line `none` means None (in YAML: `null`), and a bool is switched off with
`--no-…`. `--backend playground` brings `configs/playground.yaml`, which sets `run_dir: hlbd_playground`. An
unknown key or flag is refused with the nearest name; names of transformers, TRL, accelerate, Axolotl, LLaMA-Factory,
Unsloth, DeepSpeed and others are answered with ours. YAML may repeat itself by anchors and merge keys
(`base: &base {…}`, `run: {<<: *base}`); a date is a text. The JSON schema is `TrainingConfig.model_json_schema()`.

The section `data` has the settings of the task (`--task`, see `--list-tasks`), the section `model` those of the model
family (`--model`, see `--list-models`); a file that names neither means HLBD and APT. `--model DIR_OR_NAME` means the
family huggingface. A task, a family or a backend of a third party adds its own; `--help` with its name shows them.
"""


def page() -> str:
    """Return the whole page as Markdown."""
    lines = [HEAD]
    shown: set[str] = set()
    trees = [
        *(config_class(BACKENDS.load(name)) for name in BACKENDS.built_in),
        *(config_class(task=name) for name in TASKS.built_in),
        *(config_class(task=task_for(name), model=name) for name in MODELS.built_in),
        with_sweep_options(config_class()),
    ]
    for tree in trees:
        headings = {"model": f"model ({tree().model.model})", "data": f"data ({tree().task})"}
        for section, rows in sections(tree):
            heading = headings.get(section, section)
            if heading not in shown:
                shown.add(heading)
                lines += [f"\n## {heading}\n", "| setting | type | default | meaning |", "|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def sections(tree: type[TrainingConfig]) -> Iterator[tuple[str, list[str]]]:
    """Yield (section, table rows) in the order of declaration."""
    tables: dict[str, list[str]] = {}
    for key, field in leaves(tree):
        section, _, name = key.rpartition(".")
        default = field.get_default(call_default_factory=True)
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default).lower()
        also = "".join(f" (also `--{alias.replace('_', '-')}`)" for alias in aliases(field))
        kind = type_name(field).replace("|", "\\|")
        tables.setdefault(section or "launch", []).append(
            f"| `{name}` | {kind} | `{shown}` | {field.description}{also} |"
        )
    yield from tables.items()


def run(arguments: list[str]) -> int:
    """Write or check the page; return the exit code."""
    parser = CommandLine(__doc__)
    parser.add_argument("--check", action="store_true", help="only check the page; write nothing")
    options = parser.parse_args(arguments)
    wanted = page()
    if options.check:
        is_current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted
        print("docs/CONFIGURATION.md is up to date" if is_current else "out of date: run tools/document_settings.py")
        return 0 if is_current else EXIT_OUT_OF_DATE
    write_atomically(PAGE, wanted.encode())
    return 0


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("document_settings", run)


if __name__ == "__main__":
    sys.exit(main())
