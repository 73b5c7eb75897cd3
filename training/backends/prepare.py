"""The way from a config to a run: `prepare(choose(...), settings)`. Nothing here prints or writes.

prepared = prepare(choose(backend="playground"), [Layer("mine", {"run.epochs": 3})])
prepared.plan      # the processes to start; None: it runs in this process
prepared.request   # what `prepared.backend.run` takes
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from pydantic import Field, TypeAdapter, ValidationError, create_model

from training.backends.placement import placement_of
from training.backends.protocol import Backend, LaunchPlan, RunRequest, is_remote, requested_features
from training.backends.registry import BACKENDS
from training.checkpoints.manifest import existing_form
from training.checkpoints.run_settings import carried_over, saved_config, settings_of_run
from training.errors import CheckpointError, ConfigError, did_you_mean, printable
from training.models.named_model import named_model, with_named_model
from training.models.registry import MODELS
from training.record.schema import RESUMED_RUN
from training.settings.declarations import aliases, all_names
from training.settings.layers import Layer, Resolved, resolve
from training.settings.rank_identity import RankIdentity
from training.settings.registry import Registry
from training.settings.section import Elsewhere, Section
from training.settings.tree import (
    BATCH_SIZES,
    DEFAULT_MODEL,
    DEFAULT_TASK,
    ModelOptions,
    RunConfig,
    TaskOptions,
    TrainingConfig,
)
from training.settings.yaml_files import Settings, find_config, flatten, read_settings, read_yaml
from training.storage.user_paths import path_of
from training.tasks.registry import TASKS

_Options = TypeVar("_Options", bound=Section)
DEFAULT_BACKEND = "playground"
AUTO = "auto"
"""Word in the place of a backend's name that asks for a choice: `training.forecast.backend_choice` makes it."""
AUTO_ORIGIN = "--backend auto"
"""Source of the settings that were chosen, as it is shown to the user."""
AUTO_RUN_DIR = "auto_output"
"""Run directory where nobody names one: the same whatever is chosen, so that `--resume` finds it."""


# -- the tree of settings ------------------------------------------------------------------------------------------


def config_class(*backends: type[Backend], task: str = DEFAULT_TASK, model: str | None = None) -> type[TrainingConfig]:
    """Return `TrainingConfig` with the settings of a task, a model family and backends.

    Args:
        backends: each adds its options as the section that bears its name.
        task: gives the section `data`, as `--task` names it.
        model: gives the section `model`, as `--model` names it. None: the task's own default.

    Raises:
        ConfigError: there is no such task or family, they do not fit together, its options cannot be used, or an option
            has the name of another setting.
    """
    family, base = named_model(default_model(task) if model is None else model)
    _refuse_other_inputs(task, family)
    task_options = _options_of(TASKS.load(task), TaskOptions, f"--task {task}")
    model_options = _named(_options_of(MODELS.load(family), ModelOptions, f"--model {family}"), family)
    return _make_config_class(backends, task, task_options, family, model_options, base)


class _ChosenConfig(TrainingConfig):
    """A config of a chosen task and model family."""

    base: ClassVar[str | None] = None
    """Model to start from where the settings name none."""

    @classmethod
    def _with_the_model(cls, settings: Settings, where: str) -> Settings:
        named = dict(with_named_model(settings))
        family = cls.model_fields["model"].annotation.model_fields["model"].default  # type: ignore[union-attr]
        task: str = cls.model_fields["task"].default
        if named.get("model.model", family) != family:
            raise ConfigError(
                f"{where}: these are settings of the model family {family}, and {named['model.model']} is named; make "
                f"the class by config_class(model={named['model.model']!r})"
            )
        if cls.base is not None:
            named.setdefault("model.base_model", cls.base)
        merged: Settings = {}
        for layer in with_the_model(family, [Layer(where, named)], task):
            merged |= layer.settings
        return merged


