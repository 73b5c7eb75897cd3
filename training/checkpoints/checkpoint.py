"""Checkpoints: a directory with a manifest, written whole or not at all, checked when read.

    checkpoint_epoch_25/
      manifest.json           which files belong to it, with sizes and checksums; format version, step, config hash
      model.safetensors       the weights by parameter name
      optimizer.safetensors   adamw/blocks.0.attention.qkv.weight/exp_avg, …
      average.safetensors     the moving average of the trained weights, if the run keeps one
      tensors.safetensors     other tensors (stabilizer), if there are any
      state.json              all the rest: counters, config, data fingerprint
      tokenizer.json          as in final_model/
      …                       what the engine's own tools want to find (DeepSpeed's shards)

It is the same whatever backend and number of ranks wrote it, and this program puts no pickle in it. An engine may add
files between `begin` and `commit`; the manifest covers them too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from safetensors import SafetensorError

from training.checkpoints.finite_weights import refuse_not_finite
from training.checkpoints.manifest import (
    BEST_NAME,
    check_files,
    checkpoint_directories,
    existing_form,
    read_manifest,
    write_manifest,
)
from training.checkpoints.serialization import STATE, read_payload, write_payload
from training.checkpoints.single_file import load_single_file
from training.engines.protocol import Engine
from training.errors import CheckpointError
from training.machine.ranks import Ranks
from training.storage.atomic import delete_whole, make_temporary, put_in_place, temporary_of
from training.storage.disk_refusals import disk_refusals
from training.storage.json_files import DamagedFileError, as_declared


@dataclass(frozen=True)
class DataIdentity:
    """Which training data a run has: a resumed run must have the same."""

    num_samples: int
    fingerprint: str | None


@dataclass(frozen=True)
class Origin:
    """Which run wrote a checkpoint, and where."""

    run_id: str | None = None
    backend: str | None = None
    world_size: int | None = None
    device: str | None = None
    config_hash: str | None = None
    """`TrainingConfig.curve_hash`."""
    layout: Mapping[str, Any] | None = None
    """`Engine.layout`; None: an older checkpoint does not say."""


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a run after an update."""

    step: int
    """Updates done."""
    total_steps: int
    """Length of the run as it was planned then."""
    config: Mapping[str, Any]
    """Settings as plain data: `TrainingConfig.to_dict()`."""
    engine: Mapping[str, Any]
    """`Engine.state_dict()`: the same form from every engine."""
    loop: Mapping[str, Any]
    """Counters of the loop and states of early stopping, skipped updates and callbacks."""
    artefacts: Mapping[str, Any]
    """Plain data of the task, such as the tokenizer."""
    data: DataIdentity
    origin: Origin
    vocabulary: int | None = None
    """Number of tokens, with which the model is built again; None: there are none, or the model's settings say."""

    def to_payload(self) -> dict[str, Any]:
        """Return nested plain data and tensors, as the checkpoint's files hold them."""
        origin = self.origin
        return {
            "kind": "checkpoint",
            "step": self.step,
            "total_steps": self.total_steps,
            "run_id": origin.run_id,
            "backend": origin.backend,
            "config": dict(self.config),
            "config_hash": origin.config_hash,
            "num_samples": self.data.num_samples,
            "data_fingerprint": self.data.fingerprint,
            "loop": dict(self.loop),
            **(
                {"tokenizer": self.artefacts["tokenizer"]} if "tokenizer" in self.artefacts else {}
            ),  # a file of its own
            "artefacts": {name: value for name, value in self.artefacts.items() if name != "tokenizer"},
            "world_size": origin.world_size,
            "device": origin.device,
            "layout": origin.layout,
            "vocabulary": self.vocabulary,
            "engine": dict(self.engine),
        }

    @classmethod
    def from_payload(cls, path: Path, payload: Mapping[str, Any]) -> Self:
        """Read what `to_payload` gave, or an older form of it.

        Raises:
            CheckpointError: it is a finished model, or a part of it is missing or of another kind.
        """
        if payload.get("kind") == "final_model":
            raise CheckpointError(
                f"--resume {path}: this is a finished model without training state; give a checkpoint_*"
            )
        where = path / STATE
        try:
            saved = as_declared(payload, SavedState, where)
            loop = _present_form(saved.loop)
            as_declared(loop, SavedLoop, f"{where}: loop")
        except DamagedFileError as error:
            raise CheckpointError(f"{error}; it is not the state of a run") from error
        return cls(
            step=saved.step,
            total_steps=saved.total_steps,
            config=payload["config"],
            engine=saved.engine,
            loop=loop,
            artefacts=artefacts_of(payload),
            data=DataIdentity(saved.num_samples, saved.data_fingerprint),
            origin=Origin(saved.run_id, saved.backend, saved.world_size, saved.device, saved.config_hash, saved.layout),
            vocabulary=saved.vocabulary,
        )


