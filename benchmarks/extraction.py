"""What the parts of extracting a clip cost in time and memory, as JSON.

    python benchmarks/extraction.py --clip=clip.mp4 --face-model=face_landmarker.task [--asr=DIR]

Each part runs in a process of its own, on the clip and on one that shows it several times over, so that it is
seen whether memory grows with length. "first" is the first time in a process, which loads and compiles,
"seconds" the second, and "ratio" that by the seconds that the clip plays.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

PARTS = ("decode", "librosa33", "egemaps", "mediapipe", "asr")


def repeated(clip: pathlib.Path, times: int, target: pathlib.Path) -> None:
    """Writes the clip several times over, without encoding anything anew."""
    import av

    with av.open(str(target), "w") as out:
        offset, streams = 0.0, {}
        for number in range(times):
            end = 0.0
            with av.open(str(clip)) as source:
                for stream in source.streams:
                    if number == 0 and stream.type in ("audio", "video"):
                        streams[stream.index] = out.add_stream_from_template(stream)
                for packet in source.demux(*(source.streams[i] for i in streams)):
                    if packet.dts is None or packet.pts is None:
                        continue
                    base = packet.time_base
                    end = max(end, float((packet.pts + (packet.duration or 0)) * base))
                    packet.stream = streams[packet.stream.index]
                    packet.pts += round(offset / base)
                    packet.dts += round(offset / base)
                    out.mux(packet)
            offset += end


def run_part(part: str, clip: pathlib.Path, options: argparse.Namespace) -> dict[str, float]:
    """Runs one part in this process."""
    from msa_jax.media import decode, faces, sound, words

    def note(text: str) -> None:
        del text

    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)

        def work(path: pathlib.Path) -> None:
            if part == "decode":
                with (scratch / "sound").open("wb") as file:
                    decode.write_sound(path, sound.RATE, file)
                for _ in decode.frames(path, options.fps):
                    pass
            elif part == "mediapipe":
                faces.extract(path, options.face_model, options.fps, note)
            elif part == "asr":
                words.recognised(path, options.asr, scratch)
            else:
                sound.extract(part, path, note, scratch)

        began = time.perf_counter()
        work(options.clip)  # loads and compiles what the part needs
        first = time.perf_counter() - began
        began = time.perf_counter()
        work(clip)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first": round(first, 3), "seconds": round(seconds, 3), "peak_mib": round(peak)}


def playing(clip: pathlib.Path) -> float:
    """Seconds that a clip plays."""
    import av

    with av.open(str(clip)) as container:
        return (container.duration or 0) / 1e6


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", type=pathlib.Path, required=True)
    parser.add_argument("--face-model", type=pathlib.Path)
    parser.add_argument("--asr", type=pathlib.Path)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--part", choices=PARTS, help="run this part alone, in this process")
    options = parser.parse_args()
    if options.part:
        print(json.dumps(run_part(options.part, options.clip, options)))
        return
    wanted = [part for part in PARTS if part != "mediapipe" or options.face_model]
    wanted = [part for part in wanted if part != "asr" or options.asr]
    report = []
    with tempfile.TemporaryDirectory() as name:
        for times in options.times:
            clip = pathlib.Path(name) / f"{times}.mkv"
            repeated(options.clip, times, clip)
            length = playing(clip)
            for part in wanted:
                command = [
                    sys.executable,
                    __file__,
                    f"--clip={clip}",
                    f"--part={part}",
                    f"--fps={options.fps}",
                ]
                command += [f"--face-model={options.face_model}"] if options.face_model else []
                command += [f"--asr={options.asr}"] if options.asr else []
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    report.append({"part": part, "length_s": round(length, 1), "error": done.stderr[-300:]})
                    continue
                figures = json.loads(done.stdout)
                ratio = round(figures["seconds"] / length, 3)
                report.append({"part": part, "length_s": round(length, 1), **figures, "ratio": ratio})
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