def config_class_of(settings: Mapping[str, Any]) -> type[TrainingConfig]:
    """Return the class that has the task's, family's and backend's settings which a nested config names.

    Args:
        settings: as `TrainingConfig.to_dict` gives them, such as the config.yaml of a run.

    Raises:
        ConfigError: one of the names is unknown.
    """
    choice = choose(backend=settings.get("backend"), task=settings.get("task"), model=_family_in(settings))
    return choice.config_class


def _refuse_other_inputs(task: str, model: str) -> None:
    given, taken = TASKS.load(task).inputs, MODELS.load(model).inputs
    if given != taken:
        raise ConfigError(
            f"--task {task} gives {given}, --model {model} takes {taken}; choose a model family that takes {given}"
            " (--list-models)"
        )


def _options_of(part: Any, base: type[_Options], flag: str) -> type[_Options]:
    options = part.Options
    if not (isinstance(options, type) and issubclass(options, base)):
        raise ConfigError(f"{flag}: its Options are not a subclass of {base.__module__}.{base.__name__}")
    return options


@cache  # one class, so that the section fits into the config of every backend
def _named(options: type[ModelOptions], model: str) -> type[ModelOptions]:
    """Return a family's options with its name as the default of `model`."""
    if options.model_fields["model"].default == model:
        return options
    field = Field(model, description=ModelOptions.model_fields["model"].description)
    own: Any = {"__doc__": options.__doc__, "model": (str, field)}
    made: type[ModelOptions] = create_model(options.__name__, __base__=options, **own)
    return made


@cache  # a sweep makes thousands of configs of one class
def _make_config_class(
    backends: tuple[type[Backend], ...],
    task: str,
    task_options: type[TaskOptions],
    model: str,
    model_options: type[ModelOptions],
    base: str | None,
) -> type[TrainingConfig]:
    of_base: dict[str, Any] = {} if base is None else {"base_model": base}
    fields: dict[str, Any] = {
        "task": (str, Field(task, description=TrainingConfig.model_fields["task"].description)),
        "model": (model_options, Field(default_factory=partial(model_options, **of_base))),
        "data": (task_options, Field(default_factory=task_options)),
    }
    for backend in backends:
        described = Field(default_factory=backend.Options, description=f"Options of --backend {backend.name}.")
        fields[backend.name] = (backend.Options, described)
    made: type[_ChosenConfig] = create_model("TrainingConfig", __base__=_ChosenConfig, **fields)
    made.base = base
    chosen = {*(backend.name for backend in backends), task, model}
    own = frozenset(all_names(made))  # the alias of a setting is no key of a file, and yet nobody else's
    made.elsewhere = Elsewhere(BACKENDS, lambda name: None if name in own else _owner_of(name, chosen))
    parts = {backend.name: f"--backend {backend.name}" for backend in backends}
    _refuse_taken_names(made, {**parts, "data": f"--task {task}", "model": f"--model {model}"})
    return made


def _refuse_taken_names(tree: type[TrainingConfig], owners: Mapping[str, str]) -> None:
    """Refuse options with the name of another setting: a name alone, in a flag or a file, has to say which is meant."""
    taken: dict[str, str] = {}  # name -> its section
    for section, field in tree.model_fields.items():
        options = field.annotation
        is_section = isinstance(options, type) and issubclass(options, Section)
        for name in all_names(options) if is_section else [section]:  # type: ignore[arg-type]
            if name in taken:
                pair = (section, taken[name]) if section in owners else (taken[name], section)
                part, other = (owners.get(one, f"section {one!r}") for one in pair)
                raise ConfigError(f"{part}: its option {name!r} has the name of a setting of {other}")
            taken[name] = section


def _owner_of(name: str, chosen: Collection[str]) -> str | None:
    """Return the built-in backend, task or family that has a setting and was not chosen, as a user would choose it."""
    found = [
        f"{registry.flag} {part}"
        for registry in (BACKENDS, TASKS, MODELS)
        for part in registry.built_in
        if part not in chosen and name in all_names(_options_in(registry, part))
    ]
    if not found:
        return None
    inner = found[0].startswith("--backend") and not any("azure" in one for one in found)
    return " and ".join(found) + (" (with --backend azure: --inner-backend)" if inner else "")


