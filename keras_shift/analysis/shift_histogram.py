"""How many channels of shift layers move where."""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from keras_shift import initializers
from keras_shift.analysis import drawing
from keras_shift.layers.shift_layer import LearnedShift, ShiftLayer, shift_layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Numbers of channels are written into grids that are not larger.
_MOST_POSITIONS = 7

# A circle that stands for all channels of a layer has this radius. Cells have the side
# 1.
_RADIUS = 0.46


def channels_by_displacement(layer: ShiftLayer) -> collections.Counter:
    """Counts a layer's channels by their rounded displacements `(dy, dx)`."""
    return collections.Counter(map(_pixels, *layer.whole_displacements()))


def _pixels(*displacement):
    # After a diverged training, displacements may be infinite or NaN. They stay floats.
    return tuple(int(d) if math.isfinite(d) else float(d) for d in displacement)


def most_frequent_first(counts: Mapping[tuple, int]) -> dict[tuple, int]:
    """Returns counts by displacement as a dict in which the largest come first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclasses.dataclass(frozen=True)
class ShiftHistogram:
    """Holds how many channels of a layer have each displacement.

    Attributes:
        name: Name of the layer.
        counts: Dict of the number of channels by rounded displacement `(dy, dx)` in
            pixels, most frequent first. Output pixel `(i, j)` is input pixel
            `(i + dy, j + dx)`.
        channels: Number of the layer's channels.
        unshifted: Share of the channels whose displacements are both zero, from 0 to
            1.
        reach: Largest absolute displacement in pixels among those that are finite.
    """

    name: str
    counts: dict[tuple[int, int], int]

    @property
    def channels(self) -> int:
        """Number of the layer's channels."""
        return sum(self.counts.values())

    @property
    def unshifted(self) -> float:
        """Share of the channels whose displacements are both zero, from 0 to 1."""
        return self.counts.get((0, 0), 0) / self.channels

    @property
    def reach(self) -> int:
        """Largest absolute displacement in pixels among those that are finite."""
        return max(
            (abs(d) for pair in self.counts for d in pair if math.isfinite(d)),
            default=0,
        )

    def grid(self) -> np.ndarray:
        """Returns the counts as an integer array over the grid of displacements.

        Returns:
            An array of shape `(2 * reach + 1, 2 * reach + 1)`. The number of channels
            with the displacement `(dy, dx)` is at `[reach + dy, reach + dx]`.
            Displacements that are not finite have no place in it.
        """
        reach = self.reach
        grid = np.zeros((2 * reach + 1, 2 * reach + 1), int)
        for (dy, dx), count in self.counts.items():
            if math.isfinite(dy) and math.isfinite(dx):
                grid[reach + dy, reach + dx] = count
        return grid

    def plot(
        self,
        ax: "Axes | None" = None,
        before: "ShiftHistogram | None" = None,
        *,
        reach: int | None = None,
        largest: float | None = None,
        labels: bool = True,
    ) -> "Axes":
        """Draws a circle for every displacement, as Fig. 5 of the SSL paper does.

        The area of a circle is the share of the layer's channels that have the
        displacement; their number is written beside it.

        Args:
            ax: Matplotlib axes to draw into, or `None` for those of a new figure.
                Defaults to `None`.
            before: What the layer was before learning, drawn as rings, or `None`.
                Defaults to `None`.
            reach: Int, how far the grid reaches in pixels, or `None` for as far as the
                displacements do, 12 pixels at most. Defaults to `None`.
            largest: Float, share of the channels whose circle is as large as a cell,
                or `None` for the largest share that is drawn. Figures that are
                compared need the same. Defaults to `None`.
            labels: Whether the axes are labelled and have a legend. Defaults to `True`.

        Returns:
            The Matplotlib axes.
        """
        drawn = [self] if before is None else [self, before]
        if reach is None:
            reach = grid_reach(drawn)
        if largest is None:
            largest = max(max(one.counts.values()) / one.channels for one in drawn)
        ax = drawing.one_axes(ax, 4.2, 4.4)
        drawing.displacement_grid(ax, reach, labels)
        self._draw_circles(ax, reach, largest, labels)
        if before is not None:
            before._draw_rings(ax, reach, largest)
        beyond = self.channels - sum(
            count for pair, count in self.counts.items() if _within(pair, reach)
        )
        ax.set_title(
            f"{self.name}\n{self.counts.get((0, 0), 0):,} of {self.channels:,} "
            "channels unshifted" + (f", {beyond:,} beyond" if beyond else ""),
            fontsize="medium" if labels else "small",
        )
        if labels:
            ax.legend(
                handles=_legend(before is not None),
                frameon=False,
                fontsize="small",
                ncols=2,
                loc="upper center",
                bbox_to_anchor=(0.5, -0.14),
            )
        else:
            ax.tick_params(labelsize="x-small")
        return ax

    def _draw_circles(self, ax, reach, largest, labels):
        from matplotlib.patches import Circle

        for (dy, dx), count in self.counts.items():
            if not _within((dy, dx), reach):
                continue
            radius = _RADIUS * math.sqrt(count / self.channels / largest)
            ax.add_patch(Circle((dx, dy), radius, color=drawing.BLUE, linewidth=0))
            if 2 * reach + 1 <= _MOST_POSITIONS:
                # In a small circle there is no room for the number, which goes to the
                # cell's lower edge then. There, and below the middle of a large
                # circle, no ring crosses it.
                inside = radius > 0.25
                ax.text(
                    dx,
                    dy + (0.7 * radius if inside else 0.47),
                    f"{count:,}",
                    color="white" if inside else "black",
                    ha="center",
                    va="center" if inside else "bottom",
                    fontsize="small" if labels else "xx-small",
                )

    def _draw_rings(self, ax, reach, largest):
        from matplotlib.patches import Circle

        for (dy, dx), count in self.counts.items():
            if _within((dy, dx), reach):
                radius = _RADIUS * math.sqrt(count / self.channels / largest)
                ring = Circle(
                    (dx, dy),
                    radius,
                    fill=False,
                    edgecolor=drawing.ORANGE,
                    linewidth=1.4,
                    linestyle=(0, (3, 1.5)),
                )
                ax.add_patch(ring)


