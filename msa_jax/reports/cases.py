"""Single clips of finished runs: where one errs, where its modalities disagree, what another does better.

The tables of cases in Cai et al. 2025 (Fig. 10) and Zheng et al. 2024 (Table 9), from the runs' predictions
alone: nothing is trained or computed again.
"""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Sequence

import numpy as np

from msa_jax.data.spec import UNIMODAL_TASKS, has_centre
from msa_jax.errors import DataError, RunError, nearest
from msa_jax.files import write_whole
from msa_jax.reports.clips import tested_clips
from msa_jax.reports.run import Run, ordered, read_run

#: By what clips are picked, the first first.
RULES = {
    "error": "the largest errors of A",
    "disagreement": "the clips on which the heads of A's modalities disagree most",
    "b_right_a_wrong": "clips that B gets right and A wrong, the largest gap first",
}
#: With these a spreadsheet begins a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclasses.dataclass(frozen=True)
class Side:
    """What one run says of a clip.

    Attributes:
      answers: per head a score, or the name of a class.
      error: how far the final score is from the label; for classes 1 less the probability of the true one.
    """

    answers: tuple[float | str, ...]
    error: float


@dataclasses.dataclass(frozen=True)
class Case:
    """A clip.

    Attributes:
      id: its name.
      transcript: what is said, on one line; "" where nobody knows.
      label: the true score, or the name of the class.
      sides: what A, and B where there is one, say.
    """

    id: str
    transcript: str
    label: float | str
    sides: tuple[Side, ...]


@dataclasses.dataclass(frozen=True)
class Heading:
    """Over the columns of a run.

    Attributes:
      letter: "A" or "B".
      name: of the run.
      heads: its predictions: "M" is the final one, "T", "A" and "V" are those of single modalities.
    """

    letter: str
    name: str
    heads: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Cases:
    """A table of clips.

    Attributes:
      how: a sentence on how they were picked.
      sides: the runs.
      rows: the clips, K of them.
      has_transcripts: whether any clip's is known.
      notes: what is left out and why, a sentence each.
    """

    how: str
    sides: tuple[Heading, ...]
    rows: tuple[Case, ...]
    has_transcripts: bool
    notes: tuple[str, ...]


def pick(
    runs: Sequence[Run],
    names: Sequence[str],
    count: int = 20,
    rule: str = "error",
    ids: Sequence[str] = (),
) -> Cases:
    """Picks test clips of one run or two and says what the runs make of them.

    Args:
      runs: A and, where two are compared, B, tested on the same N clips.
      names: of the runs, for the table.
      count: K, how many clips at most.
      rule: one of :data:`RULES`. Right is the class, or a score with the label's sign as Acc-2 non0 has
        it: above 0 or not, and clips labelled 0 do not count.
      ids: clips by name, in place of a rule, in this order.

    Raises:
      RunError: for K below 1, a rule or clips that the runs do not have, or runs on different clips.
    """
    first = runs[0]
    _check_alike(runs, names)
    if count < 1:
        raise RunError(f"k={count} clips are none; ask for 1 or more.")
    if ids:
        rows, how = _given(first, ids), "The clips that were asked for."
    else:
        rows = _by_rule(runs, names, rule)[:count]
        how = f"{RULES[rule][0].upper()}{RULES[rule][1:]}: {len(rows)} of {len(first.ids)} test clips."
    texts, notes = _transcripts(first, rows)
    heads = [tuple(ordered(run.predictions)) for run in runs]
    cases = []
    for row, text in zip(rows, texts, strict=True):
        sides = tuple(
            Side(tuple(_answer(run, run.predictions[head][row]) for head in own), float(errors(run)[row]))
            for run, own in zip(runs, heads, strict=True)
        )
        cases.append(Case(first.ids[row], text, _answer(first, first.label[row]), sides))
    if not rows:
        notes = [*notes, "There is no such clip."]
    sides = tuple(Heading("AB"[k], names[k], heads[k]) for k in range(len(runs)))
    return Cases(how, sides, tuple(cases), any(texts), tuple(notes))


def read_runs(folders: Sequence[str | pathlib.Path]) -> list[Run]:
    """The finished runs in these folders.

    Raises:
      RunError: if one is not that of a finished run.
    """
    return [read_run(pathlib.Path(folder)) for folder in folders]


def _check_alike(runs: Sequence[Run], names: Sequence[str]) -> None:
    first = runs[0]
    for run, name in zip(runs[1:], names[1:], strict=True):
        if (run.classifies, run.class_names) != (first.classifies, first.class_names):
            raise RunError(f"{names[0]} and {name} do not predict the same (scores, or the same classes).")
        if run.ids != first.ids or not np.array_equal(run.label, first.label):
            raise RunError(
                f"{names[0]} and {name} were tested on different clips; compare runs on the same data."
            )


def _given(run: Run, ids: Sequence[str]) -> list[int]:
    """The rows of clips by name."""
    place = {clip: row for row, clip in enumerate(run.ids)}
    for clip in ids:
        if clip not in place:
            raise RunError(f"the test split has no clip {clip!r}.{nearest(clip, place)}")
    return [place[clip] for clip in ids]