def _options_in(registry: Registry[Any], name: str) -> type[Section]:
    options: type[Section] = registry.load(name).Options
    return options


# -- what is chosen ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """Backend, task and model family of a run, which decide what settings there are."""

    backend: Backend
    """One instance for the whole run: a remote backend keeps the job that it looked up."""
    inner: type[Backend] | None
    """The backend that trains where `backend` sends the run; None: `backend` trains itself."""
    task: str
    model: str
    config_file: Path | None
    resume: bool | str
    """True: go on from the newest good checkpoint of the run directory; text: from this checkpoint or run."""
    origin: str = "the chosen backend"
    """Source of the backend's name, where a layer of settings names none or another one."""

    @property
    def config_class(self) -> type[TrainingConfig]:
        """Class of the config, with the options of all that is chosen."""
        outer = type(self.backend)
        backends = (outer, self.inner) if self.inner else (outer,)
        return config_class(*backends, task=self.task, model=self.model)

    def preset(self) -> Layer | None:
        """Return the preset that lies under the user's settings; None: the backend has none."""
        name = (self.inner or self.backend).preset
        if name is None:
            return None
        return Layer(f"preset {name}", read_settings(find_config(name), self.config_class), gives_way=True)

    def presets(self) -> list[Layer]:
        """Return the layers that lie under the user's settings: the backend's preset, and what fits the task better."""
        of_task = _defaults_of(self.task)
        preset = self.preset()
        return [
            *([preset] if preset else []),
            *([Layer(f"--task {self.task}", of_task, gives_way=True)] if of_task else []),
        ]


def choose(
    *,
    backend: str | None = None,
    inner_backend: str | None = None,
    task: str | None = None,
    model: str | None = None,
    config_file: Path | None = None,
    resume: bool | str = False,
    run_dir: str | None = None,
) -> Choice:
    """Find out which backend, task and model family a run has.

    What is not given is looked for in the config file, then (task and family) in the run that is resumed.

    Args:
        backend: as `--backend` names it.
        inner_backend: as `--inner-backend` names it.
        task: as `--task` names it.
        model: as `--model` names it.
        config_file: the user's YAML file.
        resume: whether a run goes on, or which.
        run_dir: as `--run-dir` names it: a bare name to resume is looked for there too.

    Raises:
        ConfigError: an unknown name, or the file cannot be read.
    """
    if isinstance(resume, str):
        if not resume.strip():
            raise ConfigError(
                f"--resume {resume!r}: an empty path; give a run directory or a checkpoint, or --resume alone for the "
                "run in --run-dir"
            )
        there = path_of("--resume", resume)
        resume = str(there) if resume.startswith("~") else resume  # else it may be the name of a job
    document = read_yaml(config_file) if config_file is not None else {}
    chosen = _load(asked_backend(backend, config_file))()
    inner = _inner_backend(chosen, inner_backend, document, config_file)
    if isinstance(resume, str) and len(Path(resume).parts) == 1 and not existing_form(Path(resume)).exists():
        usual = _defaults_of(task or DEFAULT_TASK).get("run.run_dir") or _run_dir_in(_preset_of(inner or chosen))
        named = run_dir if run_dir is not None else _run_dir_in(document) or usual
        there = existing_form(path_of("--run-dir", named or RunConfig().run_dir) / resume)
        resume = str(there) if there.exists() else resume
    saved = saved_config(Path(resume)) if isinstance(resume, str) else None
    run = read_yaml(saved) if saved is not None else {}
    named_task = _first(task, _name_in(document, "task", config_file), _name_in(run, "task", saved), DEFAULT_TASK)
    return Choice(
        backend=chosen,
        inner=inner,
        task=named_task,
        model=named_model(
            _first(model, _family_in(document, config_file), _family_in(run, saved), default_model(named_task))
        ).family,
        config_file=config_file,
        resume=resume,
    )


