"""Settings that a client of the server may set. Default deny: a text needs a decision, and here they all stand.

Numbers, truth values and choices are safe: each has its bounds in its declaration. A text may be a path, an address or
the name of a class to import, so each one is decided in `DECISIONS`: what it may be, or why it is refused. A text
setting without a decision is refused; a test goes over all settings and fails where one is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from tools.server.gate.problems import Problem
from tools.server.gate.run_paths import found_run
from tools.server.gate.state import ServerState
from tools.server.settings.data_sets import find_data_set
from training.backends.prepare import DEFAULT_BACKEND, Choice, choose, config_class, default_model, prepare
from training.backends.registry import BACKENDS
from training.errors import UserError, did_you_mean, printable
from training.models.named_model import FINISHED, named_model
from training.models.registry import MODELS
from training.settings.declarations import leaf_names, leaves
from training.settings.error_messages import SettingsError, shown
from training.settings.layers import Layer, Resolved
from training.settings.tree import DEFAULT_MODEL, DEFAULT_TASK, TrainingConfig
from training.settings.yaml_files import flatten
from training.tasks.registry import TASKS

LAYER = "the request"
"""Source of what a client has set, as it is shown."""
TITLE = "Settings cannot be used"
MOST_WORDS = 100
"""Words of a list."""
_OWN = frozenset({"run.run_dir"})
"""Settings that the server decides."""
_NEW = "new"
"""Name that stands for the directory of a run that has none yet."""


@dataclass(frozen=True)
class Refused:
    """A setting that no client may set."""

    reason: str
    """Why, and what to do instead, without the setting's name."""


@dataclass(frozen=True)
class OneOf:
    """A text that must be one of some names."""

    names: tuple[str, ...]
    reason: str = ""
    """Why no other is allowed."""


@dataclass(frozen=True)
class Word:
    """A text of a form that is neither path nor address to whatever reads it."""

    pattern: re.Pattern[str]
    form: str
    """What it must be, in words."""


@dataclass(frozen=True)
class NamedDataSet:
    """An id or a name of `GET /api/data`; it becomes the path."""


@dataclass(frozen=True)
class NamedRun:
    """The id of a run below the root with a finished model; it becomes the model's path."""


Decision = Refused | OneOf | Word | NamedDataSet | NamedRun

_FILE = Refused("it names a file of the server's machine; set it in a run from the command line")
_ELSEWHERE = Refused("the run would send data to another server; set it in a run from the command line")
_MACHINES = Refused("it concerns other machines; start such a run from the command line")
_CODE = Refused("the run would execute code that the setting names; set it in a run from the command line")
_LAYERS = Word(re.compile(r"[A-Za-z0-9_.-]{1,200}"), "the name of a layer")
LOCAL_BACKENDS = tuple(name for name in BACKENDS.built_in if name != "azure")
TRACKERS = ("tensorboard",)
TOKENIZERS = ("bpe", "characters")
TEMPLATES = ("chatml", "llama3", "gemma", "zephyr", "plain")

DECISIONS: Mapping[str, Decision] = {
    "backend": OneOf(
        LOCAL_BACKENDS,
        "others are plug-ins, choose by what is free at the moment (auto), or cost money elsewhere; use them from the "
        "command line",
    ),
    "task": OneOf(tuple(TASKS.built_in), "others are plug-ins; use them from the command line"),
    "model.model": OneOf(tuple(MODELS.built_in), "others are plug-ins; use them from the command line"),
    "model.base_model": NamedRun(),
    "model.base_digest": Word(re.compile(r"[0-9a-f]{32}"), "a hash of 32 hex digits"),
    "model.architecture": _FILE,
    "model.trust_remote_code": _CODE,
    "model.lora_targets": _LAYERS,
    "model.lora_modules_to_save": _LAYERS,
    "model.freeze": Word(re.compile(r"[A-Za-z0-9_.-]*(\*[A-Za-z0-9_.-]*){0,4}"), "a layer's name, with up to four *"),
    "data.datasets": NamedDataSet(),
    "data.tokenizer": OneOf(TOKENIZERS, "a directory or a name on the Hub is set from the command line"),
    "data.chat_template": OneOf(TEMPLATES, "a file is set from the command line"),
    "data.text_column": Word(re.compile(r"[\w .:@#-]{1,100}"), "the name of a column"),
    "run.run_dir": Refused("the server names the directory after the run; give the run a name"),
    "launch.nnodes": _MACHINES,
    "launch.rdzv_endpoint": _MACHINES,
    "launch.rdzv_id": _MACHINES,
    "track.track": OneOf(TRACKERS, "others send data to another server; set them from the command line"),
    "track.wandb_project": _ELSEWHERE,
    "track.wandb_entity": _ELSEWHERE,
    "track.mlflow_tracking_uri": _ELSEWHERE,
    "track.mlflow_experiment": _ELSEWHERE,
    "hub.push_to_hub": _ELSEWHERE,
    "hub.private": _ELSEWHERE,
    "deepspeed.deepspeed_config": _FILE,
    "deepspeed.hostfile": _MACHINES,
    "huggingface.deepspeed": _FILE,
    "huggingface.hf": Refused("it takes any argument of transformers, also paths; set it from the command line"),
    "huggingface.trainer_callbacks": _CODE,
}  # fmt: skip
"""Dotted key -> what is decided about it."""
SECTIONS: Mapping[str, Refused] = {
    "azure": Refused("runs in the cloud cost money and need its login; start them from the command line"),
}
"""Section of a backend -> why none of its settings is taken."""
UNDECIDED = Refused("nobody has decided that a client may set it; set it in a run from the command line")


