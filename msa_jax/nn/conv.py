"""Convolutions over masked sequences, and the way back from their coarser steps to the input's.

With the usual 'SAME' rule a stride of 2 aligns windows differently for even and odd T, so a clip's
features would depend on how far its batch happens to be padded. Here the windows are fixed by the
clip's first step, whatever T is.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.nn.initializers import fan_in_uniform, symmetric_uniform


def _left_padding(kernel_size: int, padding: str) -> int:
    return (kernel_size - 1) // 2 if padding == "same" else 0


def conv_mask(mask: jax.Array, kernel_size: int, stride: int, padding: str) -> jax.Array:
    """The real steps after a convolution, [B, T] to [B, T'].

    L real steps give ceil(L / stride) with padding "same", and with "valid" (only windows inside
    the clip) ceil(max(L - K + 1, 1) / stride): a clip that is shorter than the kernel keeps one
    step. A clip of length 0 stays one.
    """
    if padding == "valid":
        mask = jnp.concatenate([mask[:, :1], mask[:, kernel_size:]], axis=1)
    return mask[:, ::stride]


class MaskedConv1D(nn.Module):
    """Convolution over time that sees zeros where a clip has no step.

    Attributes:
      features: F, output width.
      kernel_size: K, in steps.
      stride: steps between windows. With padding "same" and odd K, output step j is centred on
        input step j * stride.
      padding: "same" (windows reach past both ends of the clip) or "valid" (they do not, except
        that a clip shorter than the kernel is filled up with zeros).
      use_bias: whether a bias is added.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: str = "same"
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Convolves x [B, T, D] under mask [B, T].

        Returns:
          [B, T', F], zero past a clip's end, and the mask [B, T'] of its real steps.
        """
        if self.padding == "valid" and not isinstance(x.shape[1], int):
            # A program that is exported for any T: filled up, every clip is as long as the kernel.
            x, mask = (
                jnp.pad(y, [(0, 0), (0, self.kernel_size)] + [(0, 0)] * (y.ndim - 2)) for y in (x, mask)
            )
        steps, width = x.shape[1:]
        kernel = self.param("kernel", fan_in_uniform, (self.kernel_size, width, self.features))
        left = _left_padding(self.kernel_size, self.padding)
        right = self.kernel_size // 2 if self.padding == "same" else max(self.kernel_size - steps, 0)
        y = jax.lax.conv_general_dilated(
            jnp.where(mask[..., None], x, 0),
            kernel,
            window_strides=(self.stride,),
            padding=[(left, right)],
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        if self.use_bias:
            bound = (self.kernel_size * width) ** -0.5
            bias = self.param("bias", symmetric_uniform(bound), (self.features,))
            y = y + jnp.broadcast_to(bias, y.shape)
        mask = conv_mask(mask, self.kernel_size, self.stride, self.padding)
        return jnp.where(mask[..., None], y, 0), mask


def window_centre(kernel_size: int, stride: int, padding: str, layers: int = 1) -> tuple[int, float]:
    """Where the windows of a stack of equal convolutions lie on its input.

    Returns:
      (scale, offset): step j of the last layer is centred on input step ``scale * j + offset``.
    """
    inner = (kernel_size - 1) / 2 - _left_padding(kernel_size, padding)
    return stride**layers, inner * sum(stride**layer for layer in range(layers))


def upsample(
    x: jax.Array, mask: jax.Array, length: int, scale: int, offset: float = 0.0, method: str = "linear"
) -> jax.Array:
    """Brings coarse steps back to ``length`` fine ones, [B, T', D] to [B, length, D].

    Fine step t reads the position p = (t - offset) / scale among the coarse steps, held within a
    clip's own first and last real one. The ``scale`` fine steps of a coarse one always lie at the
    same fractions between the same neighbours, so this is two or three weighted sums of shifted
    copies, with no gathering.

    Args:
      x: coarse steps; what lies past a clip's end is not read.
      mask: [B, T'], the clip's real coarse steps.
      length: T, number of fine steps.
      scale: fine steps per coarse step.
      offset: the fine step on which coarse step 0 is centred.
      method: "linear" (between the two neighbours) or "nearest" (ties to the later one).
    """
    groups = (length + scale - 1) // scale
    positions = [(step - offset) / scale for step in range(scale)]
    if method == "nearest":
        positions = [math.floor(p + 0.5) for p in positions]
    first, last = math.floor(positions[0]), math.ceil(positions[-1])
    before = max(-first, 0)
    x = _hold_ends(x, mask, before, after=max(last + groups - x.shape[1], 0))

    def share(shift: int) -> jax.Array:  # of neighbour `shift` in each of the fine steps
        near = jnp.array([max(0.0, 1 - abs(p - shift)) for p in positions], x.dtype)
        neighbour = x[:, before + shift : before + shift + groups]
        return neighbour[:, :, None] * near[None, None, :, None]

    fine = functools.reduce(jnp.add, map(share, range(first, last + 1)))  # [B, groups, scale, D]
    return fine.reshape(x.shape[0], groups * scale, -1)[:, :length]


def _hold_ends(x: jax.Array, mask: jax.Array, before: int, after: int) -> jax.Array:
    """Repeats a clip's first real step in front and its last one over all padding."""
    is_last = mask & ~jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
    last = jnp.sum(jnp.where(is_last[..., None], x, 0), axis=1, keepdims=True)
    x = jnp.where(mask[..., None], x, jnp.broadcast_to(last, x.shape))
    batch, _, width = x.shape
    front = jnp.broadcast_to(x[:, :1], (batch, before, width))
    return jnp.concatenate([front, x, jnp.broadcast_to(last, (batch, after, width))], axis=1)