def asked_backend(backend: str | None, config_file: Path | None) -> str:
    """Return the backend that is asked for, by name: `AUTO` where it is to be chosen.

    Args:
        backend: as `--backend` names it.
        config_file: the user's YAML file.

    Raises:
        ConfigError: the file cannot be read, or names no text.
    """
    document = read_yaml(config_file) if config_file is not None and backend is None else {}
    return _first(backend, _name_in(document, "backend", config_file), DEFAULT_BACKEND)


def _load(name: str) -> type[Backend]:
    if name == AUTO:
        raise ConfigError(
            f"--backend {AUTO}: train.py chooses one for this machine, and so does "
            "training.forecast.backend_choice.choose_here in Python; here a backend is named (--list-backends)"
        )
    return BACKENDS.load(name)


def run_to_go_on_with(
    resume: bool | str, run_dir: str | None, task: str | None, config_file: Path | None, start_from: Path | None
) -> tuple[Path, Path | None]:
    """Return (run directory, config.yaml of the run that `--backend auto` goes on with; None: there is none yet).

    Args:
        resume: see `Choice`.
        run_dir: as `--run-dir` names it.
        task: as `--task` names it.
        config_file: the user's YAML file.
        start_from: see `RunRequest`.

    Raises:
        ConfigError: the file cannot be read, or a path is none.
    """
    document = read_yaml(config_file) if config_file is not None else {}
    usual = run_dir_of_auto(_first(task, _name_in(document, "task", config_file), DEFAULT_TASK))
    named = run_dir if run_dir is not None else _run_dir_in(document) or usual
    directory = path_of("--run-dir", named)
    if not resume:
        return directory, None
    if isinstance(resume, str):
        asked = path_of("--resume", resume)
        is_there = len(asked.parts) != 1 or existing_form(asked).exists()
        return directory, saved_config(asked if is_there else directory / asked)
    return directory, saved_config(directory) or (saved_config(start_from) if start_from is not None else None)


def run_dir_of_auto(task: str) -> str:
    """Return the run directory of `--backend auto` where nobody names one: the task's own, else `AUTO_RUN_DIR`."""
    return str(_defaults_of(task).get("run.run_dir") or AUTO_RUN_DIR)


def _preset_of(backend: Backend | type[Backend]) -> Mapping[str, Any]:
    return read_yaml(find_config(backend.preset)) if backend.preset else {}


def _defaults_of(task: str) -> Mapping[str, Any]:
    """Return the settings, by dotted key, with which a task starts where nobody says otherwise."""
    found: Mapping[str, Any] = getattr(TASKS.load(task), "defaults", {})
    return found


def default_model(task: str) -> str:
    """Return the model family that a task trains where nobody names one.

    Raises:
        ConfigError: there is no such task.
    """
    found: str = getattr(TASKS.load(task), "default_model", DEFAULT_MODEL)
    return found


def task_for(model: str) -> str:
    """Return the first task that gives a model family what it takes.

    Raises:
        ConfigError: there is no such family, or no built-in task for it.
    """
    taken = MODELS.load(model).inputs
    for task in TASKS.built_in:
        if TASKS.load(task).inputs == taken:
            return task
    raise ConfigError(f"--model {model} takes {taken}, which no built-in task gives (--list-tasks)")


def _run_dir_in(document: Mapping[str, Any]) -> str | None:
    """Return the run directory that a config names; None: it names none, or not as a text, which is refused later."""
    section = document.get("run")
    names = ("run_dir", *aliases(RunConfig.model_fields["run_dir"]))
    places = [document, section if isinstance(section, dict) else {}]
    found = [document.get("run.run_dir"), *(place.get(name) for place in places for name in names)]
    return next((value for value in found if isinstance(value, str)), None)


def _first(*names: str | None) -> str:
    """Return the first name that was given; an empty one was given too, and is refused where it is looked up."""
    return next(name for name in names if name is not None)


def _name_in(document: Mapping[str, Any], key: str, file: Path | None) -> str | None:
    name = document.get(key)
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{file}: {key} = {name!r} should be a {key}'s name")
    return name


