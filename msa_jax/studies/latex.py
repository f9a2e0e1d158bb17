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
    parts = [r"% In the preamble: \usepackage{booktabs}"]
    for number, table in enumerate(tables, start=1):
        title = f"{study.title}: {table.heading}" if table.heading else study.title
        parts += [r"\begin{table*}", r"\centering\small", rf"\caption{{{escape(title)}}}", *_tabular(table)]
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
    words = len(table.axes)
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
