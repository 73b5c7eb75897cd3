"""The policy of settings: every text setting of the project is decided, and what is refused stays out of a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.recorded_runs import RecordedRun
from tools.server.gate.state import ServerState, make_state, open_root
from tools.server.settings.policy import (
    DECISIONS,
    SECTIONS,
    UNDECIDED,
    NamedDataSet,
    Refused,
    SettingsProblem,
    check,
    decision_of,
    explain,
    holds_text,
)
from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.experiments.store.identity import run_id_of
from training.models.registry import MODELS
from training.settings.declarations import leaves
from training.tasks.registry import TASKS

TREES = [
    config_class(BACKENDS.load(backend), task=task, model=model)
    for backend, task, model in itertools.product(BACKENDS.built_in, TASKS.built_in, MODELS.built_in)
    if TASKS.load(task).inputs == MODELS.load(model).inputs
]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[ServerState]:
    """Yield the state of a server with one data set."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "mine.json").write_text('{"data": {"a": [{"input": "1", "output": "2"}]}}')
    (tmp_path / "runs").mkdir()
    root = open_root(tmp_path / "runs")
    made = make_state(root, token="t", data_directories=(data,), host="127.0.0.1", port=1)
    yield made
    made.close()


def refused(state: ServerState, settings: dict[str, Any], **parts: Any) -> SettingsProblem:
    """Return the refusal of settings."""
    with pytest.raises(SettingsProblem) as caught:
        check(state, settings, **parts)
    return caught.value


def test_every_text_setting_of_every_task_model_and_backend_is_decided() -> None:
    undecided = {key for tree in TREES for key, field in leaves(tree) if decision_of(key, field) is UNDECIDED}
    assert undecided == set(), "decide in tools/server/settings/policy.py what a client may set"


def test_no_decision_is_left_over() -> None:
    known = {key for tree in TREES for key, _ in leaves(tree)}
    assert set(DECISIONS) <= known
    assert {key.partition(".")[0] for key in known} >= set(SECTIONS)


def test_a_text_is_seen_in_any_type() -> None:
    assert all(map(holds_text, (str, Path, str | None, tuple[str, ...], dict[str, int], Any, object, bytes)))
    assert not any(map(holds_text, (int, float | None, bool, tuple[int, ...])))


REFUSED = [
    (key, field)
    for key, field in {key: field for tree in TREES for key, field in leaves(tree)}.items()
    if isinstance(decision_of(key, field), Refused) and key.partition(".")[0] not in SECTIONS
]


@pytest.mark.parametrize("key", [key for key, _ in REFUSED])
def test_what_is_refused_is_refused_with_its_reason(state: ServerState, key: str) -> None:
    backend = section if (section := key.partition(".")[0]) in BACKENDS.built_in else "playground"
    value: Any = {"model.trust_remote_code": True, "hub.private": True, "launch.nnodes": 2}.get(key, "/etc/passwd")
    problem = refused(state, {key: value}, backend=backend, task="hlbd", model="huggingface")
    assert problem.key == key
    assert problem.status == 422
    assert problem.remedy


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"backend": "azure"}, "backend"),
        ({"backend": "os:system"}, "backend"),
        ({"task": "my_file:Task"}, "task"),
        ({"task": ["hlbd"]}, "task"),
        ({"model": "my_file:Family"}, "model"),
        ({"model": "OWNER/NAME"}, "model"),
        ({"model": "/tmp"}, "model"),
        ({"model": {"base_model": "../.."}}, "model"),
        ({"model.base_model": "gpt2"}, "model"),
        ({"datasets": ["/etc/passwd"]}, "data.datasets"),
        ({"datasets": "../data/mine.json"}, "data.datasets"),
        ({"datasets": [["mine.json"]]}, "data.datasets"),
        ({"datasets": {"a": 1}}, "data.datasets"),
        ({"datasets": ["mine.json"] * 101}, "data.datasets"),
        ({"task": "text", "tokenizer": "/etc/passwd"}, "data.tokenizer"),
        ({"task": "chat", "chat_template": "template.jinja"}, "data.chat_template"),
        ({"task": "text", "text_column": "a\nb"}, "data.text_column"),
        ({"track": ["tensorboard", "wandb"]}, "track.track"),
        ({"model": "huggingface", "lora_targets": ["../x"]}, "model.lora_targets"),
        ({"model": "huggingface", "freeze": ["*****"]}, "model.freeze"),
        ({"run": {"run_dir": "/tmp/elsewhere"}}, "run.run_dir"),
        ({"epochs": "x"}, "run.epochs"),
        ({"epochs": 10**400}, "run.epochs"),
        ({"epochs": None}, "run.epochs"),
        ({"run": 3}, None),
        ({"epoch": 3}, "epoch"),
        ({"min_lr": 1.0}, "schedule.min_lr"),
        ({"epochs": 1, "run": {"epochs": 2}}, None),
    ],
)
def test_the_setting_at_fault_is_named(state: ServerState, settings: dict[str, Any], key: str | None) -> None:
    assert refused(state, settings).key == key


