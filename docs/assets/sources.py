"""Shows the source of a function where a page has ``<!-- source: configs/common.py train_block -->``."""

import ast
import pathlib
import re
from typing import Any

_PLACE = re.compile(r"<!-- source: (\S+) (\w+) -->")


def on_page_markdown(markdown: str, *, config: Any, **kwargs: Any) -> str:
    """Called by MkDocs once per page; a file or function that is not there ends the build."""
    del kwargs
    root = pathlib.Path(config.config_file_path).parent
    return _PLACE.sub(lambda found: _block(root / found[1], found[2]), markdown)


def _block(path: pathlib.Path, name: str) -> str:
    text = path.read_text(encoding="utf-8")
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    [function] = [node for node in functions if node.name == name]
    return f"```python\n{ast.get_source_segment(text, function)}\n```"
