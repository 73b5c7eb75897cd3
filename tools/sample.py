"""Draw samples from a trained diffusion model: a grid of images, a plot of vectors, or a film of how they form.

    python tools/sample.py --model runs/digits --output grid.png
    python tools/sample.py --model runs/digits --class 3 --guidance 2 --seed 7 --count 64 --output threes.png
    python tools/sample.py --model runs/digits --sampler dpmpp_2m --steps 20 --output film.gif
    python tools/sample.py --model runs/moons --count 5000 --output moons.npz

MODEL is a run directory, also of a run that is not finished; a final_model/, a checkpoint_*; or a pipeline directory of
diffusers: with a UNet2DModel (DDPMPipeline, DDIMPipeline), or of the Stable Diffusion family, which reads --prompt. Any
sampler takes any number of steps. Of a model that was trained with an average of its weights (ema_decay), the average
draws.

A sample is a function of --seed and of its number alone: the same however many are drawn, and at whatever --at-once.
Without --class a model with classes draws all of them in turn. An .npz has `samples`, as the data had them (images from
-1 to 1), and `labels` (-1: no class).

Exit code: 0, or 2 for unusable input.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    from training.machine.startup import begin

    begin()

from tools.command_line import MOST_SEED, CommandLine, finish, number_between, one_of, path_given, whole_number
from tools.figures.output_file import check_writable, write_atomically
from training.errors import UserError, did_you_mean, printable
from training.language.messages import Message, say

if TYPE_CHECKING:
    from torch import nn

    from training.models.denoiser import DenoiserFamily, LatentSpace
    from training.tasks.diffusion.drawing import Prompts

DEVICES = ("auto", "cpu", "cuda", "mps")
PICTURE, FILM, NUMBERS = ".png", ".gif", ".npz"
BEGINNINGS = {NUMBERS: b"PK"}
MOST_STEPS = 100_000
MOST_SAMPLES = 10_000_000
MOST_PICTURED = 4096
"""Images or points of a picture; an .npz takes more."""
MOST_GUIDANCE = 1000.0
NO_CLASS = "none"


def _parser() -> CommandLine:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--model", metavar="PATH", type=path_given, required=True, help="run, checkpoint, or model directory")
    add("--sampler", metavar="NAME", default="ddim", help="ddpm, ddim, euler, euler_ancestral, heun, dpmpp_2m or unipc")
    add("--steps", metavar="N", default="50", help="steps of the sampler (default: %(default)s)")
    add(
        "--spacing",
        metavar="NAME",
        help="noise levels of the steps: levels, karras or geometric (default: the model's)",
    )
    add("--guidance", metavar="W", default="1", help="classifier-free guidance; 1: none (default: %(default)s)")
    add("--seed", metavar="N", default="0", help="the same seed draws the same samples (default: %(default)s)")
    add("--count", metavar="N", default="16", help="number of samples (default: %(default)s)")
    add("--class", metavar="NAME", dest="classes", nargs="+", default=[], help="names or numbers of classes, or none")
    add("--prompt", metavar="TEXT", dest="prompts", nargs="+", default=[], help="texts, for a model that reads them")
    add("--at-once", metavar="N", default="256", help="samples that are drawn together (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda or mps (default: the best one here)")
    add("--output", metavar="FILE", type=path_given, required=True, help=".png, .gif (the way from noise) or .npz")
    add("--overwrite", action="store_true", help="replace a file that exists")
    return parser


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        UserError: the input cannot be used; nothing has been written then.
    """
    args = _parser().parse_args(arguments)
    steps = whole_number("--steps", args.steps, 1, MOST_STEPS)
    count = whole_number("--count", args.count, 1, MOST_SAMPLES)
    at_once = whole_number("--at-once", args.at_once, 1, MOST_SAMPLES)
    seed = whole_number("--seed", args.seed, 0, MOST_SEED)
    guidance = number_between("--guidance", args.guidance, 0.0, MOST_GUIDANCE)
    one_of("--device", args.device, "device", DEVICES)
    _check_output(args.output, args.overwrite, count)

    # Imported here, so that --help and a misspelt flag do not wait for torch.
    from training.diffusion.noise_schedules import SPACINGS
    from training.diffusion.samplers import SAMPLERS
    from training.machine.device import pick_device
    from training.tasks.diffusion.drawing import Sampling, draw_samples

    one_of("--sampler", args.sampler, "sampler", SAMPLERS)
    if args.spacing is not None:
        one_of("--spacing", args.spacing, "spacing", SPACINGS)
    device = pick_device(None if args.device == "auto" else args.device)
    model, family, diffusion, space = _trained(args.model)
    labels = _labels(args.classes, count, diffusion)
    prompts = _prompts(args.prompts, count, space)
    if args.output.suffix.lower() == FILM:
        _refuse_long_film(steps)
    how = Sampling(args.sampler, steps, guidance, seed, args.spacing)
    drawn = draw_samples(
        model.to(device), family, diffusion, how, labels, at_once=at_once,
        with_frames=args.output.suffix.lower() == FILM, prompts=prompts,
    )  # fmt: skip
    _refuse_not_finite(drawn.values, args.model)
    write_atomically(args.output, _content(args.output, drawn, labels, diffusion["class_names"]))
    say(
        Message(
            "drew {count:,} samples of {model} ({sampler}, {steps:,} steps, seed {seed}): {path}",
            count=count, model=args.model, sampler=args.sampler, steps=steps, seed=seed, path=args.output,
        ),
        file=sys.stderr,
    )  # fmt: skip
    return 0


