"""The tables of a study as LaTeX, with the package booktabs."""

from collections.abc import Sequence

from msa_jax.studies.grid import Study
from msa_jax.studies.layout import Entry, Table, as_text

#: Characters that mean something to LaTeX, or that its older engines lack. A bracket or star at the beginning
#: of a line would otherwise be taken for an option of the end of the line before.
_SPECIAL = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "[": "{[}", "]": "{]}", "*": "{*}",
    "±": r"$\pm$", "†": r"\dag{}", "\N{EN DASH}": "--",
}  # fmt: skip


def to_latex(study: Study, tables: Sequence[Table], notes: Sequence[str]) -> str:
    """A ``table*`` for every table, to be included in an article.

    Args:
      study: as declared.
      tables: see :func:`msa_jax.studies.layout.lay_out`.
      notes: footnotes, below the last table.
    """
    captions = [f"{study.title}: {table.heading}" if table.heading else study.title for table in tables]
    return _floats(
        [(caption, _tabular(table)) for caption, table in zip(captions, tables, strict=True)], notes
    )


def plain_tables(
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]], notes: Sequence[str]
) -> str:
    """A ``table*`` for every table of plain texts, of which the first of a row is words.

    Args:
      tables: caption, header and rows of each.
      notes: footnotes, below the last table.
    """
    parts = []
    for caption, header, rows in tables:
        lines = [[escape(text) for text in row] for row in (header, *rows)]
        parts.append((caption, _set(lines[0], lines[1:], 1)))
    return _floats(parts, notes)


def _floats(tables: Sequence[tuple[str, Sequence[str]]], notes: Sequence[str]) -> str:
    """Captions with their tabulars, and the footnotes below the last one."""
    parts = [r"% In the preamble: \usepackage{booktabs}"]
    for number, (caption, tabular) in enumerate(tables, start=1):
        parts += [r"\begin{table*}", r"\centering\small", rf"\caption{{{escape(caption)}}}", *tabular]
        if number == len(tables):
            text = r"\\ ".join(escape(note) for note in notes)
            parts.append(rf"\begin{{minipage}}{{\textwidth}}\footnotesize\smallskip {text}\end{{minipage}}")
        parts.append(r"\end{table*}")
    return "\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def _tabular(table: Table) -> list[str]:
    header, rows = as_text(table, escape, _entry)
    return _set(header, rows, len(table.axes))


def _set(header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> list[str]:
    """A tabular whose first columns, ``words`` many, hold words and the others figures."""
    return [
        rf"\begin{{tabular}}{{{'l' * words}{'r' * (len(header) - words)}}}",
        r"\toprule",
        _row(header),
        r"\midrule",
        *(_row(row) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _entry(entry: Entry) -> str:
    text = escape(entry.text)
    text = (text, rf"\textbf{{{text}}}", rf"\underline{{{text}}}")[entry.place]
    return text + (rf"\textsuperscript{{{escape(entry.mark)}}}" if entry.mark else "")
