"""One tree of settings: flags, YAML, --explain, the schema and the presets agree, and layer lies on layer."""

from __future__ import annotations

import re
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import annotated_types
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tests.conftest import without_free_memory
from training import TrainingConfig
from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.settings.declarations import aliases, leaf_names, leaves
from training.settings.layers import Layer, resolve
from training.settings.tree import RunConfig
from training.settings.yaml_files import CONFIGS, flatten, nest, read_settings

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

CONFIG = config_class(BACKENDS.load("playground"))
FIELDS = dict(leaves(CONFIG))
ALIASES = [(alias, key) for key, field in FIELDS.items() for alias in aliases(field)]
PRESETS = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def short(key: str) -> str:
    return key.rpartition(".")[2]


def dashed(name: str) -> str:
    return "--" + name.replace("_", "-")


def flag_words(name: str, value: Any) -> list[str]:
    """`--name value` as a user types it."""
    if isinstance(value, bool):
        return [dashed(name) if value else dashed(f"no_{name}")]
    if isinstance(value, tuple):
        return [dashed(name), *(value or ["none"])]
    return [dashed(name), "none" if value is None else str(value)]


def default(key: str) -> Any:
    return FIELDS[key].get_default(call_default_factory=True)


# -- one declaration -----------------------------------------------------------------------------------------------


def test_every_setting_says_what_it_means_in_a_sentence() -> None:
    for key, field in FIELDS.items():
        assert field.description, key
        assert field.description.endswith((".", ").")), key
        assert "\n" not in field.description, key


def test_a_setting_that_may_be_none_says_what_none_means() -> None:
    may_be_none = [key for key, field in FIELDS.items() if NoneType in get_args(field.annotation)]
    assert may_be_none
    assert [key for key in may_be_none if "None: " not in str(FIELDS[key].description)] == []


def test_names_and_aliases_are_unique_in_the_whole_tree() -> None:
    names = [short(key) for key in FIELDS] + [alias for alias, _ in ALIASES]
    assert sorted(names) == sorted(set(names))
    assert leaf_names(CONFIG) == {short(key): key for key in FIELDS}


@pytest.mark.parametrize("key", FIELDS)
def test_every_setting_has_a_flag_which_explain_names_as_its_source(key: str, front_door: FrontDoor) -> None:
    told = front_door([*flag_words(short(key), default(key)), "--explain", short(key)])
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout.startswith(f"{key} = {default(key)}\n  {FIELDS[key].description}\n")
    assert f"  set by   {dashed(short(key))}\n" in told.stdout
    assert f"  default  {default(key)}\n" in told.stdout


def test_every_setting_can_be_given_in_yaml_flat_or_nested(tmp_path: Path) -> None:
    tree = CONFIG().to_dict()
    flat = {short(key): value for key, value in flatten(tree, CONFIG, "it").items()}
    for name, document in {"flat.yaml": flat, "nested.yaml": tree}.items():
        path = tmp_path / name
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        resolved = resolve(CONFIG, [Layer(str(path), read_settings(path, CONFIG))])
        assert resolved.config == CONFIG()
        assert resolved.origins == dict.fromkeys(FIELDS, str(path))


@pytest.mark.parametrize(("alias", "key"), ALIASES)
def test_an_alias_of_the_documents_is_a_flag_but_no_yaml_key(
    alias: str, key: str, front_door: FrontDoor, tmp_path: Path
) -> None:
    told = front_door([*flag_words(alias, default(key)), "--explain", alias])
    assert told.exit_code == 0, told.stderr
    assert told.stdout.startswith(f"{key} = ")
    assert f"set by   {dashed(short(key))}\n" in told.stdout
    path = tmp_path / "config.yaml"
    section = key.partition(".")[0]
    for document, shown in (({alias: 1}, alias), ({section: {alias: 1}}, f"{section}.{alias}")):
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        refusal = front_door(["--config", path, "--dry-run"])
        assert refusal.exit_code == 2
        assert refusal.stderr == f"error: {path}: unknown key {shown!r}; did you mean {short(key)!r}?\n"


def test_the_aliases_are_those_that_the_documents_show() -> None:
    assert {"n_heads", "lr", "save_dir", "dataset"} <= {alias for alias, _ in ALIASES}


