"""The commands `compare`, `artefacts`, `export` and `import` of tools/experiments.py, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.support.recorded_runs import RecordedRun
from tests.test_architecture import LIGHT, reached_on_import
from tools import experiments
from training.errors import UserError
from training.language.messages import choose_language

Ask = Callable[..., str]
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with two rates, each trained with three seeds."""
    root = tmp_path_factory.mktemp("source")
    for rate in (1e-3, 1e-2):
        for seed in SEEDS:
            settings: dict[str, dict[str, Any]] = {"optimizer": {"learning_rate": rate}, "run": {"seed": seed}}

            def validation(epoch: int, rate: float = rate, seed: int = seed) -> float:
                return 1.0 + 20 * rate * (1 + 0.01 * seed) + 1.0 / epoch**9

            run = RecordedRun(
                root / f"rate_{rate:g}" / f"seed_{seed}", start=1e9, total_steps=30, validation=validation,
                settings=settings,
            )  # fmt: skip
            run.train().finish()
    return root


@pytest.fixture
def ask(source: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return a function that runs the command on the root and returns what it prints."""

    def run(*words: object, root: Path = source, code: int = 0) -> str:
        assert experiments.run(["--root", str(root), *map(str, words)]) == code
        return capsys.readouterr().out

    return run


NAMES = [f"rate_{rate}/seed_{seed}" for rate in ("0.001", "0.01") for seed in SEEDS]


def test_compare_shows_what_differs_the_figures_and_what_is_more_than_chance(ask: Ask) -> None:
    lines = ask("compare", *NAMES).splitlines()
    assert lines[0] == "settings that differ"
    assert lines[1].split() == ["run", "learning_rate", "seed"]
    assert lines[2].split() == ["rate_0.001/seed_1", "0.001", "1"]
    head = lines.index("figures") + 1
    assert lines[head].split()[:5] == ["run", "state", "step", "loss", "validation"]
    assert lines[head + 1].split()[:3] == ["rate_0.001/seed_1", "finished", "30"]
    assert set(lines[head + 1].split()[-1]) <= set("▁▂▃▄▅▆▇█_.-=*#")
    assert lines[-1].startswith("learning_rate=0.01 less learning_rate=0.001: +0.18")
    assert lines[-1].endswith("more than the spread of 3 seeds")
    assert "n_layers" not in "\n".join(lines)


def test_compare_says_why_there_are_no_statistics(ask: Ask) -> None:
    assert ask("compare", *NAMES[:2]).splitlines()[-1] == (
        "no statistics: no two settings were trained with the same 3 seeds or more"
    )
    document = json.loads(ask("compare", "--json", *NAMES[:2]))
    assert list(document["settings"]) == ["run.seed"]
    assert document["statistics"] == []


def test_compare_draws_the_curves(ask: Ask, tmp_path: Path) -> None:
    from PIL import Image

    ask("compare", *NAMES, "--figure", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1280, 720)
        colours = picture.convert("RGB").getcolors(maxcolors=2**20)
    assert colours is not None
    assert len(colours) > 100


def test_compare_speaks_chinese(ask: Ask) -> None:
    try:
        text = ask("compare", *NAMES[:2], "--lang", "zh")
    finally:
        choose_language(None)
    assert text.splitlines()[0] == "不同的设置"
    assert "没有统计" in text


def test_exported_runs_are_imported_elsewhere(ask: Ask, source: Path, tmp_path: Path) -> None:
    said = ask("export", "--where", "learning_rate<0.005", "--output", tmp_path / "runs.zip")
    assert said == f"wrote {tmp_path / 'runs.zip'} (3 runs)\n"
    said = ask("import", tmp_path / "runs.zip", "--into", "from_here", root=tmp_path / "elsewhere")
    assert said.count("imported ") == 3
    log = "rate_0.001/seed_1/progress.jsonl"
    assert (tmp_path / "elsewhere" / "from_here" / log).read_bytes() == (source / log).read_bytes()
    listed = json.loads(ask("list", "--json", root=tmp_path / "elsewhere"))
    assert sorted(run["name"] for run in listed["runs"]) == [f"from_here/rate_0.001/seed_{n}" for n in SEEDS]
    with pytest.raises(UserError, match="is there already, and nothing is replaced"):
        ask("import", tmp_path / "runs.zip", "--into", "from_here", root=tmp_path / "elsewhere")


def test_a_table_has_the_columns_that_were_asked_for(ask: Ask, tmp_path: Path) -> None:
    ask("export", *NAMES[:2], "--output", tmp_path / "a.csv", "--columns", "name, seed,val_loss")
    rows = (tmp_path / "a.csv").read_text().splitlines()
    assert rows[0] == "name,settings.run.seed,val_loss"
    assert rows[1].startswith("rate_0.001/seed_1,1,1.02")


def test_artefacts_are_listed_and_checked(ask: Ask, tmp_path: Path, finished_run: Path) -> None:
    lines = ask("artefacts", "run", root=tmp_path).splitlines()
    assert lines[0].split() == ["artefact", "kind", "size", "condition", "SHA-256"]
    assert [line.split()[1:2] for line in lines if line.startswith("checkpoint_epoch_1 ")] == [["checkpoint"]]
    assert "unchanged" not in "\n".join(lines)
    assert "unchecked" not in ask("artefacts", "run", "--check", root=tmp_path)
    weights = next((finished_run / "final_model").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    text = ask("artefacts", "run", "--check", root=tmp_path, code=1)
    assert "model.safetensors: cut short" in text
    document = json.loads(ask("artefacts", "run", "--json", root=tmp_path))
    assert {one["name"] for one in document["artefacts"]} >= {"final_model", "final_model.pt", "checkpoint_epoch_2"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", NAMES[0]], "from 2 to 20 runs are compared, got 1"),
        (["compare", NAMES[0], "rate_0.001/sed_2"], "did you mean 'rate_0.001/seed_2'"),
        (["compare", *NAMES[:2], "--figure", "curves.jpg"], "give a name that ends in .png"),
        (["export", "--output", "runs.xml"], "give a name that ends in .csv"),
        (["export", NAMES[0], "--where", "step>1", "--output", "runs.csv"], "not both"),
        (["export", "--where", "step>1000", "--output", "runs.csv"], "there is no run to export"),
        (["export", "--output", "runs.csv", "--no-checkpoints"], "is a table, which has none"),
        (
            ["export", "--output", "runs.csv", "--columns", "sed"],
            "--columns sed: there is no such column; did you mean",
        ),
        (["import", "missing.zip"], "missing.zip: the import failed (No such file or directory)"),
        (["import", str(ROOT / "pyproject.toml")], "it is no zip file"),
    ],
)
def test_unusable_input_is_one_line_and_writes_nothing(
    ask: Ask, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        ask(*words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["compare_runs", "export_runs", "import_runs", "run_artefacts"])
def test_a_help_waits_for_nothing_heavy(module: str) -> None:
    assert reached_on_import(f"tools.experiment_views.{module}").isdisjoint({*LIGHT, "scipy", "sqlite3", "rich"})
