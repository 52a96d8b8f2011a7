"""What the channels of a shift layer are good for (ShiftNet paper, section 4)."""

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_shift.analysis import drawing
from keras_shift.analysis.activations import (
    Correlation,
    channel_axis,
    image_batches,
    layer_of,
    maps_of,
    pixels_of,
    probe_layer,
)
from keras_shift.graph import Graph
from keras_shift.layers import SqueezeExcite2D
from keras_shift.layers.shift_layer import ShiftLayer
from keras_shift.rewriting import is_its_graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A matrix has this side in a cell of the grid, whose side is 1.
_MATRIX_SIDE = 0.78

# The colours of contributions reach at least so far to either side of the average.
_LEAST_RANGE = 0.2

# These layers let every channel through on its own, without a kernel.
_APART = (keras.layers.Activation, keras.layers.ReLU, SqueezeExcite2D)


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelCorrelation:
    """Holds how the channels of a shift layer correlate that have one displacement.

    Attributes:
        name: Name of the layer.
        channels: Dict from displacements `(dy, dx)` in pixels to arrays of the indices
            of the channels that have it, most frequent first.
        matrices: Dict from displacements to arrays of shape `(count, count)`, the
            correlations of these channels, from -1 to 1. It is NaN for a channel that
            never changes.
        images: Number of images from which they were estimated.
    """

    name: str
    channels: dict[tuple[int, int], np.ndarray]
    matrices: dict[tuple[int, int], np.ndarray]
    images: int

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the matrices on the grid of displacements.

        Args:
            ax: Matplotlib axes to draw into, or `None` for those of a new figure.
                Defaults to `None`.

        Returns:
            The Matplotlib axes. A bar beside them has the colours.
        """
        reach, beyond = _reach(self.channels)
        ax = drawing.one_axes(ax, 7, 6)
        diverging = drawing.pyplot().get_cmap("RdBu_r").with_extremes(bad=drawing.GREY)
        half = _MATRIX_SIDE / 2
        colours = None
        for (dy, dx), matrix in self.matrices.items():
            if max(abs(dy), abs(dx)) > reach:
                continue
            ax.text(
                dx,
                dy + 0.47,
                _number(len(matrix), reach),
                ha="center",
                va="bottom",
                fontsize="xx-small" if reach > 1 else "x-small",
            )
            # One channel correlates with nothing but itself.
            if len(matrix) == 1:
                continue
            # There is room for the text below the matrix.
            extent = (dx - half, dx + half, dy - 0.06 + half, dy - 0.06 - half)
            colours = ax.imshow(
                # Where a channel never changes, grey is seen.
                np.ma.masked_invalid(matrix),
                cmap=diverging,
                vmin=-1,
                vmax=1,
                extent=extent,
                interpolation="nearest" if len(matrix) < 64 else "antialiased",
            )
        # Images set the limits anew.
        drawing.displacement_grid(ax, reach)
        if colours is not None:
            ax.figure.colorbar(
                colours, ax=ax, shrink=0.8, label="correlation of two channels"
            )
        ax.set_title(
            f"{self.name}: channels of one displacement, {self.images:,} images"
            + (f"\n{beyond:,} channels beyond the grid" if beyond else ""),
            fontsize="medium",
        )
        return ax


def channel_correlation(
    model: keras.Model,
    layer: str | keras.layers.Layer,
    data: ArrayLike | Iterable[Any] | keras.utils.PyDataset,
) -> ChannelCorrelation:
    """Computes how the channels correlate that a layer shifts alike.

    Channels with one displacement that correlate are redundant: one of them could go.
    The correlation is Pearson's, over all pixels of all images, of the values that the
    layer shifts. (Shifting them all alike would only bring zeros in at the border.) A
    ReLU that is part of the layer comes before.

    Example:

    >>> found = keras_shift.analysis.channel_correlation(model, "unit1_shift", images)
    >>> found.matrices[0, 1].shape == 2 * found.channels[0, 1].shape
    True

    Args:
        model: A functional or sequential `keras.Model` with one input, of known size.
        layer: A shift layer of the model that shifts by whole pixels, or its name.
        data: Array of images, or an iterable of images, of batches of them or of tuples
            `(images, labels)`, such as a `tf.data.Dataset`: validation images, on which
            the model was not trained.

    Returns:
        A `ChannelCorrelation`, which `plot` draws.

    Raises:
        ValueError: If the model or the layer is none of these, or the images do not
            fit.

    References:

    - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
        https://arxiv.org/abs/1711.08141), Section 4.1 and Fig. 8
    """
    shift = _shift_of(model, layer)
    probed = probe_layer(model, shift, "input")
    groups = _groups(shift)
    correlations = {pair: Correlation(len(group)) for pair, group in groups.items()}
    count = 0
    for images in image_batches(model, data):
        (maps,) = maps_of(probed, images)
        values = pixels_of(maps, channel_axis(shift))
        if shift.input_relu:
            values = np.maximum(values, 0)
        for pair, group in groups.items():
            correlations[pair].add(values[:, group])
        count += len(images)
    matrices = {pair: one.matrix() for pair, one in correlations.items()}
    return ChannelCorrelation(shift.name, groups, matrices, count)


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelContribution:
    """Holds how much the channels of a shift layer contribute to what follows.

    Attributes:
        name: Name of the layer.
        kernel: Name of the 1x1 convolution behind it.
        contributions: Array of shape `(channels,)`, the norm of each channel's row of
            the kernel, as a share of the sum of all norms.
        channels: Dict from displacements `(dy, dx)` in pixels to arrays of the indices
            of the channels that have it, most frequent first.
        by_displacement: Dict from displacements to the sum of their channels'
            contributions.
        relative: Dict from displacements to the mean contribution of their channels,
            divided by that of all channels: 1 is average.
    """

    name: str
    kernel: str
    contributions: np.ndarray
    channels: dict[tuple[int, int], np.ndarray]

    @property
    def by_displacement(self) -> dict[tuple[int, int], float]:
        """Sum of the contributions by displacement."""
        return {
            pair: float(self.contributions[group].sum())
            for pair, group in self.channels.items()
        }

    @property
    def relative(self) -> dict[tuple[int, int], float]:
        """Mean contribution of a channel by displacement, divided by that of all."""
        mean = self.contributions.mean()
        return {
            pair: float(self.contributions[group].mean() / mean)
            for pair, group in self.channels.items()
        }

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws the contribution of an average channel for every displacement.

        Below it stands the share that all channels of the displacement have, and their
        number.

        Args:
            ax: Matplotlib axes to draw into, or `None` for those of a new figure.
                Defaults to `None`.

        Returns:
            The Matplotlib axes. A bar beside them has the colours.
        """
        reach, beyond = _reach(self.channels)
        grid = np.full((2 * reach + 1, 2 * reach + 1), np.nan)
        for (dy, dx), value in self.relative.items():
            if max(abs(dy), abs(dx)) <= reach:
                grid[reach + dy, reach + dx] = value
        ax = drawing.one_axes(ax, 6, 5.2)
        edge = reach + 0.5
        # Differences that are smaller than the least range look as small as they are.
        most = max(np.nanmax(np.abs(grid - 1)), _LEAST_RANGE)
        colours = ax.imshow(
            grid,
            cmap="PuOr_r",
            vmin=1 - most,
            vmax=1 + most,
            extent=(-edge, edge, edge, -edge),
        )
        drawing.displacement_grid(ax, reach)
        if reach <= 3:
            for (dy, dx), share in self.by_displacement.items():
                ax.text(
                    dx,
                    dy,
                    f"{share:.1%}\n{_number(len(self.channels[dy, dx]), reach)}",
                    ha="center",
                    va="center",
                    fontsize="small" if reach <= 2 else "x-small",
                    color=(
                        "white"
                        if abs(self.relative[dy, dx] - 1) > 0.6 * most
                        else "black"
                    ),
                )
        bar = ax.figure.colorbar(
            colours,
            ax=ax,
            shrink=0.85,
            label="kernel norm of a channel, 1 = average of the layer",
        )
        # No norm is negative.
        bar.ax.set_ylim(bottom=max(0, 1 - most))
        ax.set_title(
            f"{self.name}\nshare of what {self.kernel} takes in"
            + (f", {beyond:,} channels beyond the grid" if beyond else ""),
            fontsize="medium",
        )
        return ax


