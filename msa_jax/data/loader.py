"""Batches: which clips go together, in which padded shape, and how they reach the device.

A *plan* is pure: the batches of an epoch and their order follow from the seed and the epoch alone, so a
position (epoch, number of the batch) is the whole state of the loader. How many batches run as one program
(a *chunk*) is the device's business and changes neither. A *source* turns the plan's rows into a
:class:`Batch`, either from arrays that live on the device or from memory maps on the host.
"""

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from msa_jax.data.batch import Batch
from msa_jax.data.context import tokens_behind
from msa_jax.data.dataset import Dataset, Split
from msa_jax.data.preprocess import Preprocess
from msa_jax.data.spec import MODALITIES, DatasetSpec

#: Padded steps of (text, audio, vision). Text's are those of its tokens; where utterances before a clip are
#: among them, the text itself ends at the longest clip's own.
Shape = tuple[int, int, int]
#: Batches of like shape that follow one another in an epoch, so that a chunk finds some to run at once.
#: Not the chunk's own size: the order must be the same whatever runs it. Eight is what a chunk holds on an
#: accelerator by default; more would make an epoch's batches come in fewer, longer blocks of like clips.
RUN = 8


class Step(NamedTuple):
    """One batch of an epoch.

    Attributes:
      shape: padded steps per modality.
      rows: int [n] of the split, at most the batch size.
    """

    shape: Shape
    rows: np.ndarray


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Up to S steps that share one padded shape and run as one program on the device.

    Attributes:
      shape: padded steps per modality.
      index: int32 [S, B] rows of the split; rows that only fill a batch or the chunk are 0.
      weight: float32 [S, B], 0 for those rows.
      steps: how many of the S steps hold clips.
    """

    shape: Shape
    index: np.ndarray
    weight: np.ndarray
    steps: int


def bucket_shapes(lengths: np.ndarray, count: int, batch_size: int) -> list[Shape]:
    """Picks the padded shapes that waste the fewest steps in batches of clips of like length.

    The shapes are nested (each at least as long as the one before in every modality), so a batch
    has one smallest shape that holds it.

    Args:
      lengths: int [N, 3] real steps of every clip, text, audio, vision.
      count: how many shapes at most.
      batch_size: B; a shape costs as many batches as it can fill.

    Returns:
      At most ``count`` shapes, shortest first; the last one holds every clip.
    """
    grid = np.linspace(0.05, 1.0, 20) if count > 1 else np.ones(1)
    candidates = np.unique(np.quantile(lengths, grid, axis=0, method="higher").astype(int), axis=0)
    candidates = np.maximum(candidates, 1)
    fits = (lengths[:, None, :] <= candidates[None]).all(-1)  # [N, candidates]
    held = fits.sum(0) // batch_size  # batches, of clips in the order of their shapes
    held[-1] = -(-len(lengths) // batch_size)
    cost = candidates.sum(1)
    # best[j]: fewest padded steps for the batches that candidate j holds, with j as the longest shape.
    best, chosen = held * cost, [[j] for j in range(len(candidates))]
    for _ in range(count - 1):
        for j in range(len(candidates) - 1, 0, -1):
            totals = [best[i] + (held[j] - held[i]) * cost[j] for i in range(j)]
            i = int(np.argmin(totals))
            if totals[i] < best[j]:
                best[j], chosen[j] = totals[i], [*chosen[i], j]
    return [_shape(candidates[j]) for j in chosen[-1]]


def _shape(row: np.ndarray) -> Shape:
    text, audio, vision = (int(x) for x in row)
    return text, audio, vision


def stored_shape(spec: DatasetSpec) -> Shape:
    """The steps that every clip is stored with."""
    text, audio, vision = (spec.modalities[m].length for m in MODALITIES)
    return text, audio, vision


def clip_lengths(split: Split, read: Shape | None = None) -> np.ndarray:
    """Real steps [N, 3] of every clip, text, audio, vision, at most the steps that are ``read``.

    Of text all tokens, those of utterances before the clip included, since the encoder reads them.
    """
    lengths = np.stack([split.lengths[m] for m in MODALITIES], axis=1)
    if split.tokens is not None:
        lengths[:, 0] += tokens_behind(np.asarray(split.tokens))
    return lengths if read is None else np.minimum(lengths, read)


class Plan:
    """Cuts one split into batches, epoch by epoch, and batches into chunks.

    Args:
      lengths: int [N, 3], see :func:`clip_lengths`; a clip's later steps may be cut off.
      shapes: the padded shapes, see :func:`bucket_shapes`.
      batch_size: B, rows of a batch.
      chunk_steps: S, steps of a chunk.
      row_multiple: batches are filled up to a multiple of this many rows (the devices).
    """

    def __init__(
        self,
        lengths: np.ndarray,
        shapes: list[Shape],
        batch_size: int,
        chunk_steps: int,
        row_multiple: int = 1,
    ):
        self.lengths, self.shapes = lengths, shapes
        self.batch_size, self.chunk_steps = batch_size, chunk_steps
        self.rows = -(-batch_size // row_multiple) * row_multiple

    def steps(self) -> int:
        """Batches of one epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def order(self, seed: int, epoch: int, group_by_length: bool) -> list[Step]:
        """The batches of a training epoch: every clip once, in an order drawn from seed and epoch.

        Batches are shuffled, laid in runs of at most :data:`RUN` of like shape, and the runs are shuffled.

        Args:
          seed: of the run.
          epoch: which epoch, from 0.
          group_by_length: whether a batch holds clips of like length. If not, clips meet at
            random and a batch takes the smallest shape that holds it.
        """
        rng = np.random.default_rng([seed, epoch])
        batches = self._batches(rng.permutation(len(self.lengths)), group_by_length)
        batches = [batches[i] for i in rng.permutation(len(batches))]
        runs = []
        for shape in self.shapes:
            alike = [batch for batch in batches if batch.shape == shape]
            runs += [alike[start : start + RUN] for start in range(0, len(alike), RUN)]
        return [batch for i in rng.permutation(len(runs)) for batch in runs[i]]

    def chunks(self, batches: list[Step]) -> list[Chunk]:
        """The batches in their order, neighbours of like shape put into chunks.

        Any part of an epoch will do: that a run stops and goes on inside a chunk changes no batch.
        """
        chunks, start = [], 0
        for end, batch in enumerate(batches, 1):
            last = end == len(batches) or batches[end].shape != batch.shape
            if last or end - start == self.chunk_steps:
                chunks.append(self._chunk(batch.shape, [b.rows for b in batches[start:end]]))
                start = end
        return chunks

    def epoch(self, seed: int, epoch: int, group_by_length: bool) -> list[Chunk]:
        """The chunks of a whole training epoch, see :meth:`order`."""
        return self.chunks(self.order(seed, epoch, group_by_length))

    def once(self) -> list[Chunk]:
        """The chunks that visit every clip once, for evaluation."""
        return self.chunks(self._batches(np.arange(len(self.lengths)), group_by_length=True))

    def _batches(self, order: np.ndarray, group_by_length: bool) -> list[Step]:
        """Cuts the clips into batches; only one of the epoch is short."""
        bucket = self._bucket_of(self.lengths[order])
        if group_by_length:
            # A stable sort: clips of a bucket keep their random order, and a bucket's rest joins
            # the first batch of the next one.
            order = order[np.argsort(bucket, kind="stable")]
        cut = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        return [Step(self.shapes[self._bucket_of(self.lengths[rows]).max()], rows) for rows in cut]

    def _bucket_of(self, lengths: np.ndarray) -> np.ndarray:
        fits = (lengths[:, None, :] <= np.array(self.shapes)[None]).all(-1)
        return fits.argmax(1)

    def _chunk(self, shape: Shape, rows: list[np.ndarray]) -> Chunk:
        index = np.zeros((self.chunk_steps, self.rows), np.int32)
        weight = np.zeros((self.chunk_steps, self.rows), np.float32)
        for step, r in enumerate(rows):
            index[step, : len(r)] = r
            weight[step, : len(r)] = 1
        return Chunk(shape, index, weight, len(rows))


