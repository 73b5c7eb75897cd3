"""A job's record on its way from the datastore to a run directory: real blob storage, the project's own reporter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.azure.stand_in.azurite import Azurite
from tests.azure.stand_in.certificates import make_certificates
from training.azure.follow.record_mirror import RecordMirror
from training.azure.follow.training_view import TrainingView
from training.record.reporter import LOG_NAME, REPORT_NAME, ProgressReporter, read_report

PATH = "apt-runs/job-1"
FACTS = {"total_steps": 40, "num_epochs": 4, "steps_per_epoch": 10}


class Datastore:
    """A container in Azurite, and clients of it as the workspace gives them."""

    def __init__(self, url: str, key: str, authority: Path) -> None:
        self._url, self._options = url, {"credential": key, "connection_verify": str(authority)}
        self.container = self.client()
        self.container.create_container()

    def client(self, **options: Any) -> Any:
        from azure.storage.blob import ContainerClient

        return ContainerClient(self._url, "datastore", **self._options, **options)

    def put(self, name: str, content: bytes) -> None:
        self.container.get_blob_client(f"{PATH}/{name}").upload_blob(content, overwrite=True)

    def get(self, name: str) -> bytes:
        return bytes(self.container.get_blob_client(f"{PATH}/{name}").download_blob().readall())

    def empty(self) -> None:
        for name in list(self.container.list_blob_names()):
            self.container.delete_blob(name)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Datastore]:
    directory = tmp_path_factory.mktemp("azurite")
    certificates = make_certificates(directory)
    with Azurite(directory, "aptstorage", certificates) as azurite:
        yield Datastore(f"https://127.0.0.1:{azurite.port}/aptstorage", azurite.key, certificates.authority)


@pytest.fixture
def datastore(storage: Datastore) -> Datastore:
    storage.empty()
    return storage


class Job:
    """A training job whose run directory is mounted: what it writes arrives in the datastore as whole files."""

    def __init__(self, directory: Path, datastore: Datastore) -> None:
        self.directory, self._datastore = directory, datastore
        directory.mkdir(exist_ok=True)
        self.reporter = ProgressReporter(directory, report_batches=1)

    def start(self) -> None:
        self.reporter.run_started(run_id="r1", **FACTS)

    def resume(self, step: int) -> None:
        self.reporter = ProgressReporter(self.directory, report_batches=1)
        self.reporter.run_resumed(step, run_id="r1", **FACTS)

    def train(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            self.reporter.step(
                **{"step": step, "epoch": 1 + (step - 1) // 10, "batch": step, "loss": 5.0 - 0.1 * step},
                **{"accuracy": 0.5, "learning_rate": 1e-3, "forward_ms": 1.0, "backward_ms": 2.0, "tokens": 10},
            )

    def upload(self, *names: str) -> None:
        for name in names or (LOG_NAME, REPORT_NAME):
            self._datastore.put(name, (self.directory / name).read_bytes())


@pytest.fixture
def job(tmp_path: Path, datastore: Datastore) -> Job:
    return Job(tmp_path / "mount", datastore)


class Copy:
    """A run directory here that mirrors the job's."""

    def __init__(self, run_dir: Path, datastore: Datastore) -> None:
        self.run_dir, self._datastore = run_dir, datastore
        self.log = run_dir / LOG_NAME
        self.mirror = RecordMirror(PATH, run_dir)

    def look(self) -> bool:
        return self.mirror.look(self._datastore.container)

    def is_whole(self) -> bool:
        return all((self.run_dir / name).read_bytes() == self._datastore.get(name) for name in (LOG_NAME, REPORT_NAME))


@pytest.fixture
def copy(tmp_path: Path, datastore: Datastore) -> Copy:
    (tmp_path / "run").mkdir()
    return Copy(tmp_path / "run", datastore)


