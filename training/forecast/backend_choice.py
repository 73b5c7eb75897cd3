"""Choice of backend and layout for `--backend auto`: a function of the settings and of a described machine. No torch.

    for each local backend, for one process and for one on every GPU, for each of its layouts:
        can it run here?    installed, its own refusals, GPUs that are there
        does it fit?        forecast of a rank's memory against what is free, less a margin
        how fast is it?     a rule (training/forecast/relative_speed.py)
    take the fastest that fits, else the fastest whose memory is not known, else refuse and name the nearest

Only the layout is chosen. The chosen settings lie under the user's, a layout that needs another value of a setting
that somebody gave is no candidate, and the samples of an update, which decide the curve, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from training.backends.placement import Placement, layouts, placement_of
from training.backends.prepare import (
    AUTO_ORIGIN,
    DEFAULT_BACKEND,
    Choice,
    PreparedRun,
    choose,
    layers_of,
    prepare,
    prepare_layers,
    resolve_for,
    run_dir_of_auto,
    run_to_go_on_with,
)
from training.backends.protocol import Availability, is_remote
from training.backends.registry import BACKENDS
from training.checkpoints.run_settings import carried_over, path_to_go_on_from, with_names
from training.errors import ConfigError, ForeignSettingError
from training.forecast.dry_run import Workload, guess_precision, micro_batches, workload_of
from training.forecast.memory import DeviceKind, RankMemory
from training.forecast.relative_speed import relative_speed
from training.forecast.what_fits import nearest_fit
from training.language.messages import Language, Message
from training.machine.description import Machine, this_machine
from training.machine.units import as_size
from training.settings.declarations import short_name
from training.settings.layers import Layer
from training.settings.rank_identity import RankIdentity
from training.settings.tree import BATCH_SIZES, TrainingConfig
from training.settings.yaml_files import flatten, read_yaml
from training.storage.user_paths import path_of

MARGIN = 0.12
"""Share of free memory that stays free: the forecasts of memory were up to 11.2 % too low (docs/ESTIMATE.md)."""
LAYOUT = ("launch.num_processes", "launch.num_gpus", *(f"run.{name}" for name in BATCH_SIZES))
"""Settings of any backend that a choice may make, and that a run which goes on keeps."""

Find = Callable[[str], Choice]
"""Function from a backend's name to what is chosen with it, such as `choose` with all else given."""
Read = Callable[[Choice], tuple[Sequence[Layer], Sequence[Layer]]]
"""Function from a choice to (settings over the config file, defaults under it); raises for settings of others."""


class Verdict(Enum):
    """Answer to the question whether a candidate can make a run here."""

    FITS = "fits"
    UNKNOWN = "memory unknown"
    TOO_LARGE = "too large"
    CANNOT = "cannot"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class Candidate:
    """A backend with one layout of a run; without a placement: a backend of which no layout was looked at."""

    backend: str
    verdict: Verdict
    reason: str = ""
    """Reason why it cannot, or why its memory does not suffice."""
    refusal: ConfigError | None = None
    """Error that the settings themselves raise with this backend."""
    prepared: PreparedRun | None = None
    layout: Mapping[str, Any] = field(default_factory=dict)
    """Dotted key -> value of the settings that were chosen, in addition to the backend."""
    placement: Placement | None = None
    device: DeviceKind = "cpu"
    passes: int = 1
    """Forward passes of a rank in an update."""
    need: RankMemory | None = None
    """Forecast of a rank's memory; None: not known."""
    usable: int | None = None
    """Bytes that a rank may use; None: not known."""
    lacks: int = 0
    """Bytes that a rank needs in addition to those that it may use."""
    speed: float = 1.0
    """Estimated speed as a multiple of one process."""

    @property
    def flags(self) -> str:
        """Command-line flags that name the backend and the layout."""
        return " ".join([f"--backend {self.backend}", *(_flag(key, value) for key, value in self.layout.items())])

    def is_no_better_than(self, other: Candidate) -> bool:
        """Return whether another layout of the same backend and as many ranks needs no more and is no slower.

        With one rank, for example, ZeRO spreads nothing.
        """
        if self.placement is None or other.placement is None or self.placement.ranks != other.placement.ranks:
            return False
        if self.verdict is Verdict.CANNOT or self.need is None or other.need is None:
            return self.reason == other.reason and self.speed <= other.speed
        return self.need.peak >= other.need.peak and round(self.speed, 2) <= round(other.speed, 2)