class Table(flax.struct.PyTreeNode):
    """A split's arrays, ready for a device; the same fields as :class:`Batch`, with N rows."""

    values: Mapping[str, Any]
    lengths: Mapping[str, Any]
    labels: Mapping[str, Any]
    tokens: Any = None


class Source:
    """Feeds chunks of one split to jitted functions.

    Args:
      split: the clips.
      preprocess: applied to every clip.
      mesh: devices; rows of a batch are spread over its "data" axis.
      resident: keep the whole split on the device.
    """

    def __init__(self, split: Split, preprocess: Preprocess, mesh: Mesh, resident: bool):
        self.split, self.preprocess, self.mesh, self.resident = split, preprocess, mesh, resident
        self.table = self._upload() if resident else None

    def _upload(self) -> Table:
        split, everywhere = self.split, NamedSharding(self.mesh, P())
        values = {m: np.empty(split.values[m].shape, np.float32) for m in MODALITIES}
        for start in range(0, len(split), 256):  # block by block: one copy of the features, not four
            rows = slice(start, start + 256)
            for m in MODALITIES:
                raw = np.asarray(split.values[m][rows])
                values[m][rows] = self.preprocess(m, raw, split.lengths[m][rows])
        table = Table(values, dict(split.lengths), dict(split.labels), split.tokens)
        return jax.tree.map(lambda x: _place(np.asarray(x), everywhere), table)

    def _read(self, rows: np.ndarray, shape: Shape) -> Table:
        """Rows [n] of the split as preprocessed host arrays, cut or filled to ``shape``."""
        split, source = self.split, self.preprocess.tokens
        context = source is not None and source.context > 0
        lengths = {m: np.asarray(split.lengths[m][rows]) for m in MODALITIES}
        values = {
            m: self.preprocess(m, filled(split.values[m][rows, :steps], steps, axis=1), lengths[m])
            for m, steps in own_steps(shape, split.values["text"].shape[1], context).items()
        }
        tokens = None if split.tokens is None else filled(split.tokens[rows, :, : shape[0]], shape[0], axis=2)
        labels = {task: np.asarray(label[rows]) for task, label in split.labels.items()}
        return Table(values=values, lengths=lengths, labels=labels, tokens=tokens)

    def items(self, chunks: list[Chunk]) -> Iterator[tuple[Chunk, Any]]:
        """Yields each chunk with what :func:`batch_of` needs to make its batches.

        Streamed chunks are read by a thread, two chunks ahead of the device.
        """
        if self.resident:
            for chunk in chunks:
                yield chunk, self._rows(chunk)
        else:
            yield from _prefetch(chunks, lambda chunk: (chunk, (self._rows(chunk), self._stream(chunk))))

    def _rows(self, chunk: Chunk) -> tuple[jax.Array, jax.Array]:
        sharding = NamedSharding(self.mesh, P(None, "data"))
        return _place(chunk.index, sharding), _place(chunk.weight, sharding)

    def _stream(self, chunk: Chunk) -> Table:
        """The chunk's clips [S, B, ...]; a process reads only the rows of its own devices."""
        sharding = NamedSharding(self.mesh, P(None, "data"))
        steps, rows = chunk.index.shape
        mine: Any = sharding.addressable_devices_indices_map((steps, rows)).values()
        spans = sorted({part[1].indices(rows)[:2] for part in mine})
        low, high = spans[0][0], spans[-1][1]
        table = self._read(chunk.index[: chunk.steps, low:high].reshape(-1), chunk.shape)

        def place(x: np.ndarray) -> jax.Array:
            local = np.zeros((steps, high - low, *x.shape[1:]), x.dtype)
            local[: chunk.steps] = x.reshape(chunk.steps, high - low, *x.shape[1:])
            return jax.make_array_from_process_local_data(sharding, local, (steps, rows, *x.shape[1:]))

        return jax.tree.map(place, table)