@dataclass(frozen=True)
class SavedSections:
    """Schema of the settings in a state: the sections that decide the curve."""

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any]
    run: Mapping[str, Any]
    task: str | None = None


@dataclass(frozen=True)
class SavedState:
    """Schema of a state: what `Checkpoint.to_payload` writes, or wrote before some keys were known."""

    kind: Literal["checkpoint"]
    step: int
    total_steps: int
    config: SavedSections
    engine: Mapping[str, Any]
    loop: Mapping[str, Any]
    num_samples: int
    data_fingerprint: str | None
    artefacts: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Any = None
    run_id: str | None = None
    backend: str | None = None
    world_size: int | None = None
    device: str | None = None
    config_hash: str | None = None
    layout: Mapping[str, Any] | None = None
    vocabulary: int | None = None


@dataclass(frozen=True)
class SavedPatience:
    """Schema of the state of early stopping."""

    best: float | None
    epochs_without_gain: int


@dataclass(frozen=True)
class SavedSkips:
    """Schema of the counter of skipped updates."""

    in_a_row: int


@dataclass(frozen=True)
class SavedLoop:
    """Schema of the loop's part of a state."""

    batch: int
    epoch_loss: Sequence[float]
    early_stopping: SavedPatience
    skipped_updates: SavedSkips
    callbacks: Mapping[str, Any]


def payload_of(artefacts: Mapping[str, Any]) -> dict[str, Any]:
    """Return artefacts in the form of a payload: the tokenizer, which gets a file of its own, apart from the others."""
    tokenizer = {"tokenizer": artefacts["tokenizer"]} if "tokenizer" in artefacts else {}
    return {**tokenizer, "artefacts": {name: value for name, value in artefacts.items() if name != "tokenizer"}}


def artefacts_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the artefacts in a payload of a checkpoint or a finished model.

    Raises:
        TypeError: they are no mapping.
    """
    tokenizer = {"tokenizer": payload["tokenizer"]} if "tokenizer" in payload else {}
    artefacts = payload.get("artefacts", {})
    if not isinstance(artefacts, Mapping):
        raise TypeError(f"its artefacts are of type {type(artefacts).__name__}, not a mapping")
    return {**tokenizer, **artefacts}


def _present_form(loop: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the loop's state of an older checkpoint into today's form."""
    if "early_stopping" in loop:
        return dict(loop)
    older = ("best", "epochs_without_gain")
    return {
        **{key: value for key, value in loop.items() if key not in (*older, "skipped_in_a_row")},
        "early_stopping": {key: loop[key] for key in older if key in loop},
        "skipped_updates": {"in_a_row": loop.get("skipped_in_a_row")},
        "callbacks": {},
    }


def save_together(
    path: Path, ranks: Ranks, engine: Engine, checkpoint: Checkpoint, parameters: Collection[str] = ()
) -> None:
    """Write a run's checkpoint, whole or not at all. Collective: rank 0 writes, each may add its engine's own files.

    Args:
        path: directory of the checkpoint; replaced if it exists.
        ranks: the processes of the run.
        engine: gives the state that `checkpoint` lacks.
        checkpoint: everything else.
        parameters: names of the weights that must be finite.

    Raises:
        UserError: the disk is full or refuses, or the weights are not finite, on every rank; earlier checkpoints are
            intact.
    """
    state = engine.state_dict()
    what = f"{path} is not written after {checkpoint.step} updates"
    ranks.on_main(lambda: refuse_not_finite(state["model"], parameters, what))
    temporary = temporary_of(path)
    ranks.on_main(lambda: begin(path))
    with disk_refusals(path):
        engine.save_extra(temporary)
    ranks.barrier()
    ranks.on_main(lambda: commit(temporary, path, replace(checkpoint, engine=state).to_payload()))