def _family_in(document: Mapping[str, Any], file: Path | None = None) -> str | None:
    """Return the model family that a config names: `model: apt`, or `model` in the section `model`."""
    section = document.get("model")
    name = section.get("model") if isinstance(section, dict) else section
    if name is None:
        name = document.get("model.model")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{file}: model = {name!r} should be a model family's name")
    return name


def _inner_backend(
    backend: Backend, given: str | None, document: Mapping[str, Any], file: Path | None
) -> type[Backend] | None:
    if not is_remote(backend):
        if given is not None:
            raise ConfigError(f"--inner-backend {given}: --backend {backend.name} trains by itself; leave it out")
        return None
    section = document.get(backend.name)
    named = _name_in(document, "inner_backend", file)
    if named is None and isinstance(section, dict):
        named = _name_in(section, "inner_backend", file)
    name = _first(given, named, backend.Options().inner_backend)  # type: ignore[attr-defined]
    choices = [known for known in BACKENDS.names() if known != backend.name]
    if name not in (*choices, backend.name):
        raise ConfigError(
            f"--inner-backend {name}: unknown backend; choose from {', '.join(choices)}{did_you_mean(name, choices)}"
        )
    found = BACKENDS.load(name)
    if is_remote(found()):
        raise ConfigError(f"--inner-backend {name}: it trains nothing itself; choose from {', '.join(choices)}")
    return found


# -- layers --------------------------------------------------------------------------------------------------------


def layers_of(
    choice: Choice, settings: Sequence[Layer] = (), *, defaults: Sequence[Layer] = (), fetch: bool = True
) -> list[Layer]:
    """Return all layers of a run's settings, the lowest first.

    Args:
        choice: brings the backend's preset, the resumed run and the config file.
        settings: lie over the config file, such as flags.
        defaults: lie over the preset and under the resumed run.
        fetch: a remote backend is asked for the settings of a resumed run that is not on this machine.

    Raises:
        UserError: a file or the resumed run cannot be read, or names an unknown setting.
    """
    tree, resume = choice.config_class, choice.resume
    below = [*choice.presets(), *defaults]
    above = [Layer(str(choice.config_file), read_settings(choice.config_file, tree))] if choice.config_file else []
    above = with_the_model(choice.model, [*above, *settings], choice.task)
    named = next((layer.settings["backend"] for layer in reversed(above) if "backend" in layer.settings), None)
    if named != choice.backend.name:
        above.append(Layer(choice.origin, {"backend": choice.backend.name}))
    if not isinstance(resume, str):
        return [*below, *above]
    name, backend = f"{RESUMED_RUN} ({resume})", choice.backend
    if fetch and is_remote(backend) and not existing_form(Path(resume)).exists():
        config = resolve(tree, [*below, *above]).config
        saved = carried_over(backend.settings_of_run(resume, config), tree, f"--resume {resume}: its config.yaml")
        saved.pop("run.run_dir", None)
    else:
        saved = settings_of_run(Path(resume), tree)
    return [*below, Layer(name, saved, gives_way=True), *above]


def with_the_model(family: str, layers: Sequence[Layer], task: str) -> list[Layer]:
    """Return layers in which `--model DIR` is a family and a place, over one with what is fixed by the network there.

    Args:
        family: name of the family of that model.
        layers: settings, the lowest first; where one of them is complete, as in a run's config.yaml, the model is not
            looked at.
        task: name of the task, whose settings the network may fix too, such as its noise levels.

    Raises:
        UserError: there is no such model, it is damaged, or a setting contradicts it.
    """
    layers = _with_named_models(layers)
    of_base = next((layer for layer in reversed(layers) if "model.base_model" in layer.settings), None)
    base = of_base.settings["model.base_model"] if of_base is not None else None
    options: type[ModelOptions] = MODELS.load(family).Options
    every = {f"model.{name}" for name in options.model_fields}
    if of_base is None or not isinstance(base, str) or any(every <= layer.settings.keys() for layer in layers):
        return layers
    of_data: type[TaskOptions] = TASKS.load(task).Options
    try:
        chosen, place = MODELS.load(family)(), str(path_of("base_model", base))
        fixed = {f"model.{name}": value for name, value in chosen.shape_of(place).items()}
        for name, value in chosen.data_settings_of(place).items():
            if name in of_data.model_fields:
                fixed[f"data.{name}"] = value
    except CheckpointError as error:
        raise ConfigError(f"{of_base.origin('model.base_model')}: no model in {printable(base)} ({error})") from error
    _refuse_what_contradicts({"model": options, "data": of_data}, fixed, layers, base)
    return [Layer(f"the model in {base}", fixed), *layers]