def filled(array: np.ndarray, steps: int, axis: int) -> np.ndarray:
    """The array with zeros behind, so that an axis has at least so many steps."""
    more = steps - array.shape[axis]
    if more <= 0:
        return np.asarray(array)
    return np.pad(array, [(0, more if i == axis else 0) for i in range(array.ndim)])


def _place(x: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Puts an array that every process holds whole onto the mesh."""
    return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])


def batch_of(table: Table | None, item: Any, shape: Shape) -> Batch:
    """One step's batch, inside jit.

    Args:
      table: the resident split, or None where the item carries the clips.
      item: one step of what :meth:`Source.items` yields: (index [B], weight [B]), or that and
        a :class:`Table` of B rows.
      shape: padded steps per modality (static).
    """
    if table is None:
        (index, weight), clips = item
    else:
        index, weight = item
        text = table.values["text"].shape[1]
        steps = own_steps(shape, text, table.tokens is not None and table.tokens.shape[2] > text)
        clips = Table(
            values={m: _take_prefix(table.values[m], index, t) for m, t in steps.items()},
            lengths=jax.tree.map(lambda x: x[index], table.lengths),
            labels=jax.tree.map(lambda x: x[index], table.labels),
            tokens=None if table.tokens is None else table.tokens[index][:, :, : shape[0]],
        )
    mask = {m: jnp.arange(clips.values[m].shape[1])[None, :] < clips.lengths[m][:, None] for m in MODALITIES}
    return Batch(
        values=clips.values, mask=mask, labels=clips.labels, index=index, weight=weight, tokens=clips.tokens
    )


def own_steps(shape: Shape, text: int, context: bool) -> dict[str, int]:
    """Padded steps per modality as a model reads them.

    Args:
      shape: of the batch.
      text: steps of text that the split is stored with.
      context: whether utterances before the clips stand behind their own tokens; text itself then ends at
        the longest clip's own.
    """
    words, sound, faces = shape
    return dict(zip(MODALITIES, (min(words, text) if context else words, sound, faces), strict=True))


def _take_prefix(x: jax.Array, index: jax.Array, steps: int) -> jax.Array:
    """``x[index, :steps]`` as one gather that reads no step beyond ``steps``."""
    size = (1, steps, x.shape[2])
    return jax.vmap(lambda i: jax.lax.dynamic_slice(x, (i, 0, 0), size)[0])(index)


def _prefetch(chunks: list[Chunk], read: Callable[[Chunk], Any], ahead: int = 2) -> Iterator[Any]:
    """Yields ``read(chunk)`` in order, read by a thread that stays ``ahead`` chunks in front."""
    if len(chunks) == 1:  # nothing is in front, and a thread takes longer to start than a clip to score
        yield read(chunks[0])
        return
    ready: queue.Queue[Any] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(thing: Any) -> None:
        while not stop.is_set():
            try:
                return ready.put(thing, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for chunk in chunks:
                if stop.is_set():
                    return
                put(read(chunk))
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (thing := ready.get()) is not None:
            if isinstance(thing, BaseException):
                raise thing
            yield thing
    finally:
        stop.set()
        thread.join()


def fits_on_device(dataset: Dataset, mode: str, limit_gib: float) -> bool:
    """Whether the features are to live on the device: ``mode`` always | never | auto (by size)."""
    if mode != "auto":
        return mode == "always"
    size = sum(v.size * 4 for split in dataset.splits.values() for v in split.values.values())
    return size <= limit_gib * 2**30
