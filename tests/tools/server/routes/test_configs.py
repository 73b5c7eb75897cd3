"""Configs stored and asked about, the form, data sets and their first rows, and the machine; over a real connection."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.running_server import RunningServer, serving
from tools.server.settings.form import chinese_helps, make_form
from tools.server.settings.policy import declarations_of
from training.backends.prepare import config_class

CHAT = {"messages": [{"role": "user", "content": "One and one?"}, {"role": "assistant", "content": "Two."}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Serve an empty root with data sets of three kinds, and what is none."""
    folder = tmp_path_factory.mktemp("server")
    data = folder / "data"
    (data / "deep" / "er").mkdir(parents=True)
    (data / "rows.json").write_text(json.dumps({"data": {"a": [{"input": "1 + 1 = ?", "output": "2"}] * 3}}))
    (data / "deep" / "chats.jsonl").write_text(f"{json.dumps(CHAT)}\n" * 20)
    (data / "deep" / "er" / "story.txt").write_text("Once upon a time.\n" * 40)
    (data / "broken.jsonl").write_text('{"messages": [\n')
    (data / "notes.md").write_text("no data")
    (data / "empty.json").write_text("")
    (data / ".hidden.json").write_text("[]")
    (folder / "secret.json").write_text('{"secret": "outside"}')
    (data / "link.json").symlink_to(folder / "secret.json")
    (data / "linked").symlink_to(folder)
    os.mkfifo(data / "pipe.json")
    with serving(folder / "runs", data=(data,)) as running:
        yield running


def data_sets(server: RunningServer) -> dict[str, str]:
    """Return name -> id of the data sets."""
    return {one["name"]: one["id"] for one in server.get("/api/data").json["data_sets"]}


# -- stored configs ----------------------------------------------------------------------------------------------------


def test_a_config_is_stored_listed_and_deleted(server: RunningServer) -> None:
    document = {"name": "小模型", "description": "two\nlines", "settings": {"epochs": 3}, "task": "hlbd"}
    made = server.post("/api/training/configs", document)
    assert made.status == 201
    path = f"/api/training/configs/{made.json['id']}"
    assert server.get(path).json == made.json
    assert made.json["settings"] == {"epochs": 3}
    assert [one["id"] for one in server.get("/api/training/configs").json["configs"]] == [made.json["id"]]
    assert (server.state.directory / "configs" / f"{made.json['id']}.json").stat().st_mode & 0o077 == 0
    answer = server.ask("DELETE", path)
    assert (answer.status, answer.body) == (204, b"")
    assert server.get(path).status == server.ask("DELETE", path).status == 404
    assert server.get("/api/training/configs").json == {"configs": []}


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"name": ""},
        {"name": " "},
        {"name": "x" * 81},
        {"name": "\x1b[31mred"},
        {"name": "two\nlines"},
        {"name": "\u202eabc"},
        {"name": ["x"]},
        {"name": "x", "description": "\x07"},
        {"name": "x", "settings": []},
        {"name": "x", "settings": {"epochs": -1}},
        {"name": "x", "settings": {"run_dir": "/tmp"}},
        {"name": "x", "unknown": 1},
        {"name": "x", "backend": "azure"},
    ],
)
def test_what_cannot_be_a_config_is_refused_and_not_stored(server: RunningServer, document: Any) -> None:
    answer = server.post("/api/training/configs", document)
    assert answer.status == 422
    assert answer.json["detail"].isprintable()
    assert server.get("/api/training/configs").json == {"configs": []}


def test_a_damaged_file_hides_itself_alone(server: RunningServer) -> None:
    made = server.post("/api/training/configs", {"name": "whole"}).json
    directory = server.state.directory / "configs"
    damaged, linked = directory / f"{'0' * 12}.json", directory / f"{'1' * 12}.json"
    damaged.write_text('{"name": "half')
    linked.symlink_to(server.state.root.parent / "secret.json")
    assert [one["id"] for one in server.get("/api/training/configs").json["configs"]] == [made["id"]]
    assert server.get(f"/api/training/configs/{'0' * 12}").status == 404
    assert server.get(f"/api/training/configs/{'1' * 12}").status == 404
    for name in ("0" * 12, "1" * 12, made["id"]):
        assert server.ask("DELETE", f"/api/training/configs/{name}").status == 204
    assert (server.state.root.parent / "secret.json").exists()


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_are_resolved_with_who_set_them(server: RunningServer) -> None:
    answer = server.post("/api/training/configs/validate", {"settings": {"epochs": 3}}).json
    assert answer["ok"]
    assert answer["settings"]["run.epochs"] == {"value": 3, "origin": "the request"}
    assert answer["settings"]["optimizer.learning_rate"]["origin"] == "preset playground"


