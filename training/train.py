"""The dispatcher: parse, resolve, check, plan, run. `python train.py` and `python training/train.py` are the same."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # Run by path, Python puts this folder first on sys.path; its files must not shadow anybody's modules.
    sys.path[:] = [str(ROOT), *(p for p in sys.path if p and Path(p).resolve() != Path(__file__).parent)]

from training.azure.service import mlflow_store
from training.backends import registry
from training.backends.inner_backend import inner_backend_of, is_elsewhere, settings_elsewhere, with_options
from training.backends.preflight import preflight, refuse_unsupported
from training.backends.protocol import Backend, LaunchPlan, RunRequest, is_remote
from training.errors import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, ConfigError, UserError
from training.experiments.comparison import compare, parse_comparison
from training.forecast.dry_run import dry_run_lines
from training.launch.launcher import describe, launch
from training.launch.worker import is_worker, leave, work
from training.settings.flags import (
    add_launcher_flags,
    build_parser,
    early_stopping_of,
    launcher_parser,
    parse_flags,
    refuse_contradictions,
)
from training.settings.layers import Layer, backend_in, find_config, read_yaml_layer, resolve, settings_of_run

DESCRIPTION = (
    "Train APT, a small language model, on HLBD data. One word (--backend) moves the same run to another place; "
    "the curve stays the same."
)


def main(argv: Sequence[str] | None = None, backend_name: str | None = None) -> int:
    """The front door. `backend_name` is set when a backend's own script was run. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console or a file that cannot hold Chinese must not cost the run
            stream.reconfigure(errors="backslashreplace")
    mlflow_store.register()
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        first, _ = launcher_parser().parse_known_args(words)
        if first.launch_dir is not None:
            work(Path(first.launch_dir), lambda: _main(words, first, backend_name))  # ends the process
        exit_code = _main(words, first, backend_name)
        sys.stdout.flush()  # here, where a reader that has left can still be caught
        return exit_code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:  # a second Ctrl-C, or one outside of training
        print("stopped at once; --resume goes on from the last checkpoint", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `train.py --help | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _main(argv: list[str], first: argparse.Namespace, backend_name: str | None) -> int:
    if first.list_backends:
        print("\n".join(registry.describe()))
        return 0
    config_file = find_config(first.config) if first.config is not None else None
    given = (first.backend, backend_name, backend_in(config_file), "playground")
    name = next(name for name in given if name is not None)
    backend_class = registry.load(name)
    backend = backend_class()
    inner = inner_backend_of(backend, first.inner_backend, config_file)
    config_class = with_options(backend_class, *([inner] if inner else []))

    layers: dict[str, Layer] = {}
    if preset := (inner or backend_class).preset:
        layers[f"preset {preset}"] = read_yaml_layer(find_config(preset), config_class)
    below = {key: value for layer in layers.values() for key, value in layer.items()}
    parser = build_parser(config_class, Path(sys.argv[0]).name, DESCRIPTION, below)
    add_launcher_flags(parser)
    if first.help:
        parser.print_help()
        return 0
    flags, known = parse_flags(parser, argv, config_class)
    layers["--early-stopping"] = early_stopping_of(known)
    resumed_run = f"the resumed run ({first.resume})"
    if isinstance(first.resume, str):
        layers[resumed_run] = settings_of_run(Path(first.resume), config_class)
    if config_file:
        layers[str(config_file)] = read_yaml_layer(config_file, config_class)
    layers["flags"] = flags | {"backend": name}
    refuse_contradictions(first, remote=is_remote(backend))
    if is_remote(backend) and is_elsewhere(first.resume) and not first.dry_run:
        layers[resumed_run] = settings_elsewhere(backend, first.resume, layers, config_class)
    resolved = resolve(config_class, layers)

    if first.explain is not None:
        print(resolved.explain(first.explain))
        return 0
    resume = first.resume is not None
    refuse_unsupported(backend, resolved.config, resume)
    backend.validate(resolved.config)
    plan = backend.plan(resolved.config)
    request = RunRequest(
        config=resolved.config,
        resume=resume,
        resume_from=Path(first.resume) if isinstance(first.resume, str) else None,
        start_from=Path(first.start_from) if first.start_from is not None else None,
        overwrite=first.overwrite,
        origins=resolved.origins,
    )
    if first.dry_run:
        _print_plan(request, plan, backend)
        return 0
    available = backend.check()
    if not available.ok:
        raise ConfigError(f"--backend {name}: {available.reason}; run: {available.fix}")
    if first.estimate and is_worker():
        raise ConfigError("--estimate runs in one process, and a launcher started this one; call it without a launcher")
    if first.estimate:
        from training.forecast.estimate import print_estimate  # brings in torch

        return print_estimate(resolved.config)
    if not is_worker() and not is_remote(backend):
        preflight(resolved.config)
    if first.compare is not None:
        comparison = parse_comparison(first.compare, first.compare_seeds, config_class, resolved.config.run.seed)
        return compare(comparison, config_class, layers, resume=resume, overwrite=first.overwrite)
    if plan is not None and not is_worker():
        return launch(plan, request)
    return backend.run(request).exit_code


def _print_plan(request: RunRequest, plan: LaunchPlan | None, backend: Backend) -> None:
    if is_remote(backend):
        print("\n".join(backend.dry_run(request)))
        return
    print(request.config.to_yaml(), end="")
    for line in dry_run_lines(request.config):
        print(f"# {line}")
    print(f"# plan: {'runs in this process' if plan is None else describe(plan, request)}")


if __name__ == "__main__":
    leave(main())