@dataclass(frozen=True)
class Decision:
    """All candidates and the one that was chosen."""

    machine: Machine
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    refusal: ConfigError | None = None
    """Error that names the nearest candidate, where none was chosen."""

    @property
    def prepared(self) -> PreparedRun:
        """The run, planned.

        Raises:
            ConfigError: no candidate can make it.
        """
        if self.chosen is None or self.chosen.prepared is None:
            raise self.refusal or ConfigError(f"{AUTO_ORIGIN}: no backend can make this run here")
        return self.chosen.prepared

    @property
    def language(self) -> Language | None:
        """Language that the settings ask for, as far as a backend could read them."""
        runs = (candidate.prepared for candidate in self.candidates if candidate.prepared is not None)
        return next((run.request.config.report.lang for run in runs), None)


# -- the decision --------------------------------------------------------------------------------------------------


def decide(
    find: Find,
    read: Read,
    machine: Machine,
    available: Mapping[str, Availability],
    *,
    start_from: Path | None = None,
    overwrite: bool = False,
) -> Decision:
    """Choose backend and layout of a new run.

    Args:
        find: gives what is chosen with a backend.
        read: gives the user's settings, as a backend reads them.
        machine: where the run is to happen.
        available: backend's name -> whether it is installed there; a backend that is missing here is.
        start_from: see `RunRequest`.
        overwrite: see `RunRequest`.

    Raises:
        ConfigError: the settings are refused by every backend in the same way, or several machines share the run.
    """
    if RankIdentity.of_environment() is not None:
        raise ConfigError(
            f"{AUTO_ORIGIN} plans the processes itself, and a launcher started this one; name the backend "
            "(--list-backends)"
        )
    judge = _Judge(machine)
    found: list[Candidate] = []
    for name in BACKENDS.names():
        survey = _Survey(name, judge, available.get(name, Availability(True)), start_from, overwrite)
        found += survey.candidates(find, read)
    local = [candidate for candidate in found if candidate.verdict is not Verdict.ELSEWHERE]
    if all(candidate.placement is None for candidate in local):
        for candidate in local:  # a mistake in a value is one with every backend; a foreign setting is not
            if candidate.refusal is not None and not isinstance(candidate.refusal, ForeignSettingError):
                raise candidate.refusal
    for verdict in (Verdict.FITS, Verdict.UNKNOWN):
        if those := [candidate for candidate in found if candidate.verdict is verdict]:
            return Decision(machine, tuple(found), max(those, key=lambda candidate: round(candidate.speed, 2)))
    return Decision(machine, tuple(found), None, _refusal(local, judge))


def _refusal(candidates: Sequence[Candidate], judge: _Judge) -> ConfigError:
    """Return the error of a decision without a choice: the nearest candidate, and what it lacks."""
    too_large = [candidate for candidate in candidates if candidate.verdict is Verdict.TOO_LARGE]
    if too_large:
        nearest = min(too_large, key=lambda candidate: candidate.lacks)
        return ConfigError(
            f"{AUTO_ORIGIN}: nothing fits here; the nearest is {nearest.flags}: {nearest.reason}, "
            f"{as_size(nearest.lacks)} too little; {judge.advice(nearest)}"
        )
    others = [one for one in candidates if not isinstance(one.refusal, ForeignSettingError)]
    if others:
        nearest = max(others, key=lambda candidate: candidate.placement is not None)
        return ConfigError(
            f"{AUTO_ORIGIN}: no backend can make this run here; the nearest is {nearest.flags}: {nearest.reason}"
        )
    reasons = "; ".join(f"{one.backend}: {one.reason}" for one in candidates)
    return ConfigError(f"{AUTO_ORIGIN}: no backend has all of these settings ({reasons})")


