"""Which workspace is meant: options, environment, config.json, by the SDK's rules; one line where it is not said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.azure.service.address import DIRECTORIES, FILES, VARIABLES, WorkspaceAddress, find_address
from training.azure.service.workspace import load_sdk
from training.azure.settings.options import AzureOptions
from training.errors import ConfigError

IDS = [f"{digit}b2c3d4e-5f60-4000-8000-00000000000{digit}" for digit in "12345"]
HERE = {"subscription_id": IDS[0], "resource_group": "group-file", "workspace_name": "ws-file"}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a config.json, and an environment without Azure's variables."""
    for name in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "a" / "b"
    directory.mkdir(parents=True)
    monkeypatch.chdir(directory)
    return directory


def write(path: Path, document: object = HERE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def refused(options: AzureOptions | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        find_address(options or AzureOptions())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_options_alone_are_enough() -> None:
    options = AzureOptions(subscription_id=IDS[0], resource_group="rg", workspace_name="work-space")
    assert find_address(options) == WorkspaceAddress(IDS[0], "rg", "work-space")


def test_the_environment_of_a_compute_instance_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES.values(), (IDS[1], "rg", "workspace"), strict=True):
        monkeypatch.setenv(name, value)
    assert find_address(AzureOptions()) == WorkspaceAddress(IDS[1], "rg", "workspace")


def test_options_win_over_the_environment_and_that_over_a_file_that_is_found(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(nowhere / ".azureml" / "config.json")
    monkeypatch.setenv("AZUREML_ARM_RESOURCEGROUP", "group-environment")
    found = find_address(AzureOptions(workspace_name="ws-option"))
    assert found == WorkspaceAddress(IDS[0], "group-environment", "ws-option")


def test_a_file_that_an_option_names_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZUREML_ARM_RESOURCEGROUP", "group-environment")
    file = write(tmp_path / "other" / "team.json")
    assert find_address(AzureOptions(workspace_config=file)).resource_group == "group-file"
    write(tmp_path / "team" / ".azureml" / "config.json", {**HERE, "workspace_name": "ws-team"})
    assert find_address(AzureOptions(workspace_config=tmp_path / "team")).workspace_name == "ws-team"


def test_the_first_version_of_the_sdk_wrote_a_scope(nowhere: Path) -> None:
    provider = "Microsoft.MachineLearningServices"
    scope = f"/subscriptions/{IDS[2]}/resourceGroups/old-group/providers/{provider}/workspaces/old-ws"
    write(nowhere / "aml_config" / "project.json", {"Id": None, "Scope": scope})
    assert find_address(AzureOptions()) == WorkspaceAddress(IDS[2], "old-group", "old-ws")
    write(nowhere / "aml_config" / "project.json", {"Scope": "/subscriptions/x"})
    assert "project.json: Scope = '/subscriptions/x' is not" in refused()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(places=st.sets(st.sampled_from([(level, d, f) for level in range(3) for d in DIRECTORIES for f in FILES])))
def test_the_file_that_is_found_is_the_one_that_the_sdk_finds(places: set[tuple[int, str, str]], nowhere: Path) -> None:
    load_sdk()
    from azure.ai.ml import MLClient
    from azure.ai.ml.exceptions import ValidationException

    levels = [nowhere, nowhere.parent, nowhere.parent.parent]
    written = []
    for number, (level, directory, file) in enumerate(sorted(places)):
        written.append(write(levels[level] / directory / file, {**HERE, "workspace_name": f"ws-{number:03}"}))
    try:
        try:
            sdk = MLClient.from_config(object(), enable_telemetry=False).workspace_name
        except ValidationException:
            sdk = None
        ours = find_address(AzureOptions()).workspace_name if places else None
        assert ours == sdk
    finally:
        for path in written:
            path.unlink()


def test_what_is_missing_is_named_with_the_three_ways_to_say_it(nowhere: Path) -> None:
    told = refused(AzureOptions(resource_group="rg"))
    assert "the subscription id and workspace name of the workspace are not known" in told
    assert "--azure-subscription-id … --azure-workspace-name …" in told
    assert "AZUREML_ARM_SUBSCRIPTION, AZUREML_ARM_WORKSPACE_NAME" in told
    assert "AZUREML_ARM_RESOURCEGROUP" not in told
    assert f"config.json (Studio: the workspace's menu, Download config file) into {nowhere}" in told


def test_three_parts_that_are_missing_are_told_as_a_row() -> None:
    told = refused()
    assert "the subscription id, resource group and workspace name of the workspace are not known" in told


def test_the_config_json_of_a_model_is_not_taken_for_a_workspace(nowhere: Path) -> None:
    model = write(nowhere / "config.json", {"d_model": 256, "num_layers": 4})
    assert f"({model} is not a workspace's)" in refused()
    write(nowhere.parent / "config.json")
    assert find_address(AzureOptions()).workspace_name == "ws-file"
    assert "has none of the keys subscription_id, resource_group, workspace_name" in refused(
        AzureOptions(workspace_config=model)
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "config.json: cannot be read as JSON"),
        ('{"subscription_id": 7}', "config.json: subscription_id = 7 should be a name in quotes"),
        ('{"workspace_name": ""}', "config.json: workspace_name = '' should be a name in quotes"),
    ],
)
def test_a_damaged_file_is_named_with_its_key(content: str, told: str, nowhere: Path) -> None:
    path = write(nowhere / ".azureml" / "config.json")
    path.write_text(content, encoding="utf-8")
    assert told in refused()


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    assert "there is no such file or directory" in refused(AzureOptions(workspace_config=tmp_path / "nowhere.json"))
    assert "there is no config.json in it" in refused(AzureOptions(workspace_config=tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("subscription_id", "My Subscription", "--subscription-id: subscription_id = 'My Subscription' should be the"),
        ("subscription_id", "<subscription-id>", "should be the subscription's id"),
        ("resource_group", "group.", "is not a name of a resource group"),
        ("workspace_name", "ws/other", "is not a name of a workspace"),
    ],
)
def test_a_value_that_cannot_be_a_name_is_refused_offline(key: str, value: str, told: str) -> None:
    values = {"subscription_id": IDS[0], "resource_group": "rg", "workspace_name": "workspace", key: value}
    assert told in refused(AzureOptions(**values))


def test_it_needs_no_sdk(nowhere: Path) -> None:
    import subprocess
    import sys

    write(nowhere / "config.json")
    program = (
        "import sys; from training.azure.service.address import find_address; "
        "from training.azure.settings.options import AzureOptions; print(find_address(AzureOptions()).workspace_name, "
        "[name for name in sys.modules if name.startswith('azure')])"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {program}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split(maxsplit=1) == ["ws-file", "[]\n"], done.stderr