def test_faults_are_listed_with_their_keys(server: RunningServer) -> None:
    answer = server.post("/api/training/configs/validate", {"settings": {"epochs": 0, "batch_size": "x"}})
    assert answer.status == 200
    assert not answer.json["ok"]
    assert [one["key"] for one in answer.json["problems"]] == ["run.epochs", "run.batch_size"]


def test_a_setting_is_explained(server: RunningServer) -> None:
    asked = {"key": "learning_rate", "settings": {"learning_rate": 0.001}}
    text = server.post("/api/training/configs/explain", asked).json["text"]
    assert "optimizer.learning_rate = 0.001" in text
    assert "set by   the request" in text
    problem = server.post("/api/training/configs/explain", {"key": "learning_rat"})
    assert (problem.status, problem.json["remedy"]) == (422, "did you mean 'learning_rate'?")


def test_two_settings_are_compared(server: RunningServer) -> None:
    stored = server.post("/api/training/configs", {"name": "a", "settings": {"epochs": 3}}).json
    asked = {"a": stored["id"], "b": {"epochs": 4, "d_model": 64}}
    answer = server.post("/api/training/configs/diff", asked).json
    server.ask("DELETE", f"/api/training/configs/{stored['id']}")
    assert answer == {
        "differences": [{"key": "model.d_model", "a": 256, "b": 64}, {"key": "run.epochs", "a": 3, "b": 4}]
    }
    assert server.post("/api/training/configs/diff", {"a": "0" * 12, "b": {}}).status == 404
    assert server.post("/api/training/configs/diff", {"a": "../..", "b": {}}).status == 404


@pytest.mark.slow  # starts a process
def test_an_estimate_is_the_dry_runs(server: RunningServer) -> None:
    asked = {"settings": {"datasets": ["rows.json"], "d_model": 64, "num_heads": 4}}
    answer = server.post("/api/training/configs/estimate", asked).json
    assert answer["seconds"] is None
    assert answer["memory_bytes"] > 2**20
    assert answer["checkpoint_bytes"] > 2**10
    assert answer["fits"] is True
    assert any(line.startswith("parameters: ") for line in answer["lines"])
    assert str(server.state.root.parent) not in str(answer)
    refused = server.post("/api/training/configs/estimate", {"settings": {**asked["settings"], "vocab_size": 5}})
    assert refused.status == 422
    assert "vocab_size" in refused.json["detail"]


# -- the form ----------------------------------------------------------------------------------------------------------


def test_the_form_has_every_setting_with_its_help_in_both_languages(server: RunningServer) -> None:
    form = server.get("/api/settings/form").json
    settings = {one["key"]: one for section in form["sections"] for one in section["settings"]}
    assert set(settings) == set(declarations_of(config_class())) - {
        "backend", "task", "model.model", "run.run_dir",
    } | {key for key in settings if key.startswith("playground.")}  # fmt: skip
    assert all(one["help"] and one["help_zh"] for one in settings.values())
    epochs = settings["run.epochs"]
    assert (epochs["type"], epochs["default"], epochs["minimum"], epochs["maximum"]) == ("integer", 100, 1, 10**6)
    assert settings["data.datasets"]["type"] == "dataset"
    assert settings["schedule.schedule"]["choices"] == ["warm_restarts", "cosine", "linear", "constant"]
    assert settings["optimizer.learning_rate"]["exclusive_minimum"]
    assert not settings["hub.push_to_hub"]["allowed"]
    assert [one["name"] for one in form["backends"]] == ["playground", "deepspeed", "huggingface"]
    small = next(one for one in form["presets"] if one["name"] == "small")
    checked = server.post("/api/training/configs/validate", {"settings": small["settings"]}).json
    assert checked["ok"], checked["problems"]


@pytest.mark.parametrize("query", ["task=chat&model=huggingface", "backend=huggingface", "task=text&backend=deepspeed"])
def test_there_is_a_form_for_every_choice(server: RunningServer, query: str) -> None:
    assert server.get(f"/api/settings/form?{query}").json["sections"]


