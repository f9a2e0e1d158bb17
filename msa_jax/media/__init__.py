"""Clips to features: sound, faces and words of media files, each as a recipe says."""

import pathlib

#: What is taken for a clip in a folder.
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3gp", "avi", "flv", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ogv", "ts", "webm", "wmv"),
        *("aac", "flac", "m4a", "mp3", "oga", "ogg", "opus", "wav", "wma"),
    )
)


def is_media(path: pathlib.Path) -> bool:
    """Whether a path is a clip, a folder of clips or a manifest; a feature file or a store is not."""
    if path.is_dir():
        return not (path / "manifest.json").exists()  # the mark of a store
    return path.suffix.lower() in (*SUFFIXES, ".csv")