def _legend(rings):
    """Returns what a legend says of circles, and of rings if there are any."""
    from matplotlib.lines import Line2D

    kinds: list[tuple[str, dict[str, Any]]] = [
        ("area = share of the channels", {"color": drawing.BLUE})
    ]
    if rings:
        hollow = {"markerfacecolor": "none", "markeredgecolor": drawing.ORANGE}
        kinds.append(("before learning", {**hollow, "markeredgewidth": 1.4}))
    return [
        Line2D([], [], marker="o", markersize=9, linestyle="none", label=label, **style)
        for label, style in kinds
    ]


def _within(pair, reach):
    return all(abs(d) <= reach for d in pair)


def grid_reach(histograms: Sequence[ShiftHistogram]) -> int:
    """Returns how many pixels a grid must reach to show some histograms."""
    reach = max(histogram.reach for histogram in histograms)
    return min(max(reach, 1), drawing.FARTHEST)


def shift_histogram(layer: ShiftLayer) -> ShiftHistogram:
    """Counts a layer's channels by their rounded displacements.

    Example:

    >>> layer = keras_shift.layers.GroupedShift2D(kernel_size=3)
    >>> _ = layer(np.zeros((1, 8, 8, 18)))
    >>> histogram = keras_shift.analysis.shift_histogram(layer)
    >>> histogram.grid()
    array([[2, 2, 2],
           [2, 2, 2],
           [2, 2, 2]])
    >>> histogram.unshifted == layer.sparsity
    True

    Args:
        layer: A shift layer that is built and shifts by whole pixels, such as
            `keras_shift.layers.SparseShift2D`.

    Returns:
        A `ShiftHistogram`, which `plot` draws.

    Raises:
        ValueError: If `layer` is something else.

    References:

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Fig. 5
    """
    if not isinstance(layer, ShiftLayer) or not layer.rounds or not layer.built:
        raise ValueError(
            "Argument `layer` must be a shift layer that is built and shifts by whole "
            f"pixels. Received: layer={layer}"
        )
    counts = most_frequent_first(channels_by_displacement(layer))
    return ShiftHistogram(layer.name, counts)


