"""The command `tools/models.py`: versions from a real run to a conversation, exit codes, and one line for bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import FrontDoor
from tests.support.finished_runs import finished
from tests.test_architecture import LIGHT, reached_on_import
from tools import chat, models, verify_hlbd_model
from tools.figures.wording import columns_of
from training.errors import UserError
from training.storage.checksums import sealed

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with two versions, of two runs that differ in one setting and in their weights."""
    folder = tmp_path_factory.mktemp("models")
    for name, rate in (("a", 1e-3), ("b", 3e-4)):
        run = finished(folder / "runs" / name, name.encode(), settings={"schedule": {"learning_rate": rate}})
        assert (
            models.run(["--root", str(folder / "models"), "register", "digits", str(run), "--note", f"run {name}"]) == 0
        )
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as a copy in which a test works."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def ask(folder: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return a function that runs the command in the folder and returns what it prints, after the exit code."""

    def run(*words: str, code: int = 0) -> str:
        assert models.run(list(words)) == code
        shown = capsys.readouterr()
        return shown.err if code else shown.out

    return run


def test_versions_are_registered_listed_and_shown(ask: Ask, folder: Path) -> None:
    finished(folder / "runs" / "c", b"c")
    assert ask("register", "digits", "runs/c").startswith("registered digits:3: 5 files, ")
    assert ask("register", "digits", "runs/c").startswith("digits:3 holds these very bytes already (registered 20")
    ask("alias", "digits", "prod", "2")
    table = ask("list").splitlines()
    assert [line.split()[:2] for line in table] == [
        ["version", "aliases"], ["digits:1", "—"], ["digits:2", "prod"], ["digits:3", "—"],
    ]  # fmt: skip
    assert "run a" in table[1]
    page = ask("show", "digits@prod")
    assert page.startswith("digits:2   @prod\n")
    for said in ("schedule.learning_rate", "0.0003", "val_loss", "final_model/model.safetensors", "0123456789abcdef"):
        assert said in page
    assert ask("show", "digits:2", "--path") == "models/digits/2/final_model\n"
    document = json.loads(ask("show", "digits:2", "--json"))
    assert (document["format"], document["schema_version"]) == ("apt-models", 1)
    assert (document["version"]["number"], document["version"]["aliases"]) == (2, ["prod"])
    assert [v["number"] for v in json.loads(ask("list", "digits", "--json"))["versions"]] == [1, 2, 3]


def test_two_versions_differ_in_what_differs(ask: Ask) -> None:
    page = ask("diff", "digits:1", "digits:2")
    assert page.startswith("digits:1   digits:2\nthe data are the same\n\nsettings\n")
    assert "  schedule.learning_rate   0.001   0.0003\n" in page
    assert "final_model/model.safetensors" in page
    assert "final_model/config.json" not in page
    document = json.loads(ask("diff", "digits:1", "digits:2", "--json"))
    assert document["settings"] == {"schedule.learning_rate": [0.001, 0.0003]}
    assert document["data_fingerprint"] is None
    assert ask("diff", "digits:1", "digits:1").endswith("settings, data, figures and files are the same\n")


def test_an_alias_is_promoted_through_a_gate_and_goes_back(ask: Ask) -> None:
    shut = ask("alias", "digits", "prod", "1", "--gate", "val_loss < 0.5", code=1)
    assert shut == "gate shut  val_loss < 0.5   (val_loss = 1)\ndigits@prod still points to no version\n"
    assert ask("alias", "digits", "prod", "1") == "digits@prod points to version 1\n"
    opened = ask("alias", "digits", "prod", "2", "--gate", "val_loss < 2")
    assert opened == "gate open  val_loss < 2   (val_loss = 1)\ndigits@prod points to version 2; before, to 1\n"
    assert ask("alias", "digits", "prod", "2") == "digits@prod points to version 2 already\n"
    assert ask("alias", "digits", "prod", "1", "--gate", "val_loss < 0.5", code=1).endswith("stays at version 2\n")
    assert ask("rollback", "digits", "prod") == "digits@prod points to version 1; before, to 2\n"
    assert ask("alias", "digits") == "digits@prod  1\n"
    history = ask("alias", "digits", "prod").splitlines()
    assert [line.split()[2:4] for line in history[1:]] == [["1", "set"], ["2", "set"], ["1", "rolled"]]