@dataclass(frozen=True)
class PreparedSettings:
    """Settings that were checked: a run can be made of them."""

    config: TrainingConfig
    origins: Mapping[str, str]
    """Dotted key -> who set it; a key that is missing has its default."""
    settings: Mapping[str, Any]
    """Dotted key -> value of what the client has set, without the run directory; names are paths now."""
    backend: str
    task: str
    model: str
    """Family of the model."""
    root: Path
    names: Mapping[str, str]
    """Path -> name of what a client knows by its name only."""

    def document(self) -> dict[str, dict[str, Any]]:
        """Return every setting, as a client sees it: dotted key -> {value, origin}."""
        return {
            key: {"value": self.public(value), "origin": self.public(printable(self.origins.get(key, "the default")))}
            for key, value in flat(self.config.to_dict())
            if key not in _OWN
        }

    def public(self, value: Any) -> Any:
        """Return a value, or a list of values, without paths that no client needs to know."""
        if isinstance(value, list):
            return [self.public(one) for one in value]
        return public_text(value, self.root, self.names) if isinstance(value, str) else value


class SettingsProblem(Problem):
    """Settings that cannot be used.

    Args:
        problems: each of them; the first one is the answer.
    """

    def __init__(self, problems: list[Problem]) -> None:
        first = problems[0]
        super().__init__(first.status, first.title, first.detail, first.key, first.remedy or "")
        self.problems = problems


def check(
    state: ServerState,
    settings: Mapping[str, Any],
    *,
    backend: str | None = None,
    task: str | None = None,
    model: str | None = None,
    run_dir: Path | None = None,
) -> PreparedSettings:
    """Check what a client wants to train with, as the front door would; nothing is written.

    Args:
        state: has the data directories and the root.
        settings: keys short, dotted or nested.
        backend: None: as the settings say, else playground.
        task: None: as the settings say, else hlbd.
        model: a family, or the id of a run whose finished model training goes on from; None: as the settings say, else
            apt.
        run_dir: directory of the run; None: it has none yet.

    Raises:
        SettingsProblem: a setting is unknown, not allowed or wrong, or settings do not go together.
    """
    names: dict[str, str] = {}
    asked = dict(settings)
    chosen = _Chosen(DEFAULT_BACKEND, DEFAULT_TASK, DEFAULT_MODEL)
    try:
        chosen = _choose(state, asked, backend, task, model, names)
        choice, layer = _layer(state, asked, chosen, run_dir, names)
        prepared = prepare(choice, [layer])
    except SettingsProblem:
        raise
    except SettingsError as error:
        faults = [Problem(422, TITLE, line, key=key) for key, line in error.faults]
        raise SettingsProblem([_without_paths(fault, state, names) for fault in faults]) from None
    except UserError as error:
        raise SettingsProblem([_without_paths(_of_line(str(error), chosen), state, names)]) from None
    given = {key: value for key, value in layer.settings.items() if key not in _OWN}
    return PreparedSettings(
        config=prepared.request.config,
        origins=prepared.request.origins,
        settings=given,
        backend=chosen.backend,
        task=chosen.task,
        model=choice.model,
        root=state.root,
        names=names,
    )


