"""Front door: parse, prepare, check, run. `python train.py` and `python training/train.py` are the same."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # If this file is run by path, Python puts its folder first on sys.path, where it would shadow other modules.
    sys.path[:] = [str(ROOT), *(p for p in sys.path if p and Path(p).resolve() != Path(__file__).parent)]
    from training.machine.startup import begin

    begin()

from training.backends.prepare import (
    AUTO,
    DEFAULT_BACKEND,
    Choice,
    PreparedRun,
    asked_backend,
    choose,
    layers_of,
    prepare,
    resolve_for,
)
from training.backends.protocol import RunRequest, is_remote
from training.backends.registry import describe_backends
from training.checkpoints.run_settings import path_to_go_on_from
from training.errors import ConfigError
from training.experiments.sweep.command_line import (
    begun_layers,
    resolve_options,
    split_layers,
    sweep_file,
    sweep_layers,
    tree_of,
    with_begun_sweep,
)
from training.language.messages import choose_language
from training.launch.worker import defer_to_first_rank, leave, work
from training.machine.command import exit_code_of
from training.machine.environment import remove_leftovers
from training.machine.output import output_may_be_lost
from training.models.registry import describe_models
from training.settings.flags import (
    OneLineParser,
    add_launcher_flags,
    build_parser,
    early_stopping_of,
    launcher_parser,
    parse_flags,
    refuse_contradictions,
)
from training.settings.layers import FLAGS, Layer
from training.settings.rank_identity import RankIdentity, is_worker
from training.settings.yaml_files import find_config
from training.storage.user_paths import path_of
from training.tasks.registry import describe_tasks

if TYPE_CHECKING:
    from training.experiments.sweep.local_sweep import LocalSweep
    from training.experiments.sweep.options import LocalSweepOptions
    from training.settings.tree import TrainingConfig

# The rest is imported where it is used, so that --help answers at once.

DESCRIPTION = (
    "Train a model on a task; without --model and --task: APT, a small language model, on HLBD data. One word "
    "(--backend) moves the same run to another place; the curve stays the same."
)


def main(argv: Sequence[str] | None = None, backend_name: str | None = None) -> int:
    """Run a command line and return the exit code.

    Args:
        argv: words after the program's name; None: those of this process.
        backend_name: backend of the script that was run, if it has one.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console or file that cannot show Chinese must not end the run
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)

    def enter() -> int:
        first, _ = launcher_parser().parse_known_args(words)
        if first.launch_dir is not None:
            work(Path(first.launch_dir), lambda: _main(words, first, backend_name))  # ends the process
        return _main(words, first, backend_name)

    stopped = "stopped at once; --resume goes on from the last checkpoint"  # a second Ctrl-C, or one outside training
    return exit_code_of(enter, "error", stopped, before_refusal=defer_to_first_rank)


def _main(argv: list[str], first: argparse.Namespace, backend_name: str | None) -> int:
    lists = {
        describe_backends: first.list_backends, describe_tasks: first.list_tasks, describe_models: first.list_models
    }  # fmt: skip
    if any(lists.values()):
        print("\n".join(line for describe_parts, is_asked in lists.items() if is_asked for line in describe_parts()))
        return 0
    if not first.help:
        identity = RankIdentity.of_environment()
        if (leftovers := remove_leftovers()) and (identity is None or identity.rank == 0):
            print(f"warning: {leftovers}", file=sys.stderr)
    first = with_begun_sweep(first)
    backend = asked_backend(first.backend if first.backend is not None else backend_name, _config_file(first))
    if backend != AUTO:
        return _run_named(backend, argv, first)
    if first.help:
        return _run_named(DEFAULT_BACKEND, argv, first)  # the help of all settings but those of the other backends
    return _run_chosen(argv, first)


def _config_file(first: argparse.Namespace) -> Path | None:
    """Return the file that may name backend, task and model: that of `--config`, else that of `--sweep`."""
    return find_config(first.config) if first.config is not None else sweep_file(first.sweep)