def begin(path: Path) -> Path:
    """Make the empty, hidden directory in which the checkpoint `path` is built (`temporary_of(path)`).

    Raises:
        UserError: the disk is full or refuses.
    """
    with disk_refusals(path):
        return make_temporary(path)


def commit(temporary: Path, path: Path, payload: Mapping[str, Any]) -> None:
    """Add the payload to whatever lies in `temporary` and make all of it the checkpoint `path`.

    A kill at any instant leaves the older checkpoint of that name or the new one (`RunDirectory` tidies up).

    Args:
        temporary: as `begin` made it; everything in it becomes part of the checkpoint.
        path: replaced if it exists.
        payload: nested plain data and tensors, `kind` and `step` among it.

    Raises:
        UserError: the disk is full or refuses; what was there before is untouched.
        TypeError: the payload holds something that is neither plain data nor a tensor.
    """
    with disk_refusals(path):
        write_payload(temporary, payload)
        write_manifest(
            temporary,
            step=payload["step"],
            kind=payload["kind"],
            run_id=payload.get("run_id"),
            config_hash=payload.get("config_hash"),
        )
        put_in_place(temporary, path)


def save_checkpoint(path: Path, payload: Mapping[str, Any]) -> None:
    """Do `begin` and `commit` in one, for an engine that adds nothing; raises the same errors."""
    commit(begin(path), path, payload)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read and check a checkpoint directory, or a finished model's single file.

    Args:
        path: `checkpoint_epoch_25.pt` is taken for `checkpoint_epoch_25` where only that is there.

    Raises:
        CheckpointError: missing, not ours, cut short, or altered; names the file.
    """
    path = existing_form(path)
    if not path.is_dir():
        return load_single_file(path)
    check_files(path, read_manifest(path))
    try:
        return read_payload(path)
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        # not written by `write_payload`
        raise CheckpointError(f"{path}: its files are not those of a checkpoint ({error})") from error


def list_checkpoints(directory: Path) -> tuple[list[tuple[int, Path]], list[tuple[Path, CheckpointError]]]:
    """Return a run's checkpoints as (step, path), newest first, and those without a good manifest as (path, fault).

    Reads the manifests only: another file of a checkpoint may still be damaged.
    """
    found: list[tuple[int, Path]] = []
    faults: list[tuple[Path, CheckpointError]] = []
    for path in checkpoint_directories(directory):
        try:
            found.append((read_manifest(path).step, path))
        except CheckpointError as error:
            faults.append((path, error))
    return sorted(found, key=lambda item: (-item[0], item[1].name)), faults


def newest_good(directory: Path) -> tuple[tuple[Path, dict[str, Any]] | None, list[CheckpointError]]:
    """Return the newest checkpoint that is whole and holds a run's state, or None, and the faults of newer ones."""
    found, unreadable = list_checkpoints(directory)
    faults = [fault for _, fault in unreadable]
    for _, path in found:
        try:
            payload = load_checkpoint(path)
            Checkpoint.from_payload(path, payload)
            return (path, payload), faults
        except CheckpointError as error:
            faults.append(error)
    return None, faults


def delete_superseded(directory: Path, keep_last: int | None) -> None:
    """Delete all but the newest `keep_last` checkpoints (None: keep all) and the best one.

    A checkpoint that cannot be opened is left where it is: it is evidence, and not counted.
    """
    if keep_last is None:
        return
    found, _ = list_checkpoints(directory)
    regular = [path for _, path in found if path.name != BEST_NAME]
    for path in regular[keep_last:]:
        delete_whole(path)