def _by_rule(runs: Sequence[Run], names: Sequence[str], rule: str) -> list[int]:
    """All rows that the rule picks, the first first; equal ones stay in the order of the split."""
    first = runs[0]
    if rule == "error":
        rank, chosen = errors(first), np.ones(len(first.ids), bool)
    elif rule == "disagreement":
        rank, chosen = _disagreement(first, names[0]), np.ones(len(first.ids), bool)
    elif rule == "b_right_a_wrong":
        if len(runs) < 2:
            raise RunError(f"the rule {rule} compares two runs; name a second one.")
        rank = errors(first) - errors(runs[1])
        chosen = _right(runs[1], names[1]) & _wrong(first, names[0])
    else:
        raise RunError(f"there is no rule {rule!r}; there are {', '.join(RULES)}.{nearest(rule, RULES)}")
    order = np.argsort(-rank, kind="stable")
    return [int(row) for row in order if chosen[row]]


def errors(run: Run) -> np.ndarray:
    """How far the final predictions are from the labels, float64 [N]; see :class:`Side`."""
    if not run.classifies:
        return np.abs(run.predictions["M"] - run.label)
    if run.logits is None:
        raise RunError("the run predicts classes and has no logits in predictions.csv; train it again.")
    powers = np.exp(run.logits - run.logits.max(axis=1, keepdims=True))
    true = powers[np.arange(len(powers)), run.label.astype(int)]
    return 1 - true / powers.sum(axis=1)


def _disagreement(run: Run, name: str) -> np.ndarray:
    """How far the heads of single modalities are apart, float64 [N]; of classes how many they name."""
    heads = [run.predictions[task] for task in UNIMODAL_TASKS.values() if task in run.predictions]
    if len(heads) < 2:
        raise RunError(
            "the rule disagreement needs a model with a head for each modality, such as ufen_mtfn, and "
            f"{name} has none; choose another rule."
        )
    answers = np.stack(heads)
    if run.classifies:
        return np.array([len(set(column)) for column in answers.T.tolist()], np.float64)
    return np.ptp(answers, axis=0)


def _right(run: Run, name: str) -> np.ndarray:
    """Where the final prediction is right, bool [N]."""
    prediction = run.predictions["M"]
    if run.classifies:
        return prediction == run.label
    return _signed(run, name) & ((prediction > 0) == (run.label > 0))


def _wrong(run: Run, name: str) -> np.ndarray:
    """Where the final prediction is wrong, bool [N]."""
    signed = np.ones(len(run.ids), bool) if run.classifies else _signed(run, name)
    return signed & ~_right(run, name)


def _signed(run: Run, name: str) -> np.ndarray:
    """Which labels have a sign, bool [N]."""
    low, high = run.spec.label_range
    if not has_centre((low, high)):
        raise RunError(
            f"the rule b_right_a_wrong asks for the sign of scores, and those of {name}, {low:g} to "
            f"{high:g}, have none; choose another rule."
        )
    return run.label != 0


def _answer(run: Run, value: float) -> float | str:
    """A score, or the name of a class."""
    return run.class_names[int(value)] if run.classifies else float(value)


def _transcripts(run: Run, rows: Sequence[int]) -> tuple[list[str], list[str]]:
    """The transcripts of these rows on one line each, "" for none, and why they are missing."""
    try:
        texts = tested_clips(run).raw_text
    except DataError as error:
        return [""] * len(rows), [f"Transcripts are left out: {error}"]
    if texts is None:
        return [""] * len(rows), ["Transcripts are left out: the data has none."]
    return [one_line(str(texts[row])) for row in rows], []


def one_line(text: str) -> str:
    """Text without line breaks and characters that steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def as_rows(cases: Cases, form: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows: id, transcript where one is known, label, and per run its heads and its error.

    Args:
      cases: see :func:`pick`.
      form: of numbers, ``".2f"``.
    """

    def text(value: float | str) -> str:
        return value if isinstance(value, str) else format(value, form)

    header = ["id", *["transcript"] * cases.has_transcripts, "label"]
    for side in cases.sides:
        header += [f"{side.letter}_{head}" for head in (*side.heads, "error")]
    rows = []
    for case in cases.rows:
        row = [case.id, *[case.transcript] * cases.has_transcripts, text(case.label)]
        for side in case.sides:
            row += [*map(text, side.answers), text(side.error)]
        rows.append(row)
    return header, rows


def write_csv(cases: Cases, path: pathlib.Path, advice: str) -> None:
    """Writes a table of cases as CSV.

    Ids and transcripts that a spreadsheet would take for a formula have an apostrophe in front.

    Args:
      cases: see :func:`pick`.
      path: of the file.
      advice: what to do where it cannot be written.

    Raises:
      RunError: if it cannot be written.
    """
    header, rows = as_rows(cases, ".9g")
    words = 1 + cases.has_transcripts
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([*map(_harmless, row[:words]), *row[words:]] for row in rows)
    write_whole(path, text.getvalue().encode("utf-8", "backslashreplace"), advice)


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_page(cases: Cases, path: pathlib.Path, title: str, advice: str) -> None:
    """Writes a table of cases as a page of its own.

    Args:
      cases: see :func:`pick`.
      path: of the file.
      title: of the page.
      advice: what to do where it cannot be written.

    Raises:
      RunError: if it cannot be written.
    """
    from msa_jax.reports import templates  # here, not at the top: the table and its CSV do without

    write_whole(path, templates.render("cases.html", title=title, cases=cases).encode(), advice)