def plot_shifts(
    target: ShiftLayer | keras.Model,
    before: ShiftLayer | keras.Model | Literal["initial"] | None = None,
    ax: Any = None,
) -> Any:
    """Draws how many channels have each displacement, before and after learning.

    Every displacement has a circle in a grid, whose area is the share of the layer's
    channels that have it. Rings show what was before learning.

    Example:

    >>> axes = keras_shift.analysis.plot_shifts(model.get_layer("unit1_shift"))
    >>> axes.get_xlabel()
    'columns to the right, pixels'
    >>> panels = keras_shift.analysis.plot_shifts(model, before="initial")
    >>> panels[0].get_title().splitlines()[0]
    'unit1_shift'

    Args:
        target: A shift layer, or a `keras.Model`, each of whose shift layers gets a
            panel of its own. All panels have one scale.
        before: What `target` was before learning: a layer for a layer, a model with
            layers of the same names for a model, `"initial"` for what the layers'
            initializers give, or `None` for no rings. Defaults to `None`.
        ax: Matplotlib axes to draw into, an array of as many as there are shift
            layers for a model, or `None` for a new figure. Defaults to `None`.

    Returns:
        The Matplotlib axes, a one-dimensional array of them for a model.

    Raises:
        ValueError: If there is no layer that shifts by whole pixels, if `before` does
            not fit or is random, or if `ax` has another number of axes.

    References:

    - [All You Need is a Few Shifts](https://arxiv.org/abs/1903.05285), Fig. 5
    """
    if not isinstance(target, keras.Model):
        earlier = _before(target, before)
        return shift_histogram(target).plot(ax, earlier)
    layers = [layer for layer in shift_layers(target) if layer.rounds]
    if not layers:
        raise ValueError(
            "Argument `target` has no layers that shift by whole pixels. "
            f"Received: target={target.name!r}"
        )
    if isinstance(before, keras.Model):
        by_name = {layer.name: layer for layer in shift_layers(before)}
        if missing := [layer.name for layer in layers if layer.name not in by_name]:
            raise ValueError(
                "Argument `before` must be a model with shift layers of the same "
                f"names. Received: before={before.name!r}, without {missing}"
            )
        rings = [_before(layer, by_name[layer.name]) for layer in layers]
    else:
        rings = [_before(layer, before) for layer in layers]
    histograms = [shift_histogram(layer) for layer in layers]
    drawn = histograms + [one for one in rings if one is not None]
    reach = grid_reach(drawn)
    largest = max(max(one.counts.values()) / one.channels for one in drawn)
    panels = drawing.many_axes(ax, len(layers), 2.4)
    for panel, histogram, ring in zip(panels, histograms, rings):
        histogram.plot(panel, ring, reach=reach, largest=largest, labels=False)
    if ax is None:
        figure = panels[0].figure
        figure.supxlabel("columns to the right, pixels", fontsize="medium")
        figure.supylabel("rows down, pixels", fontsize="medium")
        figure.legend(
            handles=_legend(any(one is not None for one in rings)),
            frameon=False,
            ncols=2,
            loc="outside upper center",
        )
    return panels


def _before(layer, before):
    """Returns the `ShiftHistogram` of what a layer was before learning, or `None`."""
    if before is None:
        return None
    if isinstance(before, ShiftLayer):
        return shift_histogram(before)
    if isinstance(before, str) and before == "initial":
        return _initial(layer)
    raise ValueError(
        "Argument `before` must be a layer for a layer, a model with layers of the "
        f'same names for a model, "initial" or None. Received: before={before}'
    )


# These give the same values in every call.
_CONSTANT = (
    initializers.GivenDisplacements,
    initializers.GroupedDisplacements,
    keras.initializers.Constant,
    keras.initializers.Zeros,
)


def has_known_start(layer: ShiftLayer) -> bool:
    """Returns whether a layer's displacements before learning can be told.

    Args:
        layer: A shift layer.
    """
    if isinstance(layer, LearnedShift):
        return isinstance(layer.displacement_initializer, _CONSTANT)
    return True


def _initial(layer):
    if not has_known_start(layer):
        raise ValueError(
            'Argument `before` may be "initial" if displacements start from values '
            "that are not random. Received: layer "
            f"{layer.name!r} with displacement_initializer="
            f"{layer.displacement_initializer}"
        )
    if not isinstance(layer, LearnedShift):
        return shift_histogram(layer)
    start = layer.displacement_initializer(layer.displacements.shape, "float32")
    start = keras.ops.convert_to_numpy(start)
    if layer.max_displacement is not None:
        # The layer clips what is initially beyond its bound.
        start = np.clip(start, -layer.max_displacement, layer.max_displacement)
    rounded = np.rint(start) + 0.0
    counts = collections.Counter(map(_pixels, *rounded))
    return ShiftHistogram(layer.name, most_frequent_first(counts))