def choose_here(
    settings: Sequence[Layer] = (),
    *,
    task: str | None = None,
    model: str | None = None,
    config_file: Path | None = None,
    run_dir: str | None = None,
    machine: Machine | None = None,
) -> Decision:
    """Choose backend and layout of a new run in Python.

    Args:
        settings: lie over the config file.
        task: as `--task` names it.
        model: as `--model` names it.
        config_file: a YAML file.
        run_dir: as `--run-dir` names it.
        machine: where the run is to happen; None: here.

    Raises:
        ConfigError: see `decide`.

    Example:
        >>> decision = choose_here([Layer("mine", {"run.epochs": 3})])
        >>> decision.prepared.request.config.backend
        'playground'
    """

    def find(name: str) -> Choice:
        return choose(backend=name, task=task, model=model, config_file=config_file, run_dir=run_dir)

    return decide(find, lambda choice: (settings, ()), machine or this_machine(), available_here())


def available_here() -> dict[str, Availability]:
    """Ask each backend whether it can run here."""
    found = {}
    for name in BACKENDS.names():
        try:
            found[name] = BACKENDS.load(name).check()
        except ConfigError as error:  # a third party's; the others take part all the same
            found[name] = Availability(False, str(error))
    return found


# -- a run that goes on --------------------------------------------------------------------------------------------


def kept_run(find: Find, read: Read, saved: Path, start_from: Path | None = None) -> PreparedRun:
    """Prepare a run that goes on: it keeps its backend, and where its settings are not read anyway also its layout.

    Args:
        find: gives what is chosen with a backend.
        read: gives the user's settings, as a backend reads them.
        saved: config.yaml of the run.
        start_from: see `RunRequest`.

    Raises:
        UserError: the run's backend is not here or trains elsewhere, or the settings are refused.
    """
    document = read_yaml(saved)
    name = str(document.get("backend", DEFAULT_BACKEND))
    if is_remote(BACKENDS.load(name)()):
        raise ConfigError(
            f"{AUTO_ORIGIN}: the run of {saved.parent} was trained by --backend {name}, which is never chosen by itself"
            f" because it may cost money; give --backend {name} to go on there, or name another one"
        )
    choice = replace(find(name), origin=f"{AUTO_ORIGIN}, kept from {saved.parent}")
    settings, defaults = read(choice)
    kept: dict[str, Any] = {"run.run_dir": run_dir_of_auto(choice.task)}
    if choice.resume is True:  # with a path, all its settings are read from there
        tree = choice.config_class
        for key, value in carried_over(with_names(document), tree, str(saved)).items():
            if key in LAYOUT or key.startswith(f"{name}."):
                kept[key] = value
    layer = Layer(choice.origin, kept, gives_way=True)
    return prepare(choice, settings, defaults=[layer, *defaults], start_from=start_from)


def run_or_choice(
    read: Read,
    *,
    inner_backend: str | None = None,
    task: str | None = None,
    model: str | None = None,
    config_file: Path | None = None,
    resume: bool | str = False,
    run_dir: str | None = None,
    start_from: Path | None = None,
    overwrite: bool = False,
) -> PreparedRun | Decision:
    """Keep the backend of a run that goes on, or choose one for a new run on this machine.

    Args:
        read: gives the user's settings, as a backend reads them.
        inner_backend: see `choose`, as for all names and paths up to `run_dir`.
        task: as `--task` names it.
        model: as `--model` names it.
        config_file: the user's YAML file.
        resume: whether a run goes on, or which.
        run_dir: as `--run-dir` names it.
        start_from: see `RunRequest`.
        overwrite: see `RunRequest`.

    Raises:
        UserError: see `kept_run` and `decide`, or there is nothing at the path to go on from.
    """
    directory, saved = run_to_go_on_with(resume, run_dir, task, config_file, start_from)
    if isinstance(resume, str) and saved is None:
        path_to_go_on_from(path_of("--resume", resume), directory)

    def find(name: str) -> Choice:
        return choose(
            backend=name,
            inner_backend=inner_backend,
            task=task,
            model=model,
            config_file=config_file,
            resume=resume,
            run_dir=str(directory),  # the same for every backend, whatever its preset says
        )

    if saved is not None:
        return kept_run(find, read, saved, start_from)
    return decide(find, read, this_machine(), available_here(), start_from=start_from, overwrite=overwrite)