def test_damage_is_named_with_exit_code_1(ask: Ask, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("verify").count("whole: 5 files") == 2
    (folder / "models" / "digits" / "1" / "config.yaml").write_text("changed")
    (folder / "models" / "digits" / "1" / "more.txt").write_text("more")
    assert models.run(["verify"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("digits:1  config.yaml  damaged: it has 7 bytes, and had ")
    assert said[1] == "digits:1  more.txt  added: model_version.json does not name it"
    assert said[2].startswith("digits:2  whole: ")
    assert models.run(["verify", "digits:1", "--json"]) == 1
    [checked] = json.loads(capsys.readouterr().out)["checked"]
    assert [fault["path"] for fault in checked["faults"]] == ["config.yaml", "more.txt"]
    assert "config.yaml: damaged, it is not as it was registered" in ask("pull", "digits:1", "--output", "x", code=1)
    assert not (folder / "x").exists()
    assert ask("verify", "digits:2").startswith("digits:2  whole")


def test_a_version_is_pulled(ask: Ask, folder: Path) -> None:
    said = ask("pull", "digits@latest", "--output", "out").splitlines()
    assert said[0].startswith("pulled digits:2 to out: 5 files, ")
    assert said[1] == "use it   --model out/final_model"
    assert (folder / "out" / "final_model" / "model.safetensors").read_bytes() == b"b"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["register", "../up", "runs/a"], "a model's name '../up': it has 1 to 64 letters"),
        (["register", "red\x1b[31m", "runs/a"], r"a model's name 'red\x1b[31m'"),
        (["register", "digits", "runs/none"], "runs/none: there is no such run or model"),
        (["show", "digits:9"], "digits has no version 9; it has 1, 2"),
        (["show", "digits", "--json", "--path"], "not allowed with argument"),
        (["alias", "digits", "prod", "1", "--gate", "verifier.new_fact >= 0.6"], "unknown name 'verifier.new_fact'"),
        (["alias", "digits", "prod", "1", "--gate", "not nothing > 1"], '--gate "not nothing > 1": unknown name'),
        (["alias", "digits", "--gate", "val_loss < 2"], "--gate val_loss < 2: it decides about a version, and none is"),
        (["alias", "digits", "prod", "1", "--verification", "none.json"], "there is none; add --gate"),
        (["rollback", "digits", "prod"], "digits has no alias 'prod'; it has latest"),
        (["verify", "nothing"], "there is no model 'nothing' in models"),
        (["pull", "digits", "--output", "runs"], "--output runs: there is something already, and nothing is replaced"),
        (["pull", "digits"], "the following arguments are required: --output"),
        (["list", "--root", "none"], "--root none: there is no such directory; `register` makes the registry"),
        (["list", "--registry", "mlfow"], "--registry mlfow: unknown registry; did you mean 'mlflow'?"),
        (["list", "--mlflow-tracking-uri", "http://x"], "the registry is a directory; add --registry mlflow"),
        (["lst"], "argument COMMAND: invalid choice: 'lst'"),
    ],
)
def test_unusable_input_is_one_line_and_changes_nothing(words: list[str], said: str, ask: Ask, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError) as caught:
        ask(*words)
    assert said in str(caught.value)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("language", ["en", "zh"])
def test_notes_are_shown_and_not_obeyed_in_both_languages(language: str, ask: Ask, folder: Path) -> None:
    finished(folder / "runs" / "c", b"c")
    ask("register", "digits", "runs/c", "--note", "red \x1b[31m\nline " + "长" * 200)
    shown = ask("list", "--lang", language) + ask("show", "digits:3", "--lang", language)
    index = folder / "models" / "digits" / "registry.json"
    move = {"number": 3, "at": 1.0, "how": "set"}
    head = {"format": "apt-model-registry", "schema_version": 1, "last_number": 3}
    index.write_bytes(sealed({**head, "aliases": {"two\n\x1b[31m": [move]}}))
    shown += ask("list") + ask("show", "digits:3") + ask("alias", "digits")
    assert "\x1b" not in shown
    assert r"red \x1b[31m\nline" in shown
    assert ("版本" in shown) == (language == "zh")
    assert max(map(columns_of, ask("list", "--lang", language).splitlines())) < 200


def test_asking_for_help_waits_for_nothing_heavy() -> None:
    assert reached_on_import("tools.models").isdisjoint({*LIGHT, "numpy", "pydantic", "rich", "sqlite3", "yaml"})


@pytest.mark.slow
def test_a_real_run_becomes_a_version_that_answers_is_verified_and_trained_on(
    finished_run: Path,
    front_door: FrontDoor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--model", "run", "--dataset", "tiny.json", "--json"]
    assert verify_hlbd_model.run([*words, str(finished_run / "verification.json")]) == 0
    assert models.run(["register", "tiny", "run"]) == 0
    shutil.rmtree(finished_run)
    path = "models/tiny/1/final_model"
    capsys.readouterr()
    assert chat.run(["--model", path, "--prompt", "1 + 1 等于几？", "--max-new-tokens", "2", "--device", "cpu"]) == 0
    assert verify_hlbd_model.run(["--model", path, "--json", "again.json"]) == 0, "it knows its data by itself"
    gate = ["alias", "tiny", "prod", "1", "--gate"]
    assert models.run([*gate, "verifier.train >= 0 and verifier.shortcuts_found <= 20"]) == 0
    assert models.run([*gate, "verifier.train > 1", "--verification", "again.json"]) == 1
    document = json.loads(Path("again.json").read_text(encoding="utf-8"))
    Path("other.json").write_text(json.dumps({**document, "weights": "0" * 32}), encoding="utf-8")
    with pytest.raises(UserError, match=r"--verification other\.json: it is about other weights"):
        models.run([*gate, "verifier.train >= 0", "--verification", "other.json"])
    flags = ["--datasets", "tiny.json", "--model", path, "--run-dir", "next", "--epochs", "1", "--batch-size", "8"]
    done = front_door([*flags, "--answer-samples", "0", "--device", "cpu"])
    assert done.exit_code == 0, done
    shutil.copyfile("again.json", "next/verification.json")
    capsys.readouterr()
    assert models.run(["register", "tiny", "next"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "next/verification.json is left out: it is about other weights" in said[0]
    assert said[-1] == "parent  tiny:1"
    assert models.run(["verify"]) == 0