def channel_contribution(
    model: keras.Model, layer: str | keras.layers.Layer
) -> ChannelContribution:
    """Computes how much each channel of a shift layer contributes to what follows.

    It is approximated by the kernel of the 1x1 convolution behind the shift: the
    contribution of channel m is the Euclidean norm of the kernel's row m, divided by
    the sum of the norms of all rows. How large the channel's values are is left out.

    Example:

    >>> found = keras_shift.analysis.channel_contribution(model, "unit1_shift")
    >>> print(f"{found.contributions.sum():.3f}")
    1.000
    >>> print(found.kernel)
    unit1_project

    Args:
        model: A functional or sequential `keras.Model`.
        layer: A shift layer of the model that shifts by whole pixels, or its name. A
            1x1 convolution must follow; an activation or a gate may be between.

    Returns:
        A `ChannelContribution`, which `plot` draws.

    Raises:
        ValueError: If the model or the layer is none of these.

    References:

    - [Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions](
        https://arxiv.org/abs/1711.08141), Section 4.2 and Fig. 7
    """
    if not is_its_graph(model):
        raise ValueError(
            "Argument `model` must be a functional or sequential model that is built. "
            f"Received: model={model}"
        )
    shift = _shift_of(model, layer)
    convolution = _following(model, shift)
    kernel = keras.ops.convert_to_numpy(keras.ops.cast(convolution.kernel, "float32"))
    norms = np.linalg.norm(kernel[0, 0].astype("float64"), axis=1)
    total = norms.sum()
    # A kernel of nothing but zeros has no channel that contributes more than others.
    contributions = norms / total if total else np.full(len(norms), 1 / len(norms))
    return ChannelContribution(
        shift.name, convolution.name, contributions, _groups(shift)
    )


