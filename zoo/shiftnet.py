"""Defines ShiftNet-A, B and C of "Shift: A Zero FLOP, Zero Parameter Alternative"."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Literal

import keras

from keras_shift.typing import Tensor
from keras_shift.zoo import arguments, blocks, network

WIRINGS = ("concatenate", "plain")
MODULES = ("csc", "sc2")


@dataclasses.dataclass(frozen=True)
class _Architecture:
    """Describes one of the three networks.

    Attributes:
        stem_filters: Number of filters of the first convolution.
        groups: Tuple for each group with its number of channels, its kernel size, the
            expansion of its first module, which halves the map, the expansion of the
            other modules, and the number of the other modules.
        wiring: How the first module of a group halves the map, one of `WIRINGS`.
    """

    stem_filters: int
    groups: tuple[tuple[int, int, int, int, int], ...]
    wiring: Literal["concatenate", "plain"]


_ARCHITECTURES = {
    "ShiftNetA": _Architecture(
        stem_filters=32,
        groups=(
            (64, 5, 4, 4, 4),
            (128, 5, 4, 3, 5),
            (256, 3, 3, 2, 6),
            (512, 3, 2, 1, 2),
        ),
        wiring="concatenate",
    ),
    "ShiftNetB": _Architecture(
        stem_filters=16,
        groups=(
            (32, 5, 4, 4, 4),
            (64, 5, 4, 3, 5),
            (128, 3, 3, 2, 6),
            (256, 3, 2, 1, 2),
        ),
        wiring="concatenate",
    ),
    "ShiftNetC": _Architecture(
        stem_filters=32,
        groups=(
            (32, 3, 1, 1, 0),
            (64, 3, 1, 1, 3),
            (128, 3, 1, 1, 3),
            (256, 3, 1, 1, 2),
        ),
        wiring="plain",
    ),
}


def _constructor(constructor_name):
    architecture = _ARCHITECTURES[constructor_name]

    @network.constructor(constructor_name)
    def ShiftNet(
        input_shape: Sequence[int | None] | None = None,
        alpha: float = 1.0,
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: keras.KerasTensor | None = None,
        pooling: Literal["avg", "max"] | None = None,
        classes: int | None = None,
        classifier_activation: str | Callable[[Tensor], Tensor] | None = "softmax",
        name: str | None = None,
        *,
        include_preprocessing: bool = True,
        spatial: Literal[
            "sparse_shift", "grouped_shift", "active_shift", "depthwise", "none"
        ] = "grouped_shift",
        module: Literal["csc", "sc2"] = "csc",
        wiring: Literal["concatenate", "plain"] = architecture.wiring,
        stem_filters: int | None = None,
        displacement_initializer: str | keras.initializers.Initializer = "grouped",
        displacement_regularizer: str | keras.regularizers.Regularizer | None = None,
        max_displacement: int | None = 2,
        kernel_initializer: str | keras.initializers.Initializer = "he_normal",
        kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
        batch_norm_momentum: float = 0.99,
    ) -> network.Body:
        """Instantiates <name>, a network of CSC modules with grouped shifts.

        ShiftNet-A is the network of Table 6 of the ShiftNet paper. B has half as many
        channels, also in the first convolution. C is the small and shallow network of
        the paper's Section 3.2.

        The models expect images with pixel values in [0, 255]; preprocessing is
        part of them.

        Example:

        >>> model = keras_shift.zoo.<name>((64, 64, 3), classes=10)
        >>> model.compile("sgd", "sparse_categorical_crossentropy")

        Args:
            <input_shape>
            alpha: Float, the width, which scales the number of channels of all
                layers but the classifier. Defaults to `1.0`.
            <top>
            spatial: What exchanges information between pixels:
                `"grouped_shift"` (the paper's), `"sparse_shift"`,
                `"active_shift"`, `"depthwise"` or `"none"`. Defaults to
                `"grouped_shift"`.
            module: `"csc"` (convolution, shift, convolution) or `"sc2"`, which
                also shifts before its first convolution (Fig. 3). Defaults to
                `"csc"`.
            wiring: How the first module of a group halves the map.
                `"concatenate"` computes only the additional channels and keeps
                the average-pooled input beside them (Fig. 3). `"plain"` computes
                all channels. Defaults to `"concatenate"` for A and B, and to
                `"plain"` for C.
            stem_filters: Int, number of filters of the first convolution, which
                `alpha` scales. Defaults to `None`: 32 for A and C, and 16 for B.
            <displacements>
            <kernels>

        Returns:
            A `keras.Model`, flat (not nested), without compilation.

        Raises:
            ValueError: If an argument is none of the above.

        References:

        - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
            https://arxiv.org/abs/1711.08141)
        """
        arguments.check_positive("alpha", alpha)
        arguments.check_choice("module", module, MODULES)
        arguments.check_choice("wiring", wiring, WIRINGS)
        if stem_filters is None:
            stem_filters = architecture.stem_filters
        arguments.check_positive("stem_filters", stem_filters)
        style = blocks.BlockStyle(
            spatial=spatial,
            displacement_initializer=displacement_initializer,
            displacement_regularizer=displacement_regularizer,
            max_displacement=max_displacement,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            batch_norm_momentum=batch_norm_momentum,
        )

        def body(x):
            x = blocks.bare_convolution(
                x, _width(stem_filters, alpha), 7, style, "stem", strides=2
            )
            for index, group in enumerate(architecture.groups):
                filters, kernel_size, reducing, expansion, repeats = group
                for module_index in range(1 + repeats):
                    x = _module(
                        x,
                        _width(filters, alpha),
                        reducing if module_index == 0 else expansion,
                        style,
                        f"group{index + 1}_module{module_index + 1}",
                        wiring=None if module_index else wiring,
                        kernel_size=kernel_size,
                        shift_twice=module == "sc2",
                    )
            return blocks.normalized_relu(x, style, "final")

        return network.Body(f"shiftnet_{constructor_name[-1].lower()}", body)

    return ShiftNet


def _module(x, filters, expansion, style, name, *, wiring, **options):
    """Applies a CSC or SC2 module with its shortcut.

    It keeps the size of the map if `wiring` is `None`.
    """
    channels = x.shape[blocks.channel_axis()]
    options["preactivation"] = True
    if wiring is None:
        y = blocks.conv_shift_conv(
            x, filters, expansion * filters, style, name, **options
        )
        return keras.layers.Add(name=f"{name}_add")([x, y])
    if wiring == "plain" or filters <= channels:
        return blocks.conv_shift_conv(
            x, filters, expansion * filters, style, name, strides=2, **options
        )
    y = blocks.conv_shift_conv(
        x, filters - channels, expansion * channels, style, name, strides=2, **options
    )
    pooled = blocks.average_pool(x, f"{name}_pool")
    return keras.layers.Concatenate(
        axis=blocks.channel_axis(), name=f"{name}_concatenate"
    )([y, pooled])


def _width(filters, alpha):
    return max(1, round(filters * alpha))


ShiftNetA = _constructor("ShiftNetA")
ShiftNetB = _constructor("ShiftNetB")
ShiftNetC = _constructor("ShiftNetC")