def _check_output(path: Path, overwrite: bool, count: int) -> None:
    check_writable("--output", path, (PICTURE, FILM, NUMBERS), BEGINNINGS.get(path.suffix.lower()))
    if path.exists() and not overwrite:
        raise UserError(f"--output {path}: this file exists; replace it (--overwrite) or choose another name")
    if path.suffix.lower() != NUMBERS and count > MOST_PICTURED:
        raise UserError(f"--count {count}: a picture shows {MOST_PICTURED} samples at most; give --output FILE.npz")


def _refuse_long_film(steps: int) -> None:
    if steps < 2:  # a film of one step would be the noise and the result
        raise UserError(f"--steps {steps}: a film (.gif) shows how samples form; give more steps, or --output FILE.png")


def _prompts(given: Sequence[str], count: int, space: LatentSpace | None) -> Prompts | None:
    """Return the text of each sample; None: the model reads none.

    Raises:
        UserError: a text is missing, or the model reads none.
    """
    from training.tasks.diffusion.drawing import Prompts

    if space is None:
        if given:
            raise UserError(f"--prompt {given[0]}: this model reads no text; leave --prompt out")
        return None
    if not given:
        raise UserError("--prompt is missing: this model draws for a text; give --prompt TEXT, or --prompt '' for none")
    return Prompts([given[n * len(given) // count] for n in range(count)], space)


def _trained(path: Path) -> tuple[nn.Module, DenoiserFamily, Mapping[str, Any], LatentSpace | None]:
    """Return the diffusion model at a path, its family, what it was trained on, and its VAE and text encoder.

    Raises:
        UserError: there is none.
    """
    from training.checkpoints.finished_model import load_trained_model
    from training.models.denoiser import DIFFUSION

    trained = load_trained_model(path)
    if DIFFUSION not in trained.artefacts:
        raise UserError(
            f"--model {path}: this is a model of the family {trained.family.name}, which draws no samples from noise; "
            "give one of --task diffusion (tools/chat.py talks to a language model)"
        )
    family: Any = trained.family
    return trained.model, family, trained.artefacts[DIFFUSION], family.latent_space(trained.options)


def _labels(given: Sequence[str], count: int, diffusion: Mapping[str, Any]) -> list[int | None]:
    """Return the class of each sample.

    Raises:
        UserError: there is no such class.
    """
    from training.tasks.diffusion.drawing import labels_in_turn

    names: Sequence[str] | None = diffusion["class_names"]
    if not given:
        return labels_in_turn(count, len(names or ()))
    if not names:
        raise UserError(f"--class {given[0]}: this model was trained without classes; leave --class out")
    chosen = [_class_of(one, names) for one in given]
    if None in chosen and diffusion.get("condition_dropout") == 0.0:
        raise UserError(
            "--class none: this model has learned no sample without its class (condition_dropout was 0); name a class"
        )
    return [chosen[n * len(chosen) // count] for n in range(count)]


def _class_of(given: str, names: Sequence[str]) -> int | None:
    if given in names:
        return list(names).index(given)
    if given == NO_CLASS:
        return None
    if given.isascii() and given.isdigit() and len(given) < 10 and int(given) < len(names):
        return int(given)
    shown = ", ".join(map(printable, names[:12])) + (", …" if len(names) > 12 else "")
    raise UserError(f"--class {given}: unknown class{did_you_mean(given, names)}; the model knows {shown}, or none")


def _refuse_not_finite(values: Any, model: Path) -> None:
    import numpy as np

    broken = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
    if broken:
        raise UserError(
            f"--model {model}: {broken} of {len(values)} samples are not finite; take a lower --guidance or more "
            "--steps, and if that does not help, the model has diverged in training"
        )


def _content(path: Path, drawn: Any, labels: Sequence[int | None], names: Sequence[str] | None) -> bytes:
    from training.tasks.diffusion.drawing import film_of, picture_of

    kind = path.suffix.lower()
    if kind == FILM:
        return film_of(drawn.frames, labels, names)
    if kind == PICTURE:
        return picture_of(drawn.values, labels, names)
    import numpy as np

    buffer = io.BytesIO()
    numbers = np.array([-1 if label is None else label for label in labels], np.int64)
    np.savez(buffer, samples=drawn.values, labels=numbers)
    return buffer.getvalue()


def main() -> int:
    """Run the tool as a process; its module docstring lists the exit codes."""
    return finish("sample", run)


if __name__ == "__main__":
    sys.exit(main())
