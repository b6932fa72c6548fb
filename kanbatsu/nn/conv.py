"""A convolution whose kernel may be pruned like any other."""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kanbatsu.nn.layers import Initializer
from kanbatsu.sparsity.weight import Masked, affine, to_dense
from kanbatsu.types import Key


class Conv(eqx.Module):
    """A convolution of images `[..., height, width, channels]`, without padding.

    It multiplies the image's patches by the kernel laid out flat. Of runs side by side, each with a
    kernel of its own, that is one batched product; XLA's own convolution (`direct`) would be a
    grouped one, which is slower on a CPU. Of one run alone XLA's is the faster one where images are
    large, and it does not store their patches.

    Args:
        channels: Channels of the image.
        outputs: Channels of the result.
        window: Height and width of the kernel.
        stride: Pixels between two patches, in both directions.
        direct: Whether XLA's own convolution is called.
        initializer: Called with a key, a shape and a type.
        key: Draws the kernel.

    Example:
        >>> import jax
        >>> conv = Conv(4, 16, jax.nn.initializers.he_normal(), key=jax.random.key(0))
        >>> conv(jnp.ones((5, 10, 10, 4))).shape
        (5, 8, 8, 16)
    """

    kernel: ClassVar[str] = "weight"
    """The field that pruning may thin out, stored as [height, width, inputs, outputs]."""

    weight: Float[Array, "rows columns inputs outputs"] | Masked
    bias: Float[Array, " outputs"]
    stride: int = eqx.field(static=True)
    direct: bool = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        outputs: int,
        initializer: Initializer,
        *,
        window: int = 3,
        stride: int = 1,
        direct: bool = False,
        key: Key,
    ):
        self.weight = initializer(key, (window, window, channels, outputs), jnp.float32)
        self.bias = jnp.zeros(outputs)
        self.stride, self.direct = stride, direct

    def __call__(
        self, x: Float[Array, "*batch height width inputs"]
    ) -> Float[Array, "*batch rows columns outputs"]:
        """Convolve images."""
        if self.direct:
            return self._convolved(x)
        flat = to_dense(self.weight).reshape(-1, self.bias.shape[-1])
        return affine(self.patches(x), flat, self.bias)

    def patches(self, x: Array) -> Array:
        """Lay the pixels under the kernel along the last axis, at each of its places."""
        window = self.weight.shape[0]
        height, width = (size - window + 1 for size in x.shape[-3:-1])
        shifted = [
            x[..., row : row + height : self.stride, column : column + width : self.stride, :]
            for row in range(window)
            for column in range(window)
        ]
        return jnp.concatenate(shifted, axis=-1)

    def _convolved(self, x: Array) -> Array:
        """Convolve by XLA's own convolution."""
        images = x.reshape(-1, *x.shape[-3:])
        y = jax.lax.conv_general_dilated(
            images,
            to_dense(self.weight),
            window_strides=(self.stride, self.stride),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return (y + self.bias).reshape(*x.shape[:-3], *y.shape[1:])
