"""Sound and frames of a media file, read as a stream, by PyAV (FFmpeg inside its wheel).

A file is hostile input. Only containers that hold their own streams are opened: a playlist or a script of
FFmpeg's, which could name other files, is not, whatever its name says.
"""

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from msa_jax.errors import DataError

_CONTAINERS = "aac,asf,avi,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,wav"
#: How image files begin, for a sentence of their own.
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")
#: Of width and height; an 8K film has 7680.
_MOST_PIXELS = 8192
#: A sound whose largest sample is below is silent: one step of 16 bits.
SILENCE = 2.0**-15
#: Damaged packets that are left out; a file with more is refused.
_MOST_DAMAGED = 10
#: Seconds that a frame is taken to stay when the next one is late; beyond, there is none.
_LONGEST_STAY = 5.0
#: Seconds by which times may differ and count as one: they are sums of fractions.
_NOTHING = 1e-6


class Absent(DataError):
    """A clip can be read, but has nothing of one modality: no sound track, no face, no words."""


def duration(path: pathlib.Path) -> float:
    """Seconds that a file plays, as its header says; 0 where it does not.

    Raises:
      DataError: if it is no media file.
    """
    with _opened(path) as container:
        return max(0.0, (container.duration or 0) / 1e6)


def write_sound(
    path: pathlib.Path, rate: int, target: BinaryIO, note: Callable[[str], None] = lambda _: None
) -> int:
    """Decodes the first sound track to mono float32 samples in a file, so that memory holds none of it.

    Args:
      path: the clip.
      rate: samples a second.
      target: where the samples go.
      note: told what was left out.

    Returns:
      How many samples there are.

    Raises:
      Absent: if the file has no sound track.
      DataError: if it is damaged.
    """
    import av

    samples = 0
    with _opened(path) as container:
        if not container.streams.audio:
            raise Absent(f"{path} has no sound track")
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)

        def put(frame: Any) -> None:
            nonlocal samples
            for part in resampler.resample(frame):
                target.write(part.to_ndarray().astype("<f4").tobytes())
                samples += part.samples

        for frame in _decoded(path, container, container.streams.audio[0], note):
            put(frame)
        put(None)
    return samples


def frames(
    path: pathlib.Path, fps: float, note: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[float, np.ndarray]]:
    """The frames that are shown at 0, 1/fps, 2/fps, ... seconds, upright.

    Times are those of the file, so a variable frame rate is right; a phone's rotation is undone.

    Yields:
      Seconds, and RGB uint8 [height, width, 3].

    Raises:
      Absent: if the file has no video.
      DataError: if it is damaged or its frames are too large.
    """
    with _opened(path) as container:
        stream = _video(container)
        if stream is None:
            raise Absent(f"{path} has no video")
        frame_rate = max(1.0, float(stream.average_rate or 25))
        shown: tuple[float, Any] | None = None  # the frame on the screen, and since when
        number = 0  # of the next time that is asked for
        for frame in _decoded(path, container, stream, note):
            _check_size(path, frame)
            time = _seconds(frame, shown, frame_rate)
            if shown is not None:
                if time <= shown[0]:
                    continue
                while number / fps < min(time, shown[0] + _LONGEST_STAY) - _NOTHING:
                    yield number / fps, _upright(shown[1])
                    number += 1
            number = max(number, math.ceil(time * fps - _NOTHING))
            shown = time, frame
        if shown is not None:
            while number / fps < shown[0] + 1 / frame_rate - _NOTHING:
                yield number / fps, _upright(shown[1])
                number += 1


def _check_size(path: pathlib.Path, frame: Any) -> None:
    if max(frame.width, frame.height) > _MOST_PIXELS:
        raise DataError(
            f"{path} has frames of {frame.width} x {frame.height}, beyond {_MOST_PIXELS}; scale it down."
        )


def _seconds(frame: Any, before: tuple[float, Any] | None, frame_rate: float) -> float:
    """When a frame comes; where the file does not say, one frame after the one before."""
    if frame.time is not None and math.isfinite(frame.time):
        return float(frame.time)
    return 0.0 if before is None else before[0] + 1 / frame_rate


def _upright(frame: Any) -> np.ndarray:
    """RGB, turned as a player would."""
    picture = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(picture, round((frame.rotation or 0) / 90) % 4))


def _video(container: Any) -> Any:
    """The first stream of video, or None."""
    import av.stream

    covers = av.stream.Disposition.attached_pic
    return next((s for s in container.streams.video if not s.disposition & covers), None)


def _decoded(path: pathlib.Path, container: Any, stream: Any, note: Callable[[str], None]) -> Iterator[Any]:
    """The frames of a stream; single packets that cannot be decoded are left out and said."""
    import av.error

    stream.thread_type = "NONE"  # clips run side by side, one to a core
    damaged = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except av.error.FFmpegError as error:
            raise _broken(path, error) from error
        try:
            yield from packet.decode()
        except av.error.FFmpegError as error:
            damaged += 1
            if damaged > _MOST_DAMAGED:
                raise _broken(path, error) from error
    if damaged:
        note(f"{damaged} damaged packets of the {stream.type} were left out")


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    """The file's container.

    Raises:
      DataError: if it is none that is read.
    """
    try:
        import av.error
    except ImportError:
        raise DataError("reading clips needs the extra: pip install 'msa_jax[media]'.") from None
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    if not start:
        raise DataError(f"{path} is empty; copy it again.")
    if start.startswith(_IMAGES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP"):
        raise DataError(f"{path} is an image, not a clip; give a video or a sound file.")
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(str(path.absolute()), options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise DataError(
            f"{path} is not a video or sound file ({_said(error)}); convert it to MP4 or WAV."
        ) from error
    with container:
        try:
            yield container
        except av.error.FFmpegError as error:  # of what is done with a frame: turned, resampled, converted
            raise _broken(path, error) from error


def _broken(path: pathlib.Path, error: Exception) -> DataError:
    return DataError(f"{path} is damaged ({_said(error)}); copy or convert it again.")


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)[:100]