def test_a_json_schema_comes_from_the_same_place() -> None:
    schema = CONFIG.model_json_schema()

    def described(node: dict[str, Any], prefix: str = "") -> dict[str, str]:
        found: dict[str, str] = {}
        for name, inner in node["properties"].items():
            if "$ref" in inner:
                found |= described(schema["$defs"][inner["$ref"].rpartition("/")[2]], f"{prefix}{name}.")
            else:
                found[prefix + name] = inner["description"]
        return found

    assert described(schema) == {key: field.description for key, field in FIELDS.items()}
    assert all(node["additionalProperties"] is False for node in (schema, *schema["$defs"].values()))


def test_a_config_is_frozen() -> None:
    config = TrainingConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.run.epochs = 3  # type: ignore[misc]


# -- round trips --------------------------------------------------------------------------------------------------


def values_of(field: FieldInfo) -> st.SearchStrategy[Any]:
    """Any legal value of a field, from its type and bounds."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    kind = field.annotation if get_origin(field.annotation) in (Literal, tuple) or not kinds else kinds[0]
    low = next((m.ge for m in field.metadata if isinstance(m, annotated_types.Ge)), None)
    above = next((m.gt for m in field.metadata if isinstance(m, annotated_types.Gt)), None)
    below = next((m.lt for m in field.metadata if isinstance(m, annotated_types.Lt)), None)
    highest: Any = next((m.le for m in field.metadata if isinstance(m, annotated_types.Le)), None)
    made: st.SearchStrategy[Any]
    if get_origin(kind) is Literal:
        made = st.sampled_from(get_args(kind))
    elif get_origin(kind) is tuple:
        words = get_args(get_args(kind)[0]) if get_origin(get_args(kind)[0]) is Literal else ()
        item = st.sampled_from(words) if words else st.text(min_size=1)
        made = st.lists(item, min_size=1, max_size=3, unique=bool(words)).map(tuple)
    elif kind is bool:
        made = st.booleans()
    elif kind is int:
        assert isinstance(low, int)
        made = st.integers(low, below - 1 if isinstance(below, int) else highest)
    elif kind is float:
        assert isinstance(low if low is not None else above, float)
        edge: Any = low if low is not None else above
        top: Any = below if below is not None else highest
        made = st.floats(edge, top, exclude_min=low is None, exclude_max=below is not None)
    elif kind is Path:
        made = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map(Path)
    else:
        made = st.just(field.default)
    return st.one_of(st.none(), made) if NoneType in get_args(field.annotation) else made


@st.composite
def configs(draw: st.DrawFn) -> TrainingConfig:
    """Any config that validates, all settings of it drawn."""
    values = {key: draw(values_of(field), label=key) for key, field in FIELDS.items()}
    heads = draw(st.integers(1, 64))
    values["model.num_heads"], values["model.d_model"] = heads, heads * 2 * draw(st.integers(1, 64))
    values["schedule.min_lr"] = values["optimizer.learning_rate"] * draw(st.floats(0.0, 1.0))
    if values["data.validation_split"] == 0.0:
        values["checkpoint.early_stopping_patience"] = None
    if values["launch.num_gpus"] is not None:
        values["launch.num_processes"] = draw(st.sampled_from([None, values["launch.num_gpus"]]))
    if values["launch.nnodes"] > 1:
        values["launch.rdzv_endpoint"] = "somewhere:29400"
    if values["hub.push_to_hub"] is None:
        values["hub.private"] = False
    if values["run.gradient_accumulation_steps"] is not None:
        values["run.global_batch_size"] = None
    return CONFIG.model_validate(nest(values))


@given(config=configs())
@settings(max_examples=40, deadline=None)
def test_every_config_comes_back_equal_from_its_yaml(
    config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    text = config.to_yaml(path)
    assert CONFIG.from_yaml(path) == config
    assert CONFIG.from_dict(config.to_dict()) == config
    assert CONFIG.from_yaml(path).to_yaml() == text


def test_a_notebook_user_reads_flat_or_nested_yaml_without_a_backend(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("d_model: 64\nrun:\n  epochs: 3\n", encoding="utf-8")
    config = TrainingConfig.from_yaml(path)
    assert (config.model.d_model, config.run.epochs, config.run.batch_size) == (64, 3, 32)
    with pytest.raises(ConfigError, match="did you mean 'num_heads'"):
        TrainingConfig.from_dict({"model": {"num_headz": 3}})


def test_a_notebook_user_gives_flat_or_nested_settings_and_paths_as_text(tmp_path: Path) -> None:
    run = RunConfig(run_dir=tmp_path)
    config = TrainingConfig.from_dict({"batch_size": 8, "model": {"d_model": 64}, "optimizer.learning_rate": 0.1})
    assert (config.run.batch_size, config.model.d_model, config.optimizer.learning_rate) == (8, 64, 0.1)
    assert TrainingConfig.from_dict({"run": run}).run == run
    assert config.to_yaml(str(tmp_path / "x.yaml")) == (tmp_path / "x.yaml").read_text(encoding="utf-8")
    assert TrainingConfig.from_yaml(str(tmp_path / "x.yaml")) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], "config: maps settings to values, this is a list"),
        ({"batch_size": 8, "run": {"batch_size": 9}}, "config: 'run.batch_size' is given twice, nested and flat"),
        ({"deepspeed": {"zero_stage": 3}}, "config: section 'deepspeed' belongs to --backend deepspeed"),
        ({"run": 5}, "config: section 'run' must map settings to values, not 5"),
        ({7: 5}, "config: unknown key 7"),
        ({"batch_siz": 8}, "config: unknown key 'batch_siz'; did you mean 'batch_size'?"),
    ],
)
def test_what_from_dict_cannot_read_is_refused_in_one_line(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        TrainingConfig.from_dict(values)


HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 10**18, 10**400, 0.5, 1e-300, 1e308, float("nan"), float("inf"), "", " ", "5", "５", "nan", "\0",
    "\ud800", "a\nb", "\x1b[31m", "~nobody/x", "n" * 5000, [], ["x"], {}, {"a": 1}, b"x", object(), {1, 2}, len, int,
)  # fmt: skip


@pytest.mark.parametrize("key", [key for key, _ in leaves(TrainingConfig)])
def test_a_hostile_value_is_a_setting_or_one_line(key: str) -> None:
    for value in HOSTILE:
        for name in (key, key.rpartition(".")[2]):
            try:
                config = TrainingConfig.from_dict({name: value})
                config.validate()
            except ConfigError as error:
                lines = str(error).splitlines()
            else:
                assert TrainingConfig.from_dict(config.to_dict()).curve_hash() == config.curve_hash()
                lines = ["a config"]
            assert len(lines) == 1, value
            assert len(lines[0]) < 4500


@pytest.mark.parametrize("name", ["none/x.yaml", ".", "~nobody-here/x.yaml", "x\0.yaml"])
def test_a_yaml_file_that_cannot_be_written_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the config file cannot be written"):
        TrainingConfig().to_yaml(tmp_path / name if not name.startswith("~") else name)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("num_heads: 3\n", "d_model=256 cannot be divided among num_heads=3 heads"),
        ("min_lr: 1.0\n", "min_lr=1 is above learning_rate=0.0003"),
        ("learning_rate: .nan\n", "learning_rate = nan"),
        ("batch_size: yes\n", "should be a whole number"),
    ],
)
def test_a_notebook_user_gets_the_same_refusals(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(told)):
        TrainingConfig.from_yaml(path)


# -- presets -------------------------------------------------------------------------------------------------------


def test_the_promised_presets_are_there() -> None:
    assert {"playground", "playground_cpu", "small", "medium", "large"} <= set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_loads_from_anywhere_and_sets_nothing_that_is_not_used(
    preset: str, front_door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = front_door(["--config", preset, "--dry-run"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    for name in (f"{preset}.yaml", CONFIGS / f"{preset}.yaml"):
        again = front_door(["--config", name, "--dry-run"])
        assert without_free_memory(again) == without_free_memory(shown)
    resolved = flatten(yaml.safe_load(shown.stdout), CONFIG, "it")
    given_values = resolve(CONFIG, [Layer("it", read_settings(CONFIGS / f"{preset}.yaml", CONFIG))])
    plain = flatten(given_values.config.to_dict(), CONFIG, "it")
    assert {key: resolved[key] for key in given_values.origins} == {key: plain[key] for key in given_values.origins}


@pytest.mark.parametrize(("preset", "width", "layers"), [("small", 256, 4), ("medium", 768, 12), ("large", 1024, 24)])
def test_the_sizes_are_those_of_the_documents(preset: str, width: int, layers: int) -> None:
    config = CONFIG.from_yaml(CONFIGS / f"{preset}.yaml")
    assert (config.model.d_model, config.model.num_layers) == (width, layers)


def test_a_file_of_ones_own_comes_before_a_preset_of_its_name(
    front_door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text("d_model: 64\n", encoding="utf-8")
    assert "model.d_model = 64\n" in front_door(["--config", "small.yaml", "--explain", "d_model"]).stdout
    assert "model.d_model = 256\n" in front_door(["--config", "small", "--explain", "d_model"]).stdout


def test_every_section_is_known_by_its_line_in_the_help() -> None:
    for name, field in CONFIG.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            assert (field.annotation.__doc__ or "").strip(), name