# -- candidates ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Survey:
    """Search for the layouts of one backend."""

    name: str
    judge: _Judge
    available: Availability
    start_from: Path | None
    overwrite: bool

    def candidates(self, find: Find, read: Read) -> list[Candidate]:
        """Return the candidates of the backend, the simplest layout first; at least one."""
        try:
            backend = BACKENDS.load(self.name)()
        except ConfigError as error:
            return [Candidate(self.name, Verdict.CANNOT, str(error))]
        if is_remote(backend):
            reason = Message("it trains elsewhere, which may cost money: never chosen by itself, only if it is named")
            return [Candidate(self.name, Verdict.ELSEWHERE, reason)]
        try:
            choice = replace(find(self.name), origin=AUTO_ORIGIN)
            _refuse_sections_of_others(choice)
            settings, defaults = read(choice)
            layers = layers_of(choice, settings, defaults=[Layer(AUTO_ORIGIN, gives_way=True), *defaults])
            if not self.available.ok:
                missing = Message("{reason}; run: {fix}", reason=self.available.reason, fix=self.available.fix)
                return [Candidate(self.name, Verdict.CANNOT, missing if self.available.fix else self.available.reason)]
            return self._layouts(choice, layers)
        except ConfigError as error:
            return [Candidate(self.name, Verdict.CANNOT, str(error), error)]

    def _layouts(self, choice: Choice, layers: Sequence[Layer]) -> list[Candidate]:
        """Return the candidates of a backend that is installed; where it refuses all layouts, raise its refusal."""
        given = {key for layer in layers if not layer.gives_way for key in layer.settings}
        found: list[Candidate] = []
        refusal: ConfigError | None = None
        for ranks in self._numbers_of_ranks(layers, given):
            try:
                base = resolve_for(choice.backend, choice.config_class, _laid_out(choice, layers, ranks)).config
            except ConfigError as error:
                refusal = refusal or error
                continue
            _refuse_several_machines(base)
            for laid_out in layouts(base):
                spread = _difference(base, laid_out)
                if not given.isdisjoint(spread):
                    continue  # it would change a setting of the user's
                try:
                    candidate = self._candidate(choice, layers, {**ranks, **spread}, given)
                except ConfigError as error:
                    refusal = refusal or error
                    continue
                if not any(candidate.is_no_better_than(other) for other in found):
                    found.append(candidate)
        if not found and refusal is not None:
            raise refusal
        return found

    def _numbers_of_ranks(self, layers: Sequence[Layer], given: set[str]) -> list[dict[str, Any]]:
        """Return the settings of one process, and of one on every GPU where the user leaves that open."""
        machine, devices = self.judge.machine, [layer.settings.get(f"{self.name}.device") for layer in layers]
        device = next((value for value in reversed(devices) if value is not None), "auto")
        is_open = given.isdisjoint({"launch.num_processes", "launch.num_gpus", f"{self.name}.hostfile"})
        if is_open and device in ("auto", "cuda") and machine.counts_gpus and len(machine.gpus) > 1:
            return [{}, {"launch.num_gpus": len(machine.gpus)}]
        return [{}]

    def _candidate(
        self, choice: Choice, layers: Sequence[Layer], layout: Mapping[str, Any], given: set[str]
    ) -> Candidate:
        """Judge a layout; where it is too large and nobody gave batch_size, with smaller micro-batches.

        Raises:
            ConfigError: the backend refuses it.
        """
        candidate = self._judged(choice, layers, layout)
        assert candidate.prepared is not None
        assert candidate.placement is not None
        run = candidate.prepared.request.config.run
        size = min(run.batch_size, -(-run.samples_per_update // candidate.placement.ranks))
        if not given.isdisjoint({"run.batch_size", "run.gradient_accumulation_steps"}):
            return candidate
        while candidate.verdict is Verdict.TOO_LARGE and size > 1:
            size = (size + 1) // 2
            portions: dict[str, Any] = {"run.batch_size": size}
            if run.global_batch_size is None:
                portions["run.global_batch_size"] = run.samples_per_update
            if run.gradient_accumulation_steps is not None:
                portions["run.gradient_accumulation_steps"] = None
            smaller = self._judged(choice, layers, {**layout, **portions})
            assert smaller.prepared is not None
            if smaller.prepared.request.config.run.batch_size != size:
                break  # a file of the backend's own has the batch sizes
            candidate = smaller
        return candidate

    def _judged(self, choice: Choice, layers: Sequence[Layer], layout: Mapping[str, Any]) -> Candidate:
        prepared = prepare_layers(
            choice, _laid_out(choice, layers, layout), start_from=self.start_from, overwrite=self.overwrite
        )
        return self.judge.candidate(prepared, layout)


def _laid_out(choice: Choice, layers: Sequence[Layer], layout: Mapping[str, Any]) -> list[Layer]:
    """Return the layers with a layout in the one that a choice fills."""
    settings = {"run.run_dir": run_dir_of_auto(choice.task), **layout}
    return [
        replace(layer, settings=settings) if layer.name == AUTO_ORIGIN and layer.gives_way else layer
        for layer in layers  # the backend's name is of the same origin, and gives way to nothing
    ]


def _difference(base: TrainingConfig, other: TrainingConfig) -> dict[str, Any]:
    """Return dotted key -> value of the settings of `other` that differ from `base`."""
    before, after = (flatten(config.to_dict(), type(config), "a layout") for config in (base, other))
    return {key: value for key, value in after.items() if before[key] != value}


def _refuse_sections_of_others(choice: Choice) -> None:
    """Refuse a backend that a config file has no section for, while it has one for others."""
    if choice.config_file is None:
        return
    document = read_yaml(choice.config_file)
    sections = [name for name in BACKENDS.names() if isinstance(document.get(name), dict)]
    written_for = [name for name in sections if not is_remote(BACKENDS.load(name)())]
    if written_for and choice.backend.name not in written_for:
        raise ForeignSettingError(
            f"{choice.config_file} has a section {' and one '.join(written_for)}, and none {choice.backend.name}"
        )


def _refuse_several_machines(config: TrainingConfig) -> None:
    if config.launch.nnodes > 1:
        raise ConfigError(
            f"{AUTO_ORIGIN} looks at one machine, and nnodes={config.launch.nnodes}: each would choose for itself; "
            "name the backend (--list-backends)"
        )


class _Judge:
    """Judgement of layouts on one machine. Model and data are looked at once: all layouts share them.

    Args:
        machine: where the run is to happen.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._workload: Workload | None = None
        self._reference: TrainingConfig | None = None

    def candidate(self, prepared: PreparedRun, layout: Mapping[str, Any]) -> Candidate:
        """Judge a prepared run.

        Raises:
            ConfigError: the settings contradict the data.
        """
        placement = placement_of(prepared.request.config)
        device = self.machine.device(placement.device)
        config = self._with_precision(prepared.request.config, device)
        workload = self._workload_of(config)
        assert self._reference is not None
        found = Candidate(
            config.backend,
            Verdict.FITS,
            prepared=prepared,
            layout=layout,
            placement=placement,
            device=device,
            passes=micro_batches(config, placement),
            speed=relative_speed(
                config, workload.cost, workload.batch(config, placement), device, placement, self._reference
            ),
        )
        if reason := self._obstacle(prepared, placement, device):
            return replace(found, verdict=Verdict.CANNOT, reason=reason)
        need, usable = workload.memory(config, device, placement), self._usable(device, placement)
        found = replace(found, need=need, usable=usable)
        if need is None or usable is None:
            return replace(found, verdict=Verdict.UNKNOWN)
        if need.peak > usable:
            reason = Message(
                "each rank needs {need} and may use {usable}", need=as_size(need.peak), usable=as_size(usable)
            )
            return replace(found, verdict=Verdict.TOO_LARGE, reason=reason, lacks=need.peak - usable)
        return self._with_host(found, need, placement)

    def advice(self, candidate: Candidate) -> str:
        """Return the end of a sentence: settings with the same curve that would fit, or that there are none."""
        assert candidate.prepared is not None
        config = self._with_precision(candidate.prepared.request.config, candidate.device)

        def needed(other: TrainingConfig) -> int:
            found = self._workload_of(other).memory(other, candidate.device, placement_of(other))
            return found.peak if found is not None else 0

        return nearest_fit(config, needed, candidate.usable or 0)

    def _with_precision(self, config: TrainingConfig, device: DeviceKind) -> TrainingConfig:
        precision = guess_precision(config, device, self.machine.multiplies_bf16)
        return config.model_copy(update={"run": config.run.model_copy(update={"precision": precision})})

    def _workload_of(self, config: TrainingConfig) -> Workload:
        if self._workload is None:
            self._workload, self._reference = workload_of(config), config
        return self._workload

    def _obstacle(self, prepared: PreparedRun, placement: Placement, device: DeviceKind) -> str:
        """Return why this machine cannot carry out a plan; empty: it can."""
        machine, wanted = self.machine, placement.ranks_here
        config = prepared.request.config
        if prepared.plan is None and wanted > 1:
            return Message("it starts no processes, and {count} were asked for", count=wanted)
        if device == "cuda" and not machine.gpus:
            return Message("it needs a GPU, and there is none here")
        if device == "cuda" and machine.counts_gpus and wanted > len(machine.gpus):
            return Message("it needs {count} GPUs, and there are {here} here", count=wanted, here=len(machine.gpus))
        if device == "mps" and not machine.has_mps:
            return Message("it needs a GPU of Apple's, and there is none here")
        if device == "cpu" and config.run.precision == "fp16":
            return Message("precision=fp16 needs a GPU, and there is none here")
        return ""

    def _usable(self, device: DeviceKind, placement: Placement) -> int | None:
        """Return the bytes that each rank may use: on a CPU the ranks share the memory, and each GPU has its own."""
        ranks = placement.ranks_here
        if device != "cuda":
            host = self.machine.host_bytes
            return None if host is None else int((1.0 - MARGIN) * host / ranks)
        free = [gpu.free_bytes for gpu in self.machine.gpus[:ranks]]
        known = [size for size in free if size is not None]
        return int((1.0 - MARGIN) * min(known)) if known and len(known) == len(free) else None

    def _with_host(self, found: Candidate, need: RankMemory, placement: Placement) -> Candidate:
        """Return a candidate that fits on its GPUs, judged by what it offloads to the host."""
        host, offloaded = self.machine.host_bytes, need.on_host * placement.ranks_here
        if not offloaded:
            return found
        if host is None:
            return replace(found, verdict=Verdict.UNKNOWN)
        usable = int((1.0 - MARGIN) * host)
        if offloaded <= usable:
            return found
        reason = Message(
            "the ranks offload {size} to the host, and may use {usable} there",
            size=as_size(offloaded),
            usable=as_size(usable),
        )
        return replace(found, verdict=Verdict.TOO_LARGE, reason=reason, lacks=offloaded - usable)


def _flag(key: str, value: object) -> str:
    name = short_name(key).replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {'none' if value is None else value}"
