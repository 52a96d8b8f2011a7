from collections.abc import Iterable, Sequence
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_shift import dispatch
from keras_shift import ops as shift_ops
from keras_shift.former_names import with_new_names
from keras_shift.integers import positive_integer
from keras_shift.typing import Shape, Tensor

# A panel has this number of columns, as in the compiled op.
_PANEL = 16


@keras.saving.register_keras_serializable(package="keras_shift")
class FusedUnit2D(keras.layers.Layer):
    """Computes a unit of a trained shift network in one pass, for inference only.

    With the first `channels` channels of the input as `x`, the matrices `E` and `P`
    and the displacements `d`, it computes

    ```
    wide  = relu(x @ E + expand_bias)
    moved[n, i, j, c] = wide[n, i + d[0, c], j + d[1, c], c]
    y     = moved[:, ::strides[0], ::strides[1]] @ P + project_bias
    y     = relu(y) if output_relu
    y     = x + y if residual
    ```

    where `wide` is zero outside the image. With `pool_padding`, `moved` is the mean of
    2x2 pixels of `wide` instead, and with `global_pool` that of all pixels. The output
    is `y`, followed by the remaining channels of the input, which are unchanged.

    On TensorFlow, on machines without other devices than CPUs, a compiled op does
    this. In the op, the wide tensor never leaves the processor's cache, so that a
    shift costs next to nothing. Elsewhere, and under XLA, the layer computes with
    `keras.ops`. `keras_shift.deploy.fuse` makes models of such layers. Their
    SavedModels need the op, which `keras_shift.custom_ops.load()` registers.

    With `precision="bfloat16"`, both matrices are bfloat16, and `x`, `wide` and `moved`
    are rounded to it before they are multiplied. Input, output, biases and all sums
    stay float32. Processors with AVX512-BF16 multiply two channels at a time then.
    Others convert the same numbers to float32 as they read them, which takes longer
    than `precision="float32"`. Results differ between processors as sums do that are
    taken in another order; where that rounds a number of `wide` the other way, by its
    last bit. AVX512-BF16 takes subnormal numbers for zero, and XLA may leave
    roundings out.

    The weights hold each matrix as the op reads it: in panels of 16 columns, with
    the bias in the first row. `panels[p, 0, j]` is the bias of column `16 * p + j`,
    and `panels[p, 1 + i, j]` is row `i` of that column. The last panel is filled up
    with columns of zeros. In bfloat16, rows are in pairs: `panels[p, 1 + i, 2 * j + k]`
    is row `2 * i + k`, zero beyond an odd number of rows, and the bias is the sum of
    `panels[p, 0, 2 * j]` and `panels[p, 0, 2 * j + 1]`.

    Example:

    >>> x = np.random.rand(1, 14, 14, 24).astype("float32")
    >>> layer = keras_shift.layers.FusedUnit2D(filters=24, wide_channels=144)
    >>> y = layer(x)
    >>> print(y.shape)
    (1, 14, 14, 24)

    Args:
        filters: Int, the number of channels that the layer computes.
        wide_channels: Int, the number of channels between the two matrices.
        channels: Int, the number of input channels that the layer reads, or `None`
            for all of them. Defaults to `None`.
        strides: Int, or a pair of ints, the strides of the second matrix. Defaults to
            `(1, 1)`.
        pool_padding: `"valid"` or `"same"` for 2x2 average pooling with this padding in
            place of the shift, or `None` for the shift. Defaults to `None`.
        global_pool: Boolean, whether the mean over all pixels takes the place of the
            shift, so that the output has a height and a width of 1. Defaults to
            `False`.
        output_relu: Boolean, whether a ReLU follows the second matrix. Defaults to
            `False`.
        residual: Boolean, whether `x` is added at the end. Defaults to `False`.
        precision: `"float32"` or `"bfloat16"`, what is multiplied. Defaults to
            `"float32"`.

    Input shape:
        4D tensor with shape `(batch_size, height, width, input_channels)`.

    Output shape:
        4D tensor with shape
        `(batch_size, new_height, new_width, filters + input_channels - channels)`.

    Raises:
        ValueError: If an argument is invalid or does not fit the others or the
            input, or if the layer is called with `training=True`.
    """

    def __init__(
        self,
        filters: int,
        wide_channels: int,
        channels: int | None = None,
        strides: int | Sequence[int] = (1, 1),
        pool_padding: Literal["valid", "same"] | None = None,
        output_relu: bool = False,
        residual: bool = False,
        precision: Literal["float32", "bfloat16"] = "float32",
        global_pool: bool = False,
        **kwargs: Any,
    ) -> None:
        # Images are float32 only, so the global dtype policy is ignored.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if self.compute_dtype != "float32":
            raise ValueError(
                "FusedUnit2D computes in float32 only, but for what `precision` "
                f"rounds. Received: dtype={self.dtype_policy.name}"
            )
        if precision not in ("float32", "bfloat16"):
            raise ValueError(
                'Argument `precision` must be "float32" or "bfloat16". '
                f"Received: precision={precision}"
            )
        if pool_padding not in (None, "valid", "same"):
            raise ValueError(
                'Argument `pool_padding` must be "valid", "same" or None. '
                f"Received: pool_padding={pool_padding}"
            )
        self.filters = positive_integer("filters", filters)
        self.wide_channels = positive_integer("wide_channels", wide_channels)
        self.channels = (
            None if channels is None else positive_integer("channels", channels)
        )
        self.strides = _pair(strides, "strides")
        self.pool_padding = pool_padding
        self.output_relu = bool(output_relu)
        self.residual = bool(residual)
        self.precision = precision
        self.global_pool = bool(global_pool)
        if self.global_pool and (self.strides != (1, 1) or pool_padding is not None):
            raise ValueError(
                "With global_pool=True there must be no strides and no pool_padding. "
                f"Received: strides={self.strides}, pool_padding={pool_padding}"
            )
        self.input_spec = keras.layers.InputSpec(ndim=4)
        if keras.backend.backend() == "tensorflow":
            # XLA cannot compile the op. Where it is asked for nevertheless, `call`
            # computes with `keras.ops`.
            self.supports_jit = False

    def build(self, input_shape: Shape) -> None:
        self.set_channels(input_shape)
        expand, project, displacements = self.weight_shapes()
        self.expand_panels = self._panels("expand_panels", expand)
        self.project_panels = self._panels("project_panels", project)
        self.displacements = self.add_weight(
            name="displacements",
            shape=displacements,
            dtype="int32",
            initializer="zeros",
            trainable=False,
        )

    def set_channels(self, input_shape: Shape) -> None:
        """Checks that the layer fits an input, and fixes the number of its channels.

        Args:
            input_shape: Shape of the input.
        """
        image_channels = input_shape[-1]
        channels = image_channels if self.channels is None else self.channels
        if image_channels is None or image_channels < channels:
            raise ValueError(
                f"Argument `channels` is {channels}, so images must have that many "
                f"at least. Received: input_shape={tuple(input_shape)}"
            )
        in_place = self.strides == (1, 1) and self._pooling() == "none"
        if self.residual and not (in_place and channels == self.filters):
            raise ValueError(
                "With residual=True, the unit's output must have the shape of what "
                f"it reads. Received: channels={channels}, filters={self.filters}, "
                f"strides={self.strides}, pool_padding={self.pool_padding}, "
                f"global_pool={self.global_pool}"
            )
        if image_channels > channels and not in_place:
            raise ValueError(
                "Channels can pass by only where the image keeps its size. "
                f"Received: channels={channels}, input_shape={tuple(input_shape)}, "
                f"strides={self.strides}, pool_padding={self.pool_padding}, "
                f"global_pool={self.global_pool}"
            )
        self.channels = channels
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: image_channels})

    def weight_shapes(self) -> tuple[Shape, Shape, Shape]:
        """Returns the shapes of all weights, after `set_channels`.

        They are `expand_panels`, `project_panels` and `displacements`.
        """
        return (
            self._panel_shape(self.channels, self.wide_channels),
            self._panel_shape(self.wide_channels, self.filters),
            (2, self.wide_channels),
        )

    def arguments(self) -> dict[str, Any]:
        """Returns the layer's own arguments, but for `precision`."""
        return {
            "filters": self.filters,
            "wide_channels": self.wide_channels,
            "channels": self.channels,
            "strides": self.strides,
            "pool_padding": self.pool_padding,
            "output_relu": self.output_relu,
            "residual": self.residual,
            "global_pool": self.global_pool,
        }

    def options(self) -> dict[str, Any]:
        """Returns what the compiled op is told besides the weights."""
        return {
            "channels": self.channels,
            "filters": self.filters,
            "strides": self.strides,
            "pooling": self._pooling(),
            "output_relu": self.output_relu,
            "residual": self.residual,
        }

    def _pooling(self):
        return "global" if self.global_pool else self.pool_padding or "none"

    def _panel_shape(self, rows, columns):
        pairs = self.precision == "bfloat16"
        rows, width = (-(-rows // 2), 2 * _PANEL) if pairs else (rows, _PANEL)
        return (-(-columns // _PANEL), 1 + rows, width)

    def _panels(self, name, shape):
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=self.precision,
            autocast=False,
            initializer="zeros",
            trainable=False,
        )

    def set_matrices(
        self,
        expand_kernel: npt.ArrayLike,
        expand_bias: npt.ArrayLike,
        project_kernel: npt.ArrayLike,
        project_bias: npt.ArrayLike,
        displacements: npt.ArrayLike | None = None,
    ) -> None:
        """Sets the weights of the layer, which must be built.

        Args:
            expand_kernel: Array of shape `(channels, wide_channels)`.
            expand_bias: Array of shape `(wide_channels,)`.
            project_kernel: Array of shape `(wide_channels, filters)`.
            project_bias: Array of shape `(filters,)`.
            displacements: Whole numbers of shape `(2, wide_channels)`, in pixels,
                or `None` for no shift. The layer is fastest if channels with equal
                displacements stand side by side. Defaults to `None`.
        """
        if displacements is None:
            displacements = np.zeros((2, self.wide_channels), "int32")
        packed = _packed_pairs if self.precision == "bfloat16" else _packed
        self.set_weights(
            [
                packed(expand_kernel, expand_bias),
                packed(project_kernel, project_bias),
                displacements,
            ]
        )

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if training:
            raise ValueError(
                "FusedUnit2D is for inference. Train the model that it was made of, "
                "and call keras_shift.deploy.fuse again. Received: training=True"
            )
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        kernels = dispatch.choose(dtype, in_graph=True).kernels
        if kernels is not None:
            return kernels.fused_unit(
                inputs,
                self.expand_panels,
                self.project_panels,
                self.displacements,
                **self.options(),
                output_shape=self.compute_output_shape(inputs.shape),
            )
        return self.compute(
            inputs, self.expand_panels, self.project_panels, self.displacements
        )

    def compute(
        self,
        inputs: Tensor,
        expand_panels: Tensor,
        project_panels: Tensor,
        displacements: Tensor,
    ) -> Tensor:
        """Returns the layer's output with these weights, by `keras.ops`.

        Args:
            inputs: A tensor of images.
            expand_panels: What takes the place of the weight of this name.
            project_panels: What takes the place of the weight of this name.
            displacements: What takes the place of the weight of this name.
        """
        x = inputs[..., : self.channels]
        wide = ops.relu(
            self._product(x, expand_panels, self.channels, self.wide_channels)
        )
        if self.precision == "bfloat16":
            wide = _rounded(wide)
        if self.global_pool:
            wide = ops.mean(wide, axis=(1, 2), keepdims=True)
        elif self.pool_padding is None:
            displacements = ops.cast(displacements, "float32")
            wide = shift_ops.shift(
                wide, displacements, data_format="channels_last", native=False
            )
        else:
            wide = ops.average_pool(
                wide,
                (2, 2),
                (2, 2),
                padding=self.pool_padding,
                data_format="channels_last",
            )
        wide = wide[:, :: self.strides[0], :: self.strides[1]]
        y = self._product(wide, project_panels, self.wide_channels, self.filters)
        y = ops.relu(y) if self.output_relu else y
        y = x + y if self.residual else y
        if self.channels == inputs.shape[-1]:
            return y
        return ops.concatenate([y, inputs[..., self.channels :]], axis=-1)

    def _product(self, x, panels, rows, columns):
        """Returns `x @ kernel + bias` for a kernel and a bias in panels."""
        if self.precision == "float32":
            of_kernel = ops.transpose(panels, (1, 0, 2))
            of_kernel = ops.reshape(of_kernel, (1 + rows, -1))
            return ops.matmul(x, of_kernel[1:, :columns]) + of_kernel[0, :columns]
        pairs = ops.reshape(ops.cast(panels, "float32"), (*panels.shape[:2], _PANEL, 2))
        pairs = ops.transpose(pairs, (1, 3, 0, 2))
        pairs = ops.reshape(pairs, (2 * panels.shape[1], -1))[:, :columns]
        return ops.matmul(_rounded(x), pairs[2 : 2 + rows]) + (pairs[0] + pairs[1])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch_size, height, width, image_channels = input_shape
        channels = image_channels if self.channels is None else self.channels
        size = []
        for pixels, stride in zip((height, width), self.strides):
            if pixels is not None:
                if self.pool_padding is not None:
                    pixels = (pixels + (self.pool_padding == "same")) // 2
                pixels = -(-pixels // stride)
            size.append(1 if self.global_pool else pixels)
        return (batch_size, *size, self.filters + image_channels - channels)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **self.arguments(),
            "precision": self.precision,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FusedUnit2D":
        new_names = {"pool": "pool_padding", "relu": "output_relu"}
        return super().from_config(with_new_names(config, new_names))


def _packed(kernel: npt.ArrayLike, bias: npt.ArrayLike) -> np.ndarray:
    """Returns a kernel and its bias in panels."""
    rows = np.concatenate([np.asarray(bias)[None], np.asarray(kernel)])
    missing = -rows.shape[1] % _PANEL
    rows = np.pad(rows, [(0, 0), (0, missing)])
    return rows.reshape(len(rows), -1, _PANEL).transpose(1, 0, 2)


def _packed_pairs(kernel: npt.ArrayLike, bias: npt.ArrayLike) -> np.ndarray:
    """Returns a kernel and its bias in panels of pairs, not yet rounded."""
    kernel, bias = np.asarray(kernel), np.asarray(bias)
    kernel = np.pad(kernel, [(0, len(kernel) % 2), (0, 0)])
    coarse = ops.convert_to_numpy(_rounded(ops.convert_to_tensor(bias, "float32")))
    panels = _packed(np.concatenate([[bias - coarse], kernel]), coarse)
    panels = panels.reshape(len(panels), -1, 2, _PANEL).swapaxes(2, 3)
    return panels.reshape(*panels.shape[:2], 2 * _PANEL)


def _rounded(x):
    """Returns numbers of float32 that bfloat16 has."""
    return ops.cast(ops.cast(x, "bfloat16"), "float32")


def _pair(value: int | Sequence[int], name: str) -> tuple[int, ...]:
    numbers = tuple(value) if isinstance(value, Iterable) else (value, value)
    if len(numbers) != 2:
        raise ValueError(
            f"Argument `{name}` must be one or two integers. Received: {name}={value}"
        )
    return tuple(positive_integer(name, number) for number in numbers)