def _refuse_what_contradicts(
    sections: Mapping[str, type[Section]], fixed: Mapping[str, Any], layers: Sequence[Layer], base: str
) -> None:
    """Refuse a setting that is not that of the model which training starts from."""
    for layer in layers:
        for key, has in fixed.items():
            section, _, name = key.partition(".")
            options = sections[section]
            if key not in layer.settings or name in getattr(options, "fits_any_weights", ()):
                continue
            try:
                wanted = TypeAdapter(cast(Any, options.model_fields[name].annotation)).validate_python(
                    layer.settings[key]
                )
            except ValidationError:
                continue  # refused where all values are checked
            if wanted != has:
                raise ConfigError(
                    f"{layer.origin(key)}: {name} is {printable(str(has))} in the model that training starts from "
                    f"({printable(base)}), and {printable(str(wanted))} here; leave it out"
                )


def _with_named_models(layers: Sequence[Layer]) -> list[Layer]:
    """Return layers in which `model` names a family; a layer that names another model takes away a place below it."""
    found: list[Layer] = []
    for layer in layers:
        settings = with_named_model(layer.settings)
        if "model.model" in settings and "model.base_model" not in settings:
            found = [
                replace(low, settings={key: value for key, value in low.settings.items() if key != "model.base_model"})
                if "model.base_model" not in was.settings
                else low
                for low, was in zip(found, layers, strict=False)
            ]
        found.append(replace(layer, settings=settings))
    return found


def resolve_for(backend: Backend, tree: type[TrainingConfig], layers: Sequence[Layer]) -> Resolved:
    """Lay the layers over each other, and make the batch sizes multiply out for the ranks that the run will have.

    Args:
        backend: the one that the settings name.
        tree: the settings that there are.
        layers: the lowest first.

    Raises:
        UserError: a value is wrong, or explicit batch sizes contradict each other.
    """
    return _multiplied_out(resolve(tree, layers), backend)


def _multiplied_out(resolved: Resolved, backend: Backend) -> Resolved:
    """Let batch sizes that nobody gave give way: to a file of the backend's own, then to those that somebody gave."""
    # In a worker that was started by hand only the launcher knows how many ranks there are.
    identity = RankIdentity.of_environment()
    ranks = placement_of(resolved.config).ranks if identity is None else identity.world_size
    given = {name for name in RunConfig.model_fields if f"run.{name}" in resolved.explicit}
    in_file = getattr(backend, "batch_sizes_in_file", None)
    sizes, file = (in_file and in_file(resolved.config, ranks)) or ({}, "")
    left_open = {name: size for name, size in sizes.items() if name not in given}
    if left_open:
        resolved = resolved.with_run(resolved.config.run.model_copy(update=left_open), file)
        given |= left_open.keys()
    run = resolved.config.run
    fitting = run.multiplied_out(ranks, given)
    kept = [name for name in BATCH_SIZES if getattr(run, name) == getattr(fitting, name) is not None]
    source = " and ".join(f"{name}={getattr(run, name)}" for name in kept)
    return resolved.with_run(fitting, f"{source} on {ranks} rank{'s' if ranks > 1 else ''}")