class TestMirror:
    def test_a_job_that_has_not_begun_leaves_nothing_and_is_no_error(self, copy: Copy) -> None:
        assert not copy.look()
        assert list(copy.run_dir.iterdir()) == []

    def test_a_container_that_is_not_there_is_an_error(self, datastore: Datastore, copy: Copy) -> None:
        from azure.core.exceptions import ResourceNotFoundError
        from azure.storage.blob import ContainerClient

        other = ContainerClient.from_container_url(
            datastore.container.url.replace("/datastore", "/nothing"), **datastore._options
        )
        with pytest.raises(ResourceNotFoundError):
            copy.mirror.look(other)

    def test_the_copy_is_the_record_and_each_byte_of_the_log_comes_once(
        self, datastore: Datastore, job: Job, copy: Copy
    ) -> None:
        reports = 0
        job.start()
        for first in range(1, 40, 5):
            job.train(first, first + 4)
            job.upload()
            assert copy.look()
            assert copy.is_whole()
            reports += len(datastore.get(REPORT_NAME))
        log_bytes = copy.mirror.bytes_read - reports
        assert log_bytes <= len(datastore.get(LOG_NAME)) + 7 * 64  # the marks that were compared

    def test_a_look_at_an_unchanged_record_reads_nothing(self, job: Job, copy: Copy) -> None:
        job.start()
        job.upload()
        assert copy.look()
        before = copy.mirror.bytes_read
        assert not copy.look()
        assert copy.mirror.bytes_read == before

    def test_another_process_goes_on_with_the_copy(self, datastore: Datastore, job: Job, copy: Copy) -> None:
        job.start()
        job.train(1, 30)
        job.upload()
        copy.look()
        size = copy.log.stat().st_size
        job.train(31, 32)
        job.upload()
        second = Copy(copy.run_dir, datastore)
        assert second.look()
        assert second.is_whole()
        log_bytes = second.mirror.bytes_read - len(datastore.get(REPORT_NAME))
        assert log_bytes == len(datastore.get(LOG_NAME)) - size + 64

    def test_a_run_that_begins_anew_replaces_the_copy(self, job: Job, copy: Copy) -> None:
        job.start()
        job.train(1, 20)
        job.upload()
        copy.look()
        job.start()  # shorter than the copy, and different from its first byte on
        job.upload()
        assert copy.look()
        assert copy.is_whole()
        job.train(1, 30)  # longer again
        job.upload()
        assert copy.look()
        assert copy.is_whole()

    def test_a_line_that_a_kill_cut_short_is_mended_as_the_job_mends_it(self, job: Job, copy: Copy) -> None:
        job.start()
        job.train(1, 12)
        with (job.directory / LOG_NAME).open("ab") as log:
            log.write(b'{"event": "step", "time": 17')
        job.upload()
        copy.look()
        assert copy.log.read_bytes().endswith(b'"time": 17')
        job.resume(10)
        job.train(11, 15)
        job.upload()
        copy.look()
        assert copy.is_whole()
        report = read_report(copy.run_dir)
        assert report is not None
        assert (report["step"], report["resumed_at_steps"]) == (15, [10])

    def test_a_copy_that_somebody_deleted_comes_back(self, job: Job, copy: Copy) -> None:
        job.start()
        job.upload()
        copy.look()
        for name in (LOG_NAME, REPORT_NAME):
            (copy.run_dir / name).unlink()
        assert copy.look()
        assert copy.is_whole()

    def test_a_log_that_grows_while_it_is_read_is_whole_at_the_next_look(
        self, datastore: Datastore, job: Job, copy: Copy
    ) -> None:
        from azure.core.pipeline.transport import RequestsTransport

        class Growing(RequestsTransport):  # type: ignore[misc]  # the SDK is not typed
            """The job writes on between two pieces of the log."""

            grow: Callable[[], None] | None = None

            def send(self, request: Any, **options: Any) -> Any:
                answer = super().send(request, **options)
                grow = self.grow
                if LOG_NAME in request.url and grow is not None:
                    self.grow = None
                    grow()
                return answer

        transport = Growing(connection_verify=datastore._options["connection_verify"])
        small_pieces = datastore.client(transport=transport, max_single_get_size=512, max_chunk_get_size=512)
        job.start()
        job.train(1, 20)
        job.upload()

        def grow() -> None:
            job.train(21, 25)
            job.upload()

        transport.grow = grow
        assert copy.mirror.look(small_pieces)
        assert copy.mirror.look(small_pieces)
        assert copy.is_whole()
        assert not [path for path in copy.run_dir.iterdir() if path.name.endswith(".tmp")]

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(contents=st.lists(st.text(alphabet="ab\n", max_size=200), min_size=1, max_size=5))
    def test_whatever_becomes_of_the_log_the_copy_follows(
        self, datastore: Datastore, copy: Copy, contents: list[str]
    ) -> None:
        copy.log.unlink(missing_ok=True)
        anew = Copy(copy.run_dir, datastore)
        for content in contents:
            datastore.put(LOG_NAME, content.encode())
            anew.look()
            held = copy.log.read_bytes()
            # A log is appended to or begins anew with another time in its first line; what agrees with the copy in its
            # last 64 bytes is taken for the same log.
            assert (len(held), held[-64:]) == (len(content), content.encode()[-64:])


