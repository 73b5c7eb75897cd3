"""Export a trained model: its directory with a model card, ONNX, or straight to the Hub.

    python tools/export_model.py runs/default --output my_model
    python tools/export_model.py runs/default --push-to-hub OWNER/NAME --private
    python tools/export_model.py runs/default/checkpoint_epoch_25 --output my_model --format onnx

MODEL is a final_model.pt, a checkpoint_*, a final_model/ or a run directory. The card reports what the run's record
holds and what tools/verify_hlbd_model.py --json found (docs/EXPORT.md).

Exit code: 0, or 2 for unusable input and for a push that failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import CommandLine, finish, path_given
from training.errors import UserError, did_you_mean, printable
from training.settings.hub import fault_of_repo

FORMATS = ("huggingface", "onnx")
WHY_NOT_GGUF = (
    "--format gguf: there is no such export. GGUF files are read by llama.cpp, which builds only the networks and "
    "tokenizers that it knows by name (docs/EXPORT.md). Use --format huggingface or onnx"
)


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("model", metavar="MODEL", type=path_given, help="model file, checkpoint, or directory")
    add("--output", metavar="DIR", type=path_given, help="directory to write; it must not exist")
    add("--overwrite", action="store_true", help="replace a model directory that exists")
    add(
        "--format",
        default="huggingface",
        help="huggingface: weights, settings and card, for transformers where the model family has a form for it; "
        "onnx: also onnx/model.onnx (default: %(default)s)",
    )
    add(
        "--verification",
        metavar="FILE",
        type=path_given,
        help="verifier's report (default: verification.json of the run)",
    )
    add("--push-to-hub", metavar="REPO", help="upload it to this repository of the Hugging Face Hub, OWNER/NAME")
    add("--private", action="store_true", help="make the repository private; an existing one must be private")
    return parser


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the input cannot be used; nothing has been written then.
    """
    args = _parser().parse_args(arguments)
    repo: str | None = args.push_to_hub
    _refuse_contradictions(args)

    # Imported here, so that --help and a misspelt flag do not wait for torch.
    from training.checkpoints.finished_model import load_trained_model
    from training.publish.export import export
    from training.publish.hub import find_token, push
    from training.publish.model_facts import facts_of

    if args.format == "onnx":
        from training.publish.onnx_export import check_onnx

        check_onnx()
    if repo is not None:
        _naming_the_flag(repo, find_token)
    if args.output is not None:
        _refuse_foreign_directory(args.output, args.overwrite)
    trained = load_trained_model(args.model)
    facts = facts_of(trained, args.verification)
    for note in facts.notes:
        print(f"note     {printable(note)}")
    with tempfile.TemporaryDirectory(prefix="apt_export_") as temporary:
        directory: Path = args.output or Path(temporary) / "model"
        export(trained, facts, directory, repo or directory.resolve().name, args.format)
        if args.output is not None:
            print(f"exported {printable(trained.origin)} to {printable(directory)}/ ({args.format})")
        if repo is not None:
            print(f"pushed   {_naming_the_flag(repo, lambda: push(directory, repo, args.private))}")
    return 0


def _naming_the_flag(repo: str, step: Callable[[], str]) -> str:
    """Do one step of publishing; if it fails, name the flag in the error."""
    from training.publish.hub import HubError

    try:
        return step()
    except HubError as error:
        raise HubError(f"--push-to-hub {repo}: {error}") from error


def _refuse_contradictions(args: argparse.Namespace) -> None:
    if args.format == "gguf":
        raise UserError(WHY_NOT_GGUF)
    if args.format not in FORMATS:
        hint = did_you_mean(args.format, FORMATS)
        raise UserError(f"--format must be one of {', '.join(FORMATS)}, got {args.format!r}{hint}")
    if args.output is None and args.push_to_hub is None:
        raise UserError("nothing to do; give --output DIR, --push-to-hub OWNER/NAME, or both")
    if args.private and args.push_to_hub is None:
        raise UserError("--private says who may see what is pushed, and nothing is; add --push-to-hub OWNER/NAME")
    if args.push_to_hub is not None and (fault := fault_of_repo(args.push_to_hub)) is not None:
        raise UserError(f"--push-to-hub {args.push_to_hub!r} is not a repository of the Hub: it {fault}")


def _refuse_foreign_directory(path: Path, overwrite: bool) -> None:
    """Refuse a path with anything in it, except a model that the user wants replaced: the export replaces it whole."""
    from training.checkpoints.finished_model import load_model_directory

    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UserError(f"--output {path}: this is not a directory; choose another")
    if path.resolve() == Path.cwd() or not path.name:
        raise UserError(f"--output {path}: the export would replace the working directory; choose another")
    if not path.exists() or not any(path.iterdir()):
        return
    try:
        load_model_directory(path)
    except UserError as error:
        message = f"--output {path}: there are other files in it, and the export would replace them; choose another"
        raise UserError(message) from error
    if not overwrite:
        raise UserError(f"--output {path}: there is a model in it already; replace it (--overwrite) or choose another")


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("export_model", run)


if __name__ == "__main__":
    sys.exit(main())