# -- the run -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PreparedRun:
    """A run that was checked and planned, and has not begun."""

    request: RunRequest
    plan: LaunchPlan | None
    """The processes to start; None: it runs in this process."""
    backend: Backend
    layers: Sequence[Layer]
    """Where the settings come from, the lowest first."""

    def varied(self, layer: Layer) -> PreparedRun:
        """Return this run with other settings.

        Raises:
            ConfigError: the settings do not go together, or the backend cannot do what they ask for.
        """
        layers = [*self.layers, layer]
        resolved = resolve_for(self.backend, type(self.request.config), layers)
        return _prepared(resolved, self.backend, layers, self.request)


def prepare(
    choice: Choice,
    settings: Sequence[Layer] = (),
    *,
    defaults: Sequence[Layer] = (),
    start_from: Path | None = None,
    overwrite: bool = False,
    stop_after: int | None = None,
    fetch: bool = True,
) -> PreparedRun:
    """Check and plan a run.

    Args:
        choice: of backend, task and model family, with the config file and the resumed run.
        settings: lie over the config file, such as flags.
        defaults: lie over the backend's preset and under the resumed run.
        start_from: see `RunRequest`.
        overwrite: see `RunRequest`.
        stop_after: see `RunRequest`.
        fetch: see `layers_of`.

    Raises:
        UserError: a setting is unknown or wrong, settings do not go together, or the backend cannot do what they ask
            for.
    """
    layers = layers_of(choice, settings, defaults=defaults, fetch=fetch)
    return prepare_layers(choice, layers, start_from=start_from, overwrite=overwrite, stop_after=stop_after)


def prepare_layers(
    choice: Choice,
    layers: Sequence[Layer],
    *,
    start_from: Path | None = None,
    overwrite: bool = False,
    stop_after: int | None = None,
) -> PreparedRun:
    """Check and plan a run from all its layers, as `layers_of` returns them. See `prepare`."""
    resolved = resolve_for(choice.backend, choice.config_class, layers)
    resume_from = Path(choice.resume) if isinstance(choice.resume, str) else None
    asked = RunRequest(
        resolved.config,
        choice.resume is not False,
        resume_from=resume_from,
        start_from=start_from,
        overwrite=overwrite,
        stop_after=stop_after,
    )
    return _prepared(resolved, choice.backend, layers, asked)


def prepare_config(config: TrainingConfig, *, resume: bool = False, where: str = "the config") -> PreparedRun:
    """Check and plan a run whose config is there already.

    Args:
        config: of `config_class(...)`, with the section of the backend that it names.
        resume: the run goes on from a checkpoint.
        where: shown as the source of its settings.

    Raises:
        ConfigError: settings do not go together, or the backend cannot do what they ask for.
    """
    config.validate()
    config.refuse_patience(has_validation=config.data.validation_split > 0.0)
    backend = _load(config.backend)()
    given = frozenset(f"run.{name}" for name in config.run.model_fields_set)
    resolved = _multiplied_out(Resolved(config, {}, given), backend)
    layers = [Layer(where, flatten(resolved.config.to_dict(), type(config), where))]
    return _prepared(resolved, backend, layers, RunRequest(resolved.config, resume))


def _prepared(resolved: Resolved, backend: Backend, layers: Sequence[Layer], asked: RunRequest) -> PreparedRun:
    """Check and plan.

    Args:
        resolved: the config.
        backend: the one that the config names.
        layers: what it was resolved from.
        asked: what else is asked of the run; its config is not used.
    """
    config = resolved.config
    refuse_unsupported(backend, config, asked.resume)
    backend.validate(config)
    request = replace(asked, config=config, origins=resolved.origins)
    return PreparedRun(request, backend.plan(config), backend, tuple(layers))


def refuse_unsupported(backend: Backend, config: TrainingConfig, resume: bool) -> None:
    """Refuse what the backend cannot do, with its reason.

    Raises:
        ConfigError: the first such feature that the config asks for.
    """
    for feature in sorted(requested_features(config, resume), key=lambda f: f.name):
        if feature in backend.unsupported:
            raise ConfigError(f"--backend {backend.name} cannot do {feature.value}: {backend.unsupported[feature]}")