def explain(
    state: ServerState,
    settings: Mapping[str, Any],
    key: str,
    *,
    backend: str | None,
    task: str | None,
    model: str | None,
) -> str:
    """Return what a setting means, its value with these settings, and who set it.

    Raises:
        SettingsProblem: as `check`.
        Problem: there is no such setting.
    """
    checked = check(state, settings, backend=backend, task=task, model=model)
    try:
        text = Resolved(checked.config, checked.origins).explain(key)
    except UserError as error:
        raise Problem(422, TITLE, str(error).removeprefix("--explain "), key="key") from None
    return str(checked.public(text))


# -- backend, task and model -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chosen:
    backend: str
    task: str
    model: str
    """Family of the model, or the directory of a finished one."""


def _choose(
    state: ServerState,
    asked: dict[str, Any],
    backend: str | None,
    task: str | None,
    model: str | None,
    names: dict[str, str],
) -> _Chosen:
    """Return backend, task and model, and take them out of the settings.

    Raises:
        SettingsProblem: one of them is not allowed.
    """
    found = {}
    for key, given, usual in (("backend", backend, DEFAULT_BACKEND), ("task", task, DEFAULT_TASK)):
        decision = DECISIONS[key]
        assert isinstance(decision, OneOf)
        found[key] = _one_of(key, _agreed(key, given, _taken(asked, "", key)), decision, usual)
    family = _agreed("model", model, _taken(asked, "model", "model"))
    base = _taken(asked, "model", "base_model")
    if isinstance(family, str) and family not in MODELS.built_in:
        base, family = _agreed("model", family, base), None
    decision = DECISIONS["model.model"]
    assert isinstance(decision, OneOf)
    if base is None:
        return _Chosen(
            found["backend"], found["task"], _one_of("model", family, decision, default_model(found["task"]))
        )
    place = _finished_model(state, base, names)
    if family is not None and family != (has := named_model(str(place)).family):
        raise _refused(
            "model", f"model = {family!r}: the model of the run {base!r} is of the family {has}; leave model out"
        )
    return _Chosen(found["backend"], found["task"], str(place))


def _taken(asked: dict[str, Any], section: str, name: str) -> Any:
    """Return a setting, whichever way it is written, and take it out; None: it is not there.

    Raises:
        SettingsProblem: it is there twice, and not the same.
    """
    found = [asked.pop(f"{section}.{name}", None)] if section else []
    if not isinstance(asked.get(name), dict):
        found.append(asked.pop(name, None))
    if section and isinstance(inner := asked.get(section), dict):
        asked[section] = {key: value for key, value in inner.items() if key != name}
        found.append(inner.get(name))
    value = None
    for one in found:
        value = _agreed(name, value, one)
    return value


def _agreed(key: str, one: Any, other: Any) -> Any:
    if one is not None and other is not None and one != other:
        raise _refused(key, f"{key} is given twice, as {shown(one)} and as {shown(other)}; leave one out")
    return other if one is None else one


def _one_of(key: str, value: Any, decision: OneOf, usual: str) -> str:
    if value is None:
        return usual
    if not isinstance(value, str) or value not in decision.names:
        raise _refused(key, _not_one_of(key, value, decision))
    return str(value)


def _finished_model(state: ServerState, wanted: Any, names: dict[str, str]) -> Path:
    """Return the directory of the finished model of a run.

    Raises:
        SettingsProblem: no run has this id, or it has no finished model.
    """
    try:
        run = found_run(state, wanted if isinstance(wanted, str) else "")
    except Problem:
        advice = f"give the id of a run that has ended, or one of {', '.join(MODELS.built_in)}"
        raise _refused("model", f"model = {shown(wanted)}: no model family and no run's id; {advice}") from None
    place = run.path / FINISHED
    if place.is_symlink() or not place.is_dir():
        raise _refused("model", f"model = {wanted!r}: this run has no finished model; choose one that has ended")
    names[str(place)] = run.name
    return place


# -- settings ----------------------------------------------------------------------------------------------------------


def _layer(
    state: ServerState, asked: Mapping[str, Any], chosen: _Chosen, run_dir: Path | None, names: dict[str, str]
) -> tuple[Choice, Layer]:
    """Return the choice of backend, task and model, and the layer of what the client has set.

    Raises:
        UserError: a setting is unknown.
        SettingsProblem: settings are not allowed.
    """
    choice = choose(backend=chosen.backend, task=chosen.task, model=chosen.model)
    tree = choice.config_class
    found, problems = {}, []
    for key, value in flatten(asked, tree, "settings").items():
        field = declarations_of(tree)[key]
        try:
            if not _is_left_out(key, value, field):
                found[key] = _value(state, key, value, field, names)
        except Problem as problem:
            problems.append(problem)
    if problems:
        raise SettingsProblem(problems)
    own = {"run.run_dir": str(run_dir or state.root / _NEW)}
    if chosen.model not in MODELS.built_in:
        own["model.model"] = chosen.model
    return choice, Layer(LAYER, {**found, **own})


