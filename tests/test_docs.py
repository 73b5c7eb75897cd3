"""The docs are true: generated pages are current, every page has its Chinese twin, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.document_settings import PAGE, page
from training.backends.prepare import config_class, task_for
from training.backends.registry import BACKENDS
from training.models.registry import MODELS
from training.settings.declarations import leaf_names
from training.tasks.registry import TASKS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "data" / "README.md", *(ROOT / "docs").glob("*.md")])


def twin(path: Path) -> Path:
    return path.parent / "zh-CN" / path.name if path.parent == ROOT / "docs" else path.with_name("README.zh-CN.md")


def test_the_settings_page_is_what_the_declarations_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tools/document_settings.py"


def test_the_chinese_settings_page_explains_every_setting() -> None:
    text = (ROOT / "docs" / "zh-CN" / "CONFIGURATION.md").read_text(encoding="utf-8")
    trees = [config_class(BACKENDS.load(name)) for name in BACKENDS.built_in]
    trees += [config_class(task=name) for name in TASKS.built_in]
    trees += [config_class(task=task_for(name), model=name) for name in MODELS.built_in]
    names = {name for tree in trees for name in leaf_names(tree)}
    assert sorted(name for name in names if f"| `{name}` |" not in text) == []
    english = PAGE.read_text(encoding="utf-8")
    assert headings(text) == headings(english)


def headings(text: str) -> list[str]:
    return sorted(re.findall(r"^## .*", text, flags=re.MULTILINE))


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_page_has_a_chinese_twin_with_the_same_commands(path: Path) -> None:
    def commands(text: str) -> list[str]:
        blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
        return [line.split("#")[0].rstrip(" \\") for block in blocks for line in block.splitlines() if line.strip()]

    chinese = twin(path).read_text(encoding="utf-8")
    assert re.search(r"[一-鿿]{10,}", chinese), "it is written in Chinese"
    assert commands(chinese) == commands(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [*PAGES, *map(twin, PAGES)], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_a_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith(("http:", "https:")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_readme_shows_the_two_commands_first() -> None:
    for name in ("README.md", "README.zh-CN.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        first = re.search(r"```bash\n(.*?)```", text, flags=re.DOTALL)
        assert first is not None
        assert [line.split()[:2] for line in first.group(1).splitlines()] == [["make", "train"], ["make", "test"]]


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_says_where_each_script_lies_that_documents_call_by_its_bare_name(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+\.py`.*) \| `(\w+)/…` \|$", text, flags=re.MULTILINE)
    places = {script: folder for scripts, folder in rows for script in re.findall(r"`(\w+\.py)`", scripts)}
    named = {
        "train_deepspeed.py", "visualize_training.py", "monitor_all_trainings.py", "generate_hlbd_hardcore.py"
    }  # fmt: skip
    assert named <= places.keys()
    assert [script for script, folder in places.items() if not (ROOT / folder / script).is_file()] == []
