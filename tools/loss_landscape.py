"""Measure the loss around a run's weights, on a plane, and draw it with the run's path (docs/LOSS_LANDSCAPE.md).

    python tools/loss_landscape.py runs/default --output landscape.png
    python tools/loss_landscape.py runs/default --directions random --budget 600 --output landscape.json

Every height is a forward pass of the run's own model on samples of its own training data: 5 x 5 points first, then
finer grids while the budget lasts. The results are kept in RUN/landscape/, and the next call continues from there.

Exit code: 0, or 2 for unusable input or a run that has nothing to measure yet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import MOST_SEED, CommandLine, finish, number_between, one_of, path_given, whole_number
from training.errors import printable

if TYPE_CHECKING:
    from tools.landscape.study import Result

OUTPUTS = (".png", ".json")
DEVICES = ("auto", "cpu", "cuda", "mps")


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("run_dir", metavar="RUN", type=path_given, help="a run directory; the run may still be training")
    add("--output", metavar="FILE", type=path_given, help="draw the surface (.png) or write its numbers (.json)")
    add("--directions", choices=["pca", "random"], help="default: pca where the run has snapshots, else random")
    add("--resolution", metavar="N", default="25", help="points per side of the finest grid: 5, 9, 13, … (default: 25)")
    add("--budget", metavar="SECONDS", default="60", help="stop measuring after this time (default: 60)")
    add("--probe", metavar="N", default="64", help="training samples that the loss is measured on (default: 64)")
    add("--span", metavar="X", default="1", help="scale the measured rectangle by X (default: 1)")
    add("--seed", metavar="N", default="0", help="seed of the probe and of random directions (default: 0)")
    add("--checkpoint", metavar="PATH", type=path_given, help="weights at the centre (default: the run's newest)")
    add("--datasets", metavar="FILE", nargs="+", default=[], help="the run's data files, if they have moved")
    add("--device", default="auto", help=f"{', '.join(DEVICES)} (default: the best one here)")
    add("--dpi", metavar="N", default="110", help="dots per inch of the picture (default: 110; 300 for print)")
    return parser


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the input cannot be used; nothing has been written then.
    """
    args = _parser().parse_args(arguments)
    probe, seed = whole_number("--probe", args.probe, 1, 10**6), whole_number("--seed", args.seed, 0, MOST_SEED)
    resolution, dpi = whole_number("--resolution", args.resolution, 1, 1025), whole_number("--dpi", args.dpi, 20, 600)
    budget_seconds = number_between("--budget", args.budget, 1e-9, 7 * 86400.0, "seconds")
    span = number_between("--span", args.span, 0.001, 1000.0, "widths")
    one_of("--device", args.device, "device", DEVICES)

    # Imported here, so that --help and a misspelt flag do not wait for torch.
    from tools.figures.output_file import check_writable, write_atomically
    from tools.landscape.grid import check_resolution
    from tools.landscape.measurement import Budget
    from tools.landscape.study import Settings, study
    from tools.landscape.surface import dumps

    check_writable("--output", args.output, OUTPUTS)
    settings = Settings(
        directions=args.directions,
        resolution=check_resolution(resolution),
        span=span,
        num_samples=probe,
        seed=seed,
        checkpoint=args.checkpoint,
        datasets=args.datasets,
        device=args.device,
    )
    result = study(args.run_dir, settings, Budget(budget_seconds))
    for line in _summary(result, args.budget):
        print(printable(line))
    if args.output is not None and args.output.suffix.lower() == ".json":
        write_atomically(args.output, (dumps(result.surface.finest()) + "\n").encode())
    elif args.output is not None:
        from tools.landscape.figure import draw

        name = args.run_dir.resolve().name
        for note in draw(result.surface.finest(), name, args.output, dpi):
            print(f"note      {printable(note)}")
    if args.output is not None:
        print(f"wrote     {printable(args.output)}")
    return 0


def _summary(result: Result, budget: str) -> Iterator[str]:
    """Yield lines that say what was measured and how far it can be trusted."""
    whole = result.surface
    shown = whole.finest()
    yield (
        f"centre    {whole.center} after {whole.center_step} updates: loss {whole.center_loss:.4f} of a token, on "
        f"{result.num_samples} training samples ({whole.probe_tokens} tokens)"
    )
    if whole.explained_variance is None:
        yield "plane     two random directions, filter-normalised"
    else:
        first, second = whole.explained_variance
        yield (
            f"plane     the path's two main directions, which hold {first:.1%} and {second:.1%} of its squared "
            "distance from the centre"
        )
    num_points = len(whole.path_steps)
    if num_points > 1:
        far = whole.path_distance.max()
        yield (
            f"path      {num_points} points, up to {far:.3g} away from the plane ({far / whole.center_norm:.1%} of the "
            "weights' length)"
        )
        gap = abs(whole.path_loss - whole.path_plane_loss)
        if (gap == gap).all():
            worst = int(gap.argmax())
            yield (
                f"          its loss differs most from the plane's at step {whole.path_steps[worst]}: "
                f"{whole.path_loss[worst]:.4f} and {whole.path_plane_loss[worst]:.4f}"
            )
    else:
        yield "path      the run has no weight snapshots (setting `snapshots`), so no path is shown"
    size = f"{len(shown.alphas)} x {len(shown.betas)}"
    if whole.finished:
        source = f"{result.forward_passes} forward passes" if result.forward_passes else "nothing new to measure"
        yield f"surface   {size} points in {whole.seconds:.1f} s ({source})"
    else:
        yield (
            f"surface   {size} points so far: --budget {budget} s were not enough for {whole.resolution} x "
            f"{whole.resolution}; the same command continues"
        )
    yield f"kept in   {result.file}"


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("loss_landscape", run, "stopped; the same command continues from what is kept")


if __name__ == "__main__":
    sys.exit(main())