class Viewer:
    """The bar from the copy, off a terminal: what it says after each upload of the job."""

    def __init__(self, job: Job, copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
        self._job, self._copy, self._capsys = job, copy, capsys
        self.view = TrainingView(copy.run_dir)

    def sees(self, *names: str) -> str:
        """What is said once these files have come; both, where none is named."""
        self._job.upload(*names)
        self._copy.look()
        self.view.look()
        return self._capsys.readouterr().out


@pytest.fixture
def viewer(job: Job, copy: Copy, capsys: pytest.CaptureFixture[str]) -> Viewer:
    return Viewer(job, copy, capsys)


class TestView:
    def test_events_are_told_once_and_in_order(self, job: Job, viewer: Viewer) -> None:
        job.start()
        viewer.sees()
        job.train(1, 10)
        assert "epoch 1/4 step 1/40 Loss 4.9000" in viewer.sees()
        job.reporter.evaluation(step=10, epoch=1, loss=4.0, accuracy=0.5)
        job.reporter.emit("checkpoint", {"path": "checkpoint_epoch_1", "step": 10, "bytes": 5})
        job.reporter.warning("the disk is nearly full", step=10)
        job.train(11, 11)
        assert viewer.sees().splitlines() == [
            "epoch 1: validation loss 4.0000, accuracy 50.0%",
            "saved checkpoint_epoch_1 (step 10)",
            "warning: the disk is nearly full",
        ]
        assert viewer.sees() == ""
        assert viewer.view.step == 11

    def test_after_a_re_attach_it_begins_at_the_present_step(self, job: Job, viewer: Viewer) -> None:
        job.start()
        job.train(1, 10)
        job.reporter.evaluation(step=10, epoch=1, loss=4.0, accuracy=0.5)
        job.train(11, 25)
        said = viewer.sees().splitlines()
        assert said[0] == "the training is at step 25 of 40"
        assert len(said) == 2
        assert said[1].startswith("epoch 3/4 step 25/40")

    def test_a_restarted_job_is_said_to_go_on_and_the_steps_that_are_done_again_are_shown_again(
        self, job: Job, viewer: Viewer
    ) -> None:
        job.start()
        job.train(1, 14)
        viewer.sees()
        job.resume(10)
        job.train(11, 12)
        job.reporter.evaluation(step=12, epoch=2, loss=3.5, accuracy=0.5)
        job.train(13, 13)
        said = viewer.sees()
        assert "the training goes on from step 10" in said
        assert "epoch 2: validation loss 3.5000" in said
        assert viewer.view.step == 13

    def test_the_report_alone_is_enough_where_the_mount_keeps_the_log_back(self, job: Job, viewer: Viewer) -> None:
        job.start()
        job.train(1, 5)
        viewer.sees(REPORT_NAME)
        job.train(6, 10)
        job.reporter.evaluation(step=10, epoch=1, loss=4.0, accuracy=0.5)
        job.reporter.warning("the disk is nearly full")
        job.train(11, 11)
        said = viewer.sees(REPORT_NAME)
        assert viewer.view.step == 11
        assert said.count("epoch 1: validation loss 4.0000") == 1
        assert said.count("warning: the disk is nearly full") == 1
        assert viewer.sees() == "", "the log at last: nothing is told again"

    def test_a_report_that_is_ahead_of_its_log_is_told(self, job: Job, viewer: Viewer) -> None:
        job.start()
        job.train(1, 3)
        viewer.sees()
        job.train(4, 9)
        viewer.sees(REPORT_NAME)
        assert viewer.view.step == 9
        job.train(10, 11)
        viewer.sees()
        assert viewer.view.step == 11