def _shift_of(model, layer):
    shift = layer_of(model, layer)
    if not isinstance(shift, ShiftLayer) or not shift.rounds:
        raise ValueError(
            "Argument `layer` must be a shift layer that shifts by whole pixels, or "
            f"its name. Received: layer={shift.name!r} of class "
            f"{type(shift).__name__}"
        )
    return shift


def _groups(shift):
    """Returns arrays of channels by their displacement, the largest first."""
    groups: dict[tuple[int, int], list[int]] = {}
    for channel, pair in enumerate(shift.whole_displacements().T):
        if not np.isfinite(pair).all():
            raise ValueError(
                "Argument `layer` must have finite displacements. "
                f"Received: layer={shift.name!r}, whose channel {channel} has {pair}"
            )
        groups.setdefault((int(pair[0]), int(pair[1])), []).append(channel)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return {pair: np.array(group) for pair, group in ordered}


def _reach(channels):
    """Returns how far a grid reaches, and how many channels are beyond it."""
    reach = min(max(1, *(abs(d) for pair in channels for d in pair)), drawing.FARTHEST)
    beyond = sum(
        len(group) for pair, group in channels.items() if max(map(abs, pair)) > reach
    )
    return reach, beyond


def _number(channels, reach):
    """Returns a number of channels as text, in words where a cell has room for them."""
    if reach > 2:
        return f"{channels:,}"
    return f"{channels:,} channel{'' if channels == 1 else 's'}"


def _following(model, shift):
    """Returns the 1x1 convolution that takes in what a shift layer returns."""
    graph = Graph(model)
    call = next(call for call in graph.calls if call.layer is shift)
    users = graph.users(call.outputs[0])
    while len(users) == 1 and users[0] and isinstance(users[0].layer, _APART):
        users = graph.users(users[0].outputs[0])
    followers = [user.layer for user in users if user]
    if (
        len(followers) == 1
        and isinstance(followers[0], keras.layers.Conv2D)
        and math.prod(followers[0].kernel_size) == followers[0].groups == 1
    ):
        return followers[0]
    classes = [type(layer).__name__ for layer in followers]
    raise ValueError(
        "Argument `layer` must be a shift layer that a 1x1 convolution follows. "
        f"Received: layer={shift.name!r}, followed by {classes or 'nothing'}"
    )
