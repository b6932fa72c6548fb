"""A film from frames: mp4 through ffmpeg, gif through Pillow; whole or not at all."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL import Image

from kanbatsu.files.tables import RecordError

FILMS = (".mp4", ".gif")
"""Ends of the names of films."""
FFMPEG = "imageio_ffmpeg"
"""Package that brings ffmpeg along."""


def check_film(path: Path) -> None:
    """Refuse a film that could not be written, before anything is played.

    Raises:
        RecordError: its name says neither mp4 nor gif, or what writes mp4 is not installed.
    """
    if path.suffix not in FILMS:
        raise RecordError(f"--video {path}: a film is written as {' or '.join(FILMS)}")
    if path.suffix == ".mp4":
        try:
            importlib.import_module(FFMPEG)
        except ImportError as error:
            raise RecordError(
                f"--video {path}: mp4 is written by imageio-ffmpeg, which brings ffmpeg along and "
                "is not installed: pip install 'kanbatsu[video]'. A .gif needs nothing more"
            ) from error


def write_film(path: Path, frames: Iterable[Image.Image], frames_per_second: int) -> int:
    """Write a film.

    Args:
        path: its file, with the end .mp4 or .gif; what was there is replaced when the film is done.
        frames: pictures of one size, of even width and height.
        frames_per_second: pace of the film; a gif's is rounded to hundredths of a second.

    Returns:
        The number of its frames.

    Raises:
        RecordError: there is not a single frame.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.draft{path.suffix}")
    writer: Callable[[Path, Iterator[Image.Image], Image.Image, int], int] = (
        _write_mp4 if path.suffix == ".mp4" else _write_gif
    )
    try:
        rest = iter(frames)
        first = next(rest, None)
        if first is None:
            raise RecordError(f"{path} would be a film without a frame: nothing was played")
        count = writer(draft, rest, first, frames_per_second)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def _write_mp4(draft: Path, rest: Iterator[Image.Image], first: Image.Image, pace: int) -> int:
    width, height = first.size
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(pace)]
    # What every player plays: H.264 with colours at half the size, its index at the beginning.
    coded = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20"]
    command = [
        importlib.import_module(FFMPEG).get_ffmpeg_exe(),
        "-y",
        "-v",
        "error",
        *raw,
        "-i",
        "-",
        *coded,
    ]
    # imageio-ffmpeg's own writer forks this process, which JAX warns of.
    with subprocess.Popen(
        [*command, "-movflags", "+faststart", str(draft)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as ffmpeg:
        assert ffmpeg.stdin is not None
        assert ffmpeg.stderr is not None
        count = 0
        with contextlib.suppress(BrokenPipeError):  # it says why when it ends
            for picture in itertools.chain([first], rest):
                ffmpeg.stdin.write(picture.tobytes())
                count += 1
            ffmpeg.stdin.close()
        words = ffmpeg.stderr.read().decode(errors="replace").strip()
    if ffmpeg.returncode != 0:
        code = ffmpeg.returncode
        raise RecordError(f"ffmpeg could not write the film (exit code {code}): {words}")
    return count


def _write_gif(draft: Path, rest: Iterator[Image.Image], first: Image.Image, pace: int) -> int:
    def coloured(picture: Image.Image) -> Image.Image:
        return picture.quantize(128, dither=Image.Dither.NONE)

    others = [coloured(picture) for picture in rest]
    coloured(first).save(
        draft, save_all=True, append_images=others, duration=round(1000 / pace), loop=0
    )
    return 1 + len(others)