def test_a_wrong_choice_is_refused(server: RunningServer) -> None:
    for query in ("task=a:B", "backend=azure", "model=/etc", "task=" + "x" * 300):
        assert server.get(f"/api/settings/form?{query}").status == 422


def test_every_allowed_default_passes_the_check(server: RunningServer) -> None:
    form = make_form(server.state)
    given = {one["key"]: one["default"] for section in form["sections"] for one in section["settings"]}
    del given["data.datasets"]  # the checkout's, which this server does not serve
    answer = server.post("/api/training/configs/validate", {"settings": given}).json
    assert answer["ok"], answer["problems"]


def test_the_chinese_page_is_read() -> None:
    assert chinese_helps()["run", "", "epochs"]
    assert chinese_helps()["data", "chat", "loss_on"] != chinese_helps()["data", "hlbd", "loss_on"]


# -- data --------------------------------------------------------------------------------------------------------------


def test_data_sets_are_listed_without_links_and_without_paths(server: RunningServer) -> None:
    answer = server.get("/api/data")
    found = {one["name"]: one["format"] for one in answer.json["data_sets"]}
    assert found == {
        "broken.jsonl": "JSON Lines", "deep/chats.jsonl": "JSON Lines", "deep/er/story.txt": "plain text",
        "rows.json": "JSON",
    }  # fmt: skip
    assert str(server.state.root.parent) not in answer.text
    assert data_sets(server) == data_sets(server)


@pytest.mark.slow  # starts processes that import transformers
@pytest.mark.parametrize(
    ("name", "query", "task", "trained"),
    [
        ("rows.json", "", "hlbd", "2[EOS]"),
        ("deep/chats.jsonl", "&task=chat", "chat", "Two."),
        ("deep/er/story.txt", "&task=text", "text", "Once upon a time."),
    ],
)
def test_first_rows_are_shown_as_they_will_be_trained(
    server: RunningServer, name: str, query: str, task: str, trained: str
) -> None:
    answer = server.get(f"/api/data/{data_sets(server)[name]}/rows?limit=2{query}")
    assert answer.status == 200, answer.text
    assert answer.json["task"] == task
    rows = answer.json["rows"]
    assert 1 <= len(rows) <= 2
    for row in rows:
        assert row["text"] == "".join(piece["text"] for piece in row["tokens"])
        assert trained.removeprefix("O") in "".join(piece["text"] for piece in row["tokens"] if piece["trained"])
    if task != "text":
        assert any(not piece["trained"] for piece in rows[0]["tokens"])
    assert str(server.state.root.parent) not in answer.text


@pytest.mark.slow  # starts a process
def test_what_cannot_be_read_is_said(server: RunningServer) -> None:
    answer = server.get(f"/api/data/{data_sets(server)['broken.jsonl']}/rows?task=chat")
    assert answer.status == 422
    assert str(server.state.root.parent) not in answer.text


@pytest.mark.parametrize("path", ["0" * 12, "../../etc", "..%2f..%2fsecret.json", "A" * 12, "0" * 13, "rows.json"])
def test_a_data_set_is_named_by_its_id_alone(server: RunningServer, path: str) -> None:
    assert server.get(f"/api/data/{path}/rows").status == 404


# -- the machine -------------------------------------------------------------------------------------------------------


def test_the_machine_says_what_it_has(server: RunningServer) -> None:
    found = server.get("/api/machine").json
    assert found["cores"] >= 1
    assert 0 < found["memory"]["used"] <= found["memory"]["total"]
    assert 0 < found["disk"]["free"] <= found["disk"]["total"]
    assert found["queue"] == {"slots": 1, "used": 0, "queued": 0}


def test_a_gpu_is_read_from_a_line_of_nvidia_smi() -> None:
    from tools.server.routes.machine import _gpu

    found = _gpu("NVIDIA H200, GPU-1234, 1024, 143771, 37, [N/A]")
    assert found == {
        "name": "NVIDIA H200", "uuid": "GPU-1234", "memory": {"used": 2**30, "total": 143771 * 2**20}, "percent": 37,
        "celsius": None,
    }  # fmt: skip


def test_a_path_has_no_place_in_an_answer_to_a_wrong_model(server: RunningServer, tmp_path: Path) -> None:
    answer = server.post("/api/training/configs/validate", {"model": str(tmp_path)}).json
    assert not answer["ok"]
