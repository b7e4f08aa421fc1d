"""Films: frames go to a file one by one, and none is kept in memory."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EISDIR
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import getdata

from softac.errors import ConfigError, DiskError, EnvironmentFailed

Frame = NDArray[np.uint8]
FASTEST_GIF = 50  # frames per second; players slow down those that claim more
GIF_COLOURS = 256


class Film:
    """A film that is being made; see `film`."""

    def __init__(self, path: Path, writer: "_Gif | _Mp4") -> None:
        self.path, self.writer = path, writer
        self.frames = 0
        self.shape: tuple[int, ...] = ()

    def add(self, frame: Frame) -> None:
        """Append a frame `[H, W, 3]`; raises as `film`."""
        self.shape = _checked(frame, self.shape)
        with _writing(self.path):
            self.writer.add(frame, self.frames)
        self.frames += 1


@contextmanager
def film(path: Path, fps: int) -> Iterator[Film]:
    """Write a film; it appears under its name when it is complete, and not at all after an error.

    Args:
        path: ends in .mp4 (made by ffmpeg) or .gif.
        fps: frames per second, at least 1.

    Raises:
        ConfigError: another ending, or no ffmpeg for an .mp4.
        DiskError: the file cannot be written, or ffmpeg stopped.
        EnvironmentFailed: a frame is not a picture, or not of the first one's size.
    """
    require_encoder(path)
    # The ending stays: it tells ffmpeg what to write.
    partial = path.with_name(f".tmp-{os.getpid()}-{path.name}").absolute()
    with _writing(path):
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        partial.touch()
    try:
        writer = _Gif(partial, fps) if path.suffix == ".gif" else _Mp4(partial, fps)
        try:
            yield Film(path, writer)
            with _writing(path):
                writer.finish()
        finally:
            with suppress(OSError):  # what could not be written has been said by then
                writer.close()
        with _writing(path):
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"{path} cannot be written ({error.strerror or error})",
            "expected a folder that exists, with space",
            "choose another",
        ) from None


def require_encoder(path: Path) -> None:
    """Refuse a file that could not be made here.

    Raises:
        ConfigError: the ending is neither .mp4 nor .gif, or there is no ffmpeg for an .mp4.
    """
    if path.suffix not in (".mp4", ".gif"):
        raise ConfigError(
            f"{path} was given for a film",
            "expected a name that ends in .mp4 or .gif",
            "rename it",
        )
    if path.suffix == ".mp4" and find_ffmpeg() is None:
        raise ConfigError(
            f"{path} was given for a film, and ffmpeg is not installed",
            "expected it for .mp4",
            "install it (apt install ffmpeg, or pip install imageio-ffmpeg), or name a "
            f"{path.with_suffix('.gif').name}",
        )


def find_ffmpeg() -> str | None:
    """The ffmpeg on PATH, else the one that imageio-ffmpeg brings, else None."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


class _Gif:
    # Pillow's own writer for animations keeps every frame until the end.

    def __init__(self, file: Path, fps: int) -> None:
        self.file = file.open("wb")
        self.stride = -(-fps // FASTEST_GIF)
        self.delay = 100 * self.stride / fps  # in the hundredths of a second that GIF counts in

    def add(self, frame: Frame, index: int) -> None:
        if index == 0:
            height, width = frame.shape[:2]
            size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
            for_ever = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
            self.file.write(b"GIF89a" + size + b"\x00\x00\x00" + for_ever)
        if index % self.stride == 0:
            shown = index // self.stride
            # Rounded so that the whole film keeps its length.
            hundredths = round((shown + 1) * self.delay) - round(shown * self.delay)
            image = Image.fromarray(frame).quantize(
                GIF_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
            )
            self.file.writelines(getdata(image, duration=10 * hundredths, include_color_table=True))

    def finish(self) -> None:
        self.file.write(b";")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class _Mp4:
    def __init__(self, file: Path, fps: int) -> None:
        self.file, self.fps = file, fps
        self.messages = tempfile.TemporaryFile()  # a pipe could fill up  # noqa: SIM115
        self.process: subprocess.Popen[bytes] | None = None

    def add(self, frame: Frame, index: int) -> None:
        if index == 0:
            self.process = self._start(*frame.shape[:2])
        try:
            self._stdin.write(np.ascontiguousarray(frame).data)
        except BrokenPipeError:
            self._stopped()

    def finish(self) -> None:
        if self.process is None:
            return
        try:
            self._stdin.close()
        except BrokenPipeError:
            self._stopped()
        if self.process.wait() != 0:
            self._stopped()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            with suppress(OSError):
                self._stdin.close()
        self.messages.close()

    @property
    def _stdin(self) -> Any:
        assert self.process is not None  # noqa: S101 - for the type checker
        return self.process.stdin

    def _start(self, height: int, width: int) -> "subprocess.Popen[bytes]":
        raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {self.fps} -i -"
        # Players want yuv420p, which needs even sides.
        out = "-an -vf pad=ceil(iw/2)*2:ceil(ih/2)*2 -pix_fmt yuv420p -movflags +faststart"
        command = [
            find_ffmpeg() or "ffmpeg",
            "-y",
            "-loglevel",
            "error",
            *raw.split(),
            *out.split(),
            str(self.file),
        ]
        # In a session of its own: Ctrl-C is for us, and the film is then brought to its end.
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.messages,
            start_new_session=True,
        )

    def _stopped(self) -> None:
        assert self.process is not None  # noqa: S101 - for the type checker
        code = self.process.wait()
        self.messages.seek(0)
        said = self.messages.read().decode(errors="replace").strip().splitlines()
        why = said[-1][:200] if said else f"exit code {code}"
        raise DiskError(
            f"ffmpeg stopped before the film was done ({why})",
            "expected it to go on",
            "see that there is space and that ffmpeg works, or choose a .gif",
        )


def _checked(frame: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        kind = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise EnvironmentFailed(
            f"the environment drew {kind}",
            "expected a picture, uint8 [height, width, 3]",
            "correct its render method",
        )
    if shape and frame.shape != shape:
        raise EnvironmentFailed(
            f"the environment drew a picture of {frame.shape[:2]} after one of {shape[:2]}",
            "expected one size",
            "correct its render method",
        )
    return tuple(frame.shape)
