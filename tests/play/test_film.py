"""Films are decoded again: frames, size, colours."""

import importlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kanbatsu.files.tables import RecordError
from kanbatsu.play.film import FFMPEG, check_film, write_film

SIZE, COUNT = (64, 48), 7


def frames() -> Iterator[Image.Image]:
    for at in range(COUNT):
        yield Image.new("RGB", SIZE, (30 * at, 200, 0))


def test_a_gif_has_every_frame_in_its_size(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "film.gif"
    assert write_film(path, frames(), 20) == COUNT
    with Image.open(path) as film:
        assert (film.n_frames, film.size) == (COUNT, SIZE)
        assert film.info["duration"] == 50
        reds = []
        for at in range(COUNT):
            film.seek(at)
            reds.append(film.convert("RGB").getpixel((5, 5))[0])
    assert reds == [30 * at for at in range(COUNT)]
    assert [child.name for child in path.parent.iterdir()] == ["film.gif"]


def test_an_mp4_has_every_frame_in_its_size(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip(FFMPEG).get_ffmpeg_exe()
    path = tmp_path / "film.mp4"
    assert write_film(path, frames(), 30) == COUNT
    command = [ffmpeg, "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    decoded = np.frombuffer(raw, np.uint8).reshape(-1, SIZE[1], SIZE[0], 3)
    assert len(decoded) == COUNT
    np.testing.assert_allclose(decoded[:, 5, 5, 0], 30 * np.arange(COUNT), atol=12)
    np.testing.assert_allclose(decoded[:, 5, 5, 1], 200, atol=12)


def test_a_film_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    path.write_text("the old one")

    def broken() -> Iterator[Image.Image]:
        yield Image.new("RGB", SIZE)
        raise RuntimeError("the simulator crashed")

    with pytest.raises(RuntimeError, match="crashed"):
        write_film(path, broken(), 30)
    with pytest.raises(RecordError, match="without a frame"):
        write_film(path, iter(()), 30)
    assert path.read_text() == "the old one"
    assert [child.name for child in tmp_path.iterdir()] == ["film.gif"]


def test_ffmpeg_says_why_it_fails(tmp_path: Path) -> None:
    pytest.importorskip(FFMPEG)
    odd = iter([Image.new("RGB", (63, 47))])
    with pytest.raises(RecordError, match=r"ffmpeg could not write the film .*not divisible by 2"):
        write_film(tmp_path / "film.mp4", odd, 30)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(RecordError, match=r"pip install 'kanbatsu\[video\]'. A .gif needs nothing"):
        check_film(Path("film.mp4"))
    check_film(Path("film.gif"))
