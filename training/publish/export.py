"""Exporting a trained model: the Hugging Face form with a model card, and pushing it when a run has finished."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from training.checkpoints.finished_model import TrainedModel
from training.errors import UserError
from training.language.messages import Message, say
from training.publish.hub import push
from training.publish.model_card import CARD_NAME, model_card
from training.publish.model_facts import ModelFacts, facts_of
from training.record.curve_figure import FIGURE_NAME, curve_figure
from training.settings.hub import HubConfig
from training.storage.atomic import write_atomically

Form = Literal["huggingface", "onnx"]


def export(trained: TrainedModel, facts: ModelFacts, directory: Path, place: str, form: Form = "huggingface") -> None:
    """Write the model's directory, as its family does, with its card; an older directory is replaced whole.

    Args:
        trained: the model.
        facts: content of the card.
        directory: target.
        place: name of it in the card: OWNER/NAME on the Hub, or the directory's name.
        form: onnx: with `onnx/model.onnx` in it.

    Raises:
        UserError: the disk refuses, or ONNX Runtime does not compute what PyTorch does.
    """
    try:
        trained.save(directory)
        if form == "onnx":
            from training.publish.onnx_export import ONNX_NAME, write_onnx

            write_onnx(trained, directory / ONNX_NAME)
        write_card(facts, directory, place, has_onnx=form == "onnx")
    except OSError as error:
        raise UserError(
            f"{directory}: the model could not be written ({error.strerror}); choose another place"
        ) from error


def write_card(facts: ModelFacts, directory: Path, place: str, *, has_onnx: bool = False) -> None:
    """Write `README.md` and the figure in it; both depend on the facts alone.

    Raises:
        OSError: the disk refuses.
    """
    figure = curve_figure(dict(facts.report), facts.step) if facts.report else None
    if figure is not None:
        write_atomically(directory / FIGURE_NAME, figure, durable=True)
    else:
        (directory / FIGURE_NAME).unlink(missing_ok=True)
    card = model_card(facts, place, has_curve=figure is not None, has_onnx=has_onnx)
    write_atomically(directory / CARD_NAME, card.encode(), durable=True)


def push_final_model(trained: TrainedModel, settings: HubConfig) -> str | None:
    """Publish a finished run's `final_model/`, with its card, if the settings ask for it.

    A push that fails takes nothing from the run: the reason is returned, not raised.

    Args:
        trained: the final model; its origin is the run's `final_model/`.
        settings: which repository.

    Returns:
        One line about a push that failed, with the command that pushes again; None: it is published, or nobody asked
        for it.
    """
    repo = settings.push_to_hub
    if repo is None:
        return None
    try:
        write_card(facts_of(trained), trained.origin, repo)
        page = push(trained.origin, repo, settings.private)
    except (UserError, OSError, KeyboardInterrupt) as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        again = f"python tools/export_model.py {shlex.quote(str(trained.origin.parent))} --push-to-hub {repo}"
        return Message(
            "the run is finished, but the push to {repo} failed: {reason}; push again with: {command}",
            repo=repo,
            reason=reason,
            command=f"{again}{' --private' if settings.private else ''}",
        )
    say(Message("pushed  {page}", page=page))
    return None