def test_all_faults_are_listed(state: ServerState) -> None:
    problem = refused(state, {"epochs": -1, "batch_size": "x"})
    assert [one.key for one in problem.problems] == ["run.epochs", "run.batch_size"]
    problem = refused(state, {"run_dir": "/tmp", "push_to_hub": "a/b", "epochs": 1})
    assert [one.key for one in problem.problems] == ["run.run_dir", "hub.push_to_hub"]


def test_a_form_may_send_what_it_may_not_change_as_it_is(state: ServerState) -> None:
    given = {"push_to_hub": None, "run_dir": "runs/default", "private": False, "nnodes": 1, "epochs": 3}
    assert check(state, given).settings == {"run.epochs": 3}


def test_a_data_set_becomes_its_path_and_is_shown_by_its_name(state: ServerState) -> None:
    path = state.data_directories[0] / "mine.json"
    prepared = check(state, {"data": {"datasets": ["mine.json"]}, "run.epochs": 3})
    assert prepared.settings == {"run.epochs": 3, "data.datasets": [str(path)]}
    assert [str(one) for one in prepared.config.data.datasets] == [str(path)]
    shown = prepared.document()
    assert shown["data.datasets"] == {"value": ["mine.json"], "origin": "the request"}
    assert shown["run.epochs"] == {"value": 3, "origin": "the request"}
    assert shown["schedule.restart_epochs"]["origin"] == "preset playground"
    assert str(state.root) not in str(shown)
    assert "run.run_dir" not in shown
    assert isinstance(DECISIONS["data.datasets"], NamedDataSet)


def test_the_run_lies_where_the_server_says(state: ServerState) -> None:
    prepared = check(state, {}, run_dir=state.root / "first")
    assert prepared.config.run.run_dir == state.root / "first"
    assert "run.run_dir" not in prepared.settings


def test_a_setting_is_explained(state: ServerState) -> None:
    text = explain(state, {"epochs": 3}, "epochs", backend=None, task=None, model=None)
    assert "run.epochs = 3" in text
    assert "the request" in text


@pytest.mark.slow  # imports torch
def test_training_goes_on_from_the_finished_model_of_a_run(state: ServerState) -> None:
    from tests.support.small_apts import TOKENIZER, small_apt
    from training.models.apt.family import APTFamily
    from training.models.apt.options import APTOptions

    run = RecordedRun(state.root / "first", start=1.7e9, total_steps=20).train()
    run.reporter.close()
    run_id = run_id_of(state.root, run.path)
    assert refused(state, {}, model=run_id).detail.endswith("this run has no finished model; choose one that has ended")
    model = small_apt()
    options = APTOptions(**model.config.model_dump())
    APTFamily().save(run.path / "final_model", model, options, None, {"tokenizer": TOKENIZER.to_dict()})
    state.index.look(search=True)
    for asked in ({"model": run_id}, {"model": {"base_model": run_id}}, {"base_model": run_id, "model.model": "apt"}):
        prepared = check(state, asked)
        assert prepared.model == "apt"
        assert prepared.settings["model.model"] == str(run.path / "final_model")
        shown = prepared.document()
        assert shown["model.base_model"]["value"] == "first"
        assert shown["model.d_model"] == {"value": 16, "origin": "the model in first"}
        assert str(state.root) not in str(shown)
    assert refused(state, {"model": run_id, "d_model": 32}).key == "model.d_model"
    assert refused(state, {"model": {"model": "huggingface", "base_model": run_id}}).key == "model"
