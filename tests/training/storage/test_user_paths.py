"""Paths as users write them, at every door: flags, YAML, Python, tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from tools.command_line import CommandLine, path_given
from training import TrainingConfig
from training.backends.prepare import choose, config_class, prepare
from training.backends.registry import BACKENDS
from training.errors import ConfigError, UserError
from training.settings.declarations import leaves, short_name
from training.settings.section import Section
from training.settings.yaml_files import nest
from training.storage.user_paths import path_of, user_path
from training.tasks.hlbd.files import find_dataset

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

LONG = "x" * 5000
NOBODY = "~no_such_user_of_this_machine/x"
WRONG = {NOBODY: "there is no user", LONG: "File name too long", "a\0b": "null byte"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of the test's own, which is not the current directory."""
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(tmp_path)
    return place


def path_settings() -> Iterator[tuple[str, str]]:
    """Yield (backend, key) of every setting that is a path or a list of paths."""
    seen: set[str] = set()
    for name in BACKENDS.built_in:
        for key, field in leaves(config_class(BACKENDS.load(name))):
            if Path in (field.annotation, *get_args(field.annotation)) and key not in seen:
                seen.add(key)
                yield name, key


SETTINGS = list(path_settings())


def test_there_are_paths_in_several_parts() -> None:
    assert {"run.run_dir", "deepspeed.hostfile", "huggingface.deepspeed", "azure.snapshot_include"} <= {
        key for _, key in SETTINGS
    }


@pytest.mark.parametrize(("backend", "key"), SETTINGS)
def test_every_setting_that_is_a_path_takes_a_tilde_and_refuses_what_no_file_can_be(
    backend: str, key: str, home: Path
) -> None:
    tree = config_class(BACKENDS.load(backend))
    is_list = dict(leaves(tree))[key].annotation not in (Path, Path | None)

    def made(text: str) -> Any:
        config: Any = tree.from_dict(nest({key: [text] if is_list else text}), "it")
        for part in key.split("."):
            config = getattr(config, part)
        return config

    assert made("~/r1") == ((home / "r1",) if is_list else home / "r1")
    for wrong, reason in {**WRONG, "": "is empty"}.items():
        with pytest.raises(ConfigError, match=reason) as refused:
            made(wrong)
        assert short_name(key) in str(refused.value)
        assert len(str(refused.value)) < 1000


def test_a_third_partys_paths_are_expanded_too(home: Path) -> None:
    class Theirs(Section):
        place: Path | None = None
        places: tuple[Path, ...] = ()
        word: str = ""

    made = Theirs.model_validate({"place": "~/a", "places": ["~/b", "c"], "word": "~/d"})
    assert (made.place, made.places, made.word) == (home / "a", (home / "b", Path("c")), "~/d")


FLAGS = [
    ["--config"],
    ["--resume"],
    ["--run-dir"],
    ["--dataset"],
    ["--resume", "--start-from"],
    ["--backend", "deepspeed", "--deepspeed-config"],
    ["--backend", "deepspeed", "--hostfile"],
    ["--backend", "huggingface", "--deepspeed"],
    ["--backend", "azure", "--workspace-config"],
    ["--backend", "azure", "--snapshot-dir"],
    ["--backend", "azure", "--snapshot-include"],
]


@pytest.mark.parametrize("flags", FLAGS, ids=[words[-1] for words in FLAGS])
def test_every_flag_refuses_an_unknown_user_and_an_endless_path_in_one_line(
    flags: list[str], front_door: FrontDoor, tree: Any
) -> None:
    before = tree()
    for path in (NOBODY, LONG, "~/" + LONG):
        dry = [] if flags == ["--dataset"] else ["--dry-run"]  # a dry run does not need the data to be there
        refused = front_door([*flags, path, *dry])
        assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1), path
        assert refused.stderr.startswith("error: ")
        assert len(refused.stderr) < 1000
    assert tree() == before


def test_a_tilde_is_the_users_home_in_flags_yaml_and_python(home: Path, front_door: FrontDoor) -> None:
    (home / "c.yaml").write_text("run_dir: ~/r1\nepochs: 3\n", encoding="utf-8")
    (home / "d.yaml").write_text("run_dir: '~/r1'\n", encoding="utf-8")
    for args in (["--run-dir", "~/r1"], ["--config", "~/c.yaml"], ["--config", "~/d.yaml"]):
        assert f"run_dir = {home / 'r1'}\n" in front_door([*args, "--explain", "run_dir"]).stdout
    assert TrainingConfig.from_yaml("~/c.yaml").run.run_dir == home / "r1"
    TrainingConfig.from_yaml("~/c.yaml").to_yaml("~/r1.yaml")
    assert "epochs: 3" in (home / "r1.yaml").read_text(encoding="utf-8")
    (home / "run").mkdir()
    (home / "run" / "config.yaml").write_text("run: {epochs: 7}\n", encoding="utf-8")
    prepared = prepare(choose(resume="~/run"))
    assert (prepared.request.resume_from, prepared.request.config.run.epochs) == (home / "run", 7)
    (home / "data.json").write_text("[]", encoding="utf-8")
    assert find_dataset("~/data.json") == home / "data.json"


def test_the_tools_paths_are_the_users_too(home: Path) -> None:
    parser = CommandLine("Draw something.")
    parser.add_argument("--figure", type=path_given)
    assert parser.parse_args(["--figure", "~/f.png"]).figure == home / "f.png"
    for wrong, reason in WRONG.items():
        with pytest.raises(UserError, match=reason):
            parser.parse_args(["--figure", wrong])


def test_a_circle_of_links_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path in (tmp_path / "a", tmp_path / "b" / "below"):
        with pytest.raises(ValueError, match="Too many levels of symbolic links; choose another name"):
            user_path(path)


def test_a_path_is_refused_with_what_names_it() -> None:
    with pytest.raises(ConfigError, match=r"^--figure ~no_such_user_of_this_machine/x: there is no user 'no_such"):
        path_of("--figure", NOBODY)
    assert user_path("a/../b") == Path("a/../b")
