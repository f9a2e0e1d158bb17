"""Small clips that tests make: tones, speech-like sound and moving pictures, by PyAV."""

import pathlib

import numpy as np

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
NO_SHARED = "the shared data folder is not beside this checkout"


def tone(seconds, rate=22050, pitch=220.0):
    """int16 [n]: a voice-like sum of harmonics whose loudness changes."""
    at = np.arange(int(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * pitch * k * at) / k for k in (1, 2, 3, 5))
    return (6000 * wave * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * at))).astype(np.int16)


def pictures(count, width=64, height=48):
    """RGB pictures whose brightness is their number, with a bright stripe on the left."""
    for number in range(count):
        picture = np.full((height, width, 3), min(255, 10 + 8 * number), np.uint8)
        picture[:, :8] = 255
        yield picture


def write_clip(path, sound=None, frames=None, rate=22050, fps=10, times=None, layout="mono"):
    """Writes a clip.

    Args:
      path: with the ending of a container.
      sound: int16 [n], or [channels, n].
      frames: RGB pictures.
      rate: samples a second.
      fps: pictures a second.
      times: of the pictures, in milliseconds, for a variable rate.
      layout: of the channels.
    """
    import av

    with av.open(str(path), "w") as container:
        video = audio = None
        if frames is not None:
            frames = list(frames)
            exact = pathlib.Path(path).suffix == ".mkv"
            video = container.add_stream("ffv1" if exact else "mpeg4", rate=1000 if times else fps)
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "yuv444p" if exact else "yuv420p"
        if sound is not None:
            codec = "pcm_s16le" if pathlib.Path(path).suffix in (".wav", ".mkv") else "aac"
            audio = container.add_stream(codec, rate=rate, layout=layout)
        for number, picture in enumerate(frames or ()):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times:
                frame.pts = times[number]
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode())
        if audio is not None:
            packed = np.atleast_2d(sound).T
            for start in range(0, len(packed), 1024):
                part = np.ascontiguousarray(packed[start : start + 1024]).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
                frame.sample_rate, frame.pts = rate, start
                container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def turned(path, target, degrees):
    """A copy of an MP4 whose header says that its picture is turned clockwise, as phones write it."""
    content = bytearray(path.read_bytes())
    one, none = (1 << 16).to_bytes(4, "big"), bytes(4)
    minus = (-(1 << 16)).to_bytes(4, "big", signed=True)
    unit = (1 << 30).to_bytes(4, "big")
    plain = one + none + none + none + one + none + none + none + unit
    rotated = {
        90: none + one + none + minus + none + none + none + none + unit,
        180: minus + none + none + none + minus + none + none + none + unit,
        270: none + minus + none + one + none + none + none + none + unit,
    }[degrees]
    at = content.index(plain, content.index(b"tkhd"))
    content[at : at + len(plain)] = rotated
    target.write_bytes(bytes(content))
    return target