@cache
def declarations_of(tree: type[TrainingConfig]) -> Mapping[str, FieldInfo]:
    """Return dotted key -> declaration of every setting."""
    return dict(leaves(tree))


def decision_of(key: str, field: FieldInfo) -> Decision | None:
    """Return what is decided about a setting; None: it may have any value of its type, which holds no text."""
    if (section := key.partition(".")[0]) in SECTIONS:
        return SECTIONS[section]
    if key in DECISIONS:
        return DECISIONS[key]
    return UNDECIDED if holds_text(field.annotation) else None


def holds_text(kind: Any) -> bool:
    """Return True for a type with values that may be a text of any content, or of which that is not known."""
    if get_origin(kind) is Literal:
        return False
    inner = [one for one in get_args(kind) if one is not Ellipsis]
    return any(map(holds_text, inner)) if inner else kind not in (int, float, bool, NoneType)


def _is_left_out(key: str, value: Any, field: FieldInfo) -> bool:
    """Return True for a value that changes nothing in a setting that no client may change."""
    default = field.get_default(call_default_factory=True)
    plain = list(default) if isinstance(default, tuple) else str(default) if isinstance(default, Path) else default
    return isinstance(decision_of(key, field), Refused) and type(value) is type(plain) and value == plain


def _value(state: ServerState, key: str, value: Any, field: FieldInfo, names: dict[str, str]) -> Any:
    """Return the value of a setting as the run gets it.

    Raises:
        Problem: it is not allowed.
    """
    decision, name = decision_of(key, field), key.rpartition(".")[2]
    if decision is None or value is None:
        return value
    if isinstance(decision, Refused):
        raise Problem(422, TITLE, f"{name} = {shown(value)}: {decision.reason}", key=key)
    words = value if isinstance(value, list) else [value]
    if len(words) > MOST_WORDS or not all(isinstance(word, str) for word in words):
        raise Problem(422, TITLE, f"{name} = {shown(value)}: should be a text, or up to {MOST_WORDS} of them", key=key)
    for word in words:
        if isinstance(decision, OneOf) and word not in decision.names:
            raise Problem(422, TITLE, _not_one_of(name, word, decision), key=key)
        if isinstance(decision, Word) and not decision.pattern.fullmatch(word):
            raise Problem(422, TITLE, f"{name} = {word!r}: should be {decision.form}", key=key)
    if isinstance(decision, NamedDataSet):
        found = [find_data_set(state.data_directories, word, key) for word in words]
        names.update((str(one.path), one.name) for one in found)
        return [str(one.path) for one in found]
    return value


def _not_one_of(name: str, value: Any, decision: OneOf) -> str:
    hint = did_you_mean(value, decision.names) if isinstance(value, str) else ""
    reason = f"; {decision.reason}" if decision.reason else ""
    return f"{name} = {shown(value)}: not one of {', '.join(decision.names)}{reason}{hint}"


# -- problems ----------------------------------------------------------------------------------------------------------


def _refused(key: str, line: str) -> SettingsProblem:
    return SettingsProblem([Problem(422, TITLE, line, key=key)])


def _of_line(line: str, chosen: _Chosen) -> Problem:
    """Return the problem of a line that the front door would print, with the first setting that it names."""
    try:
        known = leaf_names(config_class(BACKENDS.load(chosen.backend), task=chosen.task))
    except UserError:
        known = {}
    if unknown := re.search(r"unknown key '([^']+)'", line):
        return Problem(422, TITLE, line, key=unknown[1])
    words = [word.replace("-", "_") for word in re.findall(r"[a-z][a-z0-9_-]+", line)]
    return Problem(422, TITLE, line, key=next((known[word] for word in words if word in known and "_" in word), None))


def _without_paths(problem: Problem, state: ServerState, names: Mapping[str, str]) -> Problem:
    def public(text: str | None) -> str | None:
        return None if text is None else public_text(text, state.root, names)

    return Problem(
        problem.status, problem.title, public(problem.detail) or "", problem.key, public(problem.remedy) or ""
    )


def public_text(text: str, root: Path, names: Mapping[str, str]) -> str:
    """Return a text in which what a client knows by name has no path."""
    for path in sorted(names, key=len, reverse=True):
        text = text.replace(path, names[path])
    return text.replace(f"{root}/", "")


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of a nested config."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