def _names(first: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line says of a choice, but the backend: arguments of `choose`."""
    return {
        "inner_backend": first.inner_backend,
        "task": first.task,
        "model": first.model,
        "config_file": _config_file(first),
        "resume": False if first.resume is None else first.resume,
        "run_dir": first.run_dir,
    }


def _start_from(first: argparse.Namespace) -> Path | None:
    return path_of("--start-from", first.start_from) if first.start_from is not None else None


def _parser(choice: Choice, tree: type[TrainingConfig]) -> OneLineParser:
    shown = {key: value for layer in choice.presets() for key, value in layer.settings.items()}
    parser = build_parser(tree, Path(sys.argv[0]).name, DESCRIPTION, shown)
    add_launcher_flags(parser)
    return parser


def _run_named(backend: str, argv: list[str], first: argparse.Namespace) -> int:
    """Do what the command line asks on a backend that was named."""
    choice = choose(backend=backend, **_names(first))
    if first.config is None:
        choice = replace(choice, config_file=None)  # the file of a sweep is a layer of its own: see `sweep_layers`
    sweeps_here = first.sweep is not None and not is_remote(choice.backend)
    tree = tree_of(choice, sweeps_here)
    parser = _parser(choice, tree)
    if first.help:
        parser.print_help()
        return 0
    given, known = parse_flags(parser, argv, tree)
    refuse_contradictions(first, remote=is_remote(choice.backend))
    begun, defaults = begun_layers(first)
    settings = [*begun, *sweep_layers(first, tree), Layer(FLAGS, given)]
    defaults = [*defaults, early_stopping_of(known)]
    if first.explain is not None:
        layers = layers_of(choice, settings, defaults=defaults, fetch=not first.dry_run)
        print(resolve_for(choice.backend, tree, layers).explain(first.explain))
        return 0
    settings, options = split_layers(settings, sweeps_here)
    prepared = prepare(
        choice,
        settings,
        defaults=defaults,
        start_from=_start_from(first),
        overwrite=first.overwrite,
        stop_after=first.stop_after,
        fetch=not first.dry_run,
    )
    return _show_or_run(prepared, first, resolve_options(options) if sweeps_here else None)


def _run_chosen(argv: list[str], first: argparse.Namespace) -> int:
    """Do what the command line asks on the backend and layout that are chosen for this machine."""
    from training.forecast.backend_choice import run_or_choice
    from training.forecast.choice_table import kept_line, shown, table_lines

    if first.sweep is not None:
        raise ConfigError(
            "--sweep and --backend auto do not go together: its trials share the machine; name the backend, which "
            "--backend auto --dry-run without the sweep shows"
        )
    refuse_contradictions(first, remote=False)

    def read(choice: Choice) -> tuple[list[Layer], list[Layer]]:
        given, known = parse_flags(_parser(choice, choice.config_class), argv, choice.config_class)
        return [Layer(FLAGS, given)], [early_stopping_of(known)]

    found = run_or_choice(read, **_names(first), start_from=_start_from(first), overwrite=first.overwrite)
    lines: Sequence[str]
    if isinstance(found, PreparedRun):
        prepared, lines = found, [kept_line(found)]
    else:
        lines = list(table_lines(found))
        if found.chosen is None and first.explain is None:
            choose_language(found.language)
            print("\n".join(line for text in lines for line in shown(text)))
        prepared = found.prepared  # or its refusal
    if first.explain is not None:
        print(resolve_for(prepared.backend, type(prepared.request.config), prepared.layers).explain(first.explain))
        return 0
    prepared = replace(prepared, request=replace(prepared.request, stop_after=first.stop_after))
    return _show_or_run(prepared, first, why=lines)


def _show_or_run(
    prepared: PreparedRun, first: argparse.Namespace, options: LocalSweepOptions | None = None, why: Sequence[str] = ()
) -> int:
    """Print the plan of a run or a sweep for `--dry-run`, else carry it out.

    Args:
        prepared: the run.
        first: the launcher's flags.
        options: of the sweep of which it is the run that is varied; None: it is none of a sweep.
        why: texts on how the backend was chosen.
    """
    config, asked = prepared.request.config, prepared.request.resume_from
    choose_language(config.report.lang)
    said: list[str] = []
    if why:
        from training.forecast.choice_table import shown

        said = [line for text in why for line in shown(text)]
    if asked is not None and not is_worker() and not is_remote(prepared.backend):
        path_to_go_on_from(asked, config.run.run_dir)  # said now, not after the data was read
    sweep = None
    if options is not None:
        from training.experiments.sweep.local_sweep import LocalSweep

        sweep = LocalSweep(prepared, options)
    if first.dry_run:
        print("\n".join([*_plan_lines(prepared, said), *(f"# {line}" for line in (sweep.lines() if sweep else ()))]))
        if first.compare is None and sweep is None:  # these make a directory for each run
            _refuse_taken_directory(prepared.request)
        return 0
    with output_may_be_lost():
        if said:
            print("\n".join(said), flush=True)
        return _run(prepared, first, sweep)


def _run(prepared: PreparedRun, first: argparse.Namespace, sweep: LocalSweep | None) -> int:
    """Check early what would fail late, then do what the command line asks."""
    backend, request, config = prepared.backend, prepared.request, prepared.request.config
    available = backend.check()
    if not available.ok:
        raise ConfigError(f"--backend {backend.name}: {available.reason}; run: {available.fix}")
    if (first.estimate or sweep is not None) and is_worker():
        name = "--estimate" if first.estimate else "--sweep"
        raise ConfigError(f"{name} runs in one process, and a launcher started this one; call it without a launcher")
    if first.estimate:
        from training.forecast.estimate import print_estimate  # imports torch

        return print_estimate(config)
    if "mlflow" in config.track.track:
        from training.azure.service import mlflow_store  # a workspace of Azure ML is an MLflow server with a login

        mlflow_store.register()
    if not is_worker() and not is_remote(backend):
        from training.loop.preflight import check_services

        check_services(config)
    if sweep is not None:
        return sweep.run()
    if first.compare is not None:
        from training.experiments.comparison import LEAST_SEEDS, compare, parse_comparison

        comparison = parse_comparison(first.compare, first.compare_seeds or LEAST_SEEDS, type(config), config.run.seed)
        return compare(comparison, prepared)
    if not is_worker() and not is_remote(backend):
        _refuse_taken_directory(request)  # before data is read for minutes, and before processes start
    if prepared.plan is not None and not is_worker():
        from training.launch.launcher import launch

        return launch(prepared.plan, request)
    return backend.run(request).exit_code


def _refuse_taken_directory(request: RunRequest) -> None:
    from training.checkpoints.run_directory import RunDirectory

    directory = RunDirectory(request.config.run.run_dir, claim=False)
    directory.refuse_taken(resume=request.resume, overwrite=request.overwrite)


def _plan_lines(prepared: PreparedRun, said: Sequence[str]) -> Iterator[str]:
    from training.forecast.dry_run import dry_run_lines
    from training.launch.launcher import describe

    request, plan, backend = prepared.request, prepared.plan, prepared.backend
    if is_remote(backend):
        yield from backend.dry_run(request)
        return
    yield request.config.to_yaml().rstrip("\n")
    yield from (f"# {line}" for line in said)
    for line in dry_run_lines(request.config):
        yield f"# {line}"
    yield f"# plan: {'runs in this process' if plan is None else describe(plan, request)}"


if __name__ == "__main__":
    leave(main())
