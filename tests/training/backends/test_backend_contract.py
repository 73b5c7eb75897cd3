"""Every backend keeps the contract, and a package of somebody else can bring one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import yaml

from tests.contracts.backend_contract import BackendContract
from training.backends.registry import BACKENDS
from training.record.reporter import read_report
from training.settings.registry import Entry

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset, Train

THIRD_PARTY = Path(__file__).resolve().parents[2] / "third_party" / "backend"
ECHO = Entry("apt_echo_backend:EchoBackend", "from package apt-echo-backend")


def bring(monkeypatch: pytest.MonkeyPatch, **entries: Entry) -> None:
    """Let the registry see third-party backends as if their packages were installed."""
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    monkeypatch.setattr(BACKENDS, "third_party", entries)


class TestPlayground(BackendContract):
    name: ClassVar[str] = "playground"


class TestDeepSpeed(BackendContract):
    name: ClassVar[str] = "deepspeed"


class TestHuggingFace(BackendContract):
    name: ClassVar[str] = "huggingface"


class TestAzure(BackendContract):
    name: ClassVar[str] = "azure"
    needed: ClassVar[Mapping[str, Any]] = {"vm_size": "Standard_NC4as_T4_v3"}

    def test_a_dry_run_shows_its_settings_and_its_plan_and_writes_nothing(
        self, front_door: FrontDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It shows the job instead, as Azure's own command would take it; the settings go along in a file."""
        monkeypatch.chdir(tmp_path)
        shown = front_door(self.command("--dry-run"))
        assert (shown.exit_code, shown.stderr) == (0, "")
        job = yaml.safe_load(shown.stdout)
        assert (job["type"], job["resources"]["instance_type"]) == ("command", "Standard_NC4as_T4_v3")
        assert list(tmp_path.iterdir()) == []


class TestEcho(BackendContract):
    """The example of a third party keeps the contract that it is judged by."""

    name: ClassVar[str] = "echo"

    @pytest.fixture(autouse=True)
    def _brought(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bring(monkeypatch, echo=ECHO)


def test_the_contract_covers_every_backend_that_is_built() -> None:
    built = set(BACKENDS.built_in)
    covered = {c.name for c in BackendContract.__subclasses__()}
    assert built <= covered, f"no contract test for {sorted(built - covered)}"


# -- plug-ins ------------------------------------------------------------------------------------------------------


def test_a_plug_in_that_cannot_be_imported_is_named_with_its_package(
    front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(monkeypatch, broken=Entry("no_such_module:Backend", "from package broken-plug-in"))
    refusal = front_door(["--backend", "broken", "--dry-run"])
    assert refusal.exit_code == 2
    assert refusal.stderr.count("\n") == 1
    for part in ("--backend broken", "no_such_module:Backend", "broken-plug-in", "No module named"):
        assert part in refusal.stderr


def test_a_plug_in_that_cannot_be_imported_does_not_hide_the_others(
    front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(monkeypatch, broken=Entry("no_such_module:Backend", "from package broken-plug-in"), echo=ECHO)
    listed = front_door(["--list-backends"])
    lines = {line.split()[0]: line for line in listed.stdout.splitlines()}
    assert listed.exit_code == 0, listed.stderr
    assert list(lines) == ["playground", "deepspeed", "huggingface", "azure", "broken", "echo"]
    assert "available" in lines["echo"]
    assert "no_such_module" in lines["broken"]


def test_a_plug_in_never_replaces_a_built_in_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, playground=ECHO)
    assert BACKENDS.load("playground").__name__ == "PlaygroundBackend"
    assert BACKENDS.names().count("playground") == 1


def test_a_config_file_may_carry_the_options_of_several_backends(
    front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bring(monkeypatch, echo=ECHO)
    path = tmp_path / "both.yaml"
    path.write_text("playground: {num_threads: 2}\necho: {echo_prefix: '> '}\ndeepspeed: {stage: 3}\n")
    echo = front_door(["--backend", "echo", "--config", path, "--explain", "echo_prefix"])
    assert echo.stdout.startswith("echo.echo_prefix = > \n")
    playground = front_door(["--config", path, "--explain", "num_threads"])
    assert playground.stdout.startswith("playground.num_threads = 2\n")


@pytest.mark.slow
def test_an_installed_package_brings_a_backend_that_trains(
    train: Train, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    package, site = tmp_path / "package", tmp_path / "site"
    shutil.copytree(THIRD_PARTY, package, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(site), str(package)], check=True, timeout=120)
    environment = {"PYTHONPATH": str(site)}

    listed = train(["--list-backends"], env=environment)
    line = next(line for line in listed.stdout.splitlines() if line.startswith("echo "))
    assert line.split()[1] == "available"
    assert "apt-echo-backend" in line

    mistyped = train(["--backend", "eco"], env=environment)
    assert (mistyped.returncode, mistyped.stdout) == (2, "")
    assert "did you mean 'echo'?" in mistyped.stderr

    cpu_only = [word for word in tiny_flags if word not in ("--device", "cpu")]
    settings = ["--max-steps", "2", "--echo-prefix", "echo: "]
    where: list[str | Path] = ["--datasets", tiny_dataset(), "--run-dir", tmp_path / "run"]
    trained = train(["--backend", "echo", *cpu_only, *settings, *where], env=environment)
    assert trained.returncode == 0, trained.stderr
    assert "echo: backend: echo" in trained.stdout.splitlines()
    assert "echo:   max_steps: 2" in trained.stdout.splitlines()
    report = read_report(tmp_path / "run")
    assert report is not None
    assert (report["backend"], report["state"], report["step"]) == ("echo", "finished", 2)
