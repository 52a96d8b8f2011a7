"""Writes labels and preprocessing into .tflite files, for Android's tools; reads them.

Those tools read a second flatbuffer from a buffer of the model. Its schema is
metadata_schema.fbs of MediaPipe (and of TensorFlow Lite Support before it). They read
labels from a zip archive behind the model. MediaPipe's own writers are not used here
because they come with 500 MB of other things.
"""

import dataclasses
import io
import os
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_shift.deploy import flatbuffer
from keras_shift.deploy.interpreter import interpreter_class

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_IDENTIFIER = b"M001"

# These are the fields of the schema's tables in their order, up to the last one that is
# written here. A union is two fields.
_FIELDS = {
    "AssociatedFile": ("name", "description", "type"),
    "Content": ("content_properties_type", "content_properties"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space",),
    "ModelMetadata": (
        *("name", "description", "version", "subgraph_metadata"),
        *("author", "license", "associated_files", "min_parser_version"),
    ),
    "NormalizationOptions": ("mean", "std"),
    "ProcessUnit": ("options_type", "options"),
    "SubGraphMetadata": (
        *("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    ),
    "TensorMetadata": (
        *("name", "description", "dimension_names", "content", "process_units"),
        *("stats", "associated_files"),
    ),
}

# These are values of the schema's enumerations and unions, all of which take one byte.
_FEATURE, _IMAGE = 1, 2
_NORMALIZATION = 1
_TENSOR_AXIS_LABELS = 2
_COLOR_SPACES = {3: 1, 1: 2}  # These are RGB and GRAYSCALE, by number of channels.

# These fields lead from a model's metadata to what becomes of its input.
_TO_PROCESS_UNITS = {
    "ModelMetadata": "subgraph_metadata",
    "SubGraphMetadata": "input_tensor_metadata",
    "TensorMetadata": "process_units",
}


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a .tflite file tells of its input and of its output.

    Attributes:
        mean: Tuple of floats, one for all channels of an image or one for each.
        std: Likewise: the model's input is `(pixel - mean) / std` for pixel values in
            [0, 255].
        labels: A list with the name of every class, or `None` if the file has none.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: list[str] | None


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
    """Reads the metadata of a .tflite file of one input and one output.

    Args:
        path: Path of the file.

    Returns:
        A `Metadata`, which says of a file without any that its input is pixel values as
        they are.

    Raises:
        ImportError: If LiteRT's interpreter is not installed.
        OSError: If there is no such file.
        ValueError: If it is no .tflite file, or a damaged one.
    """
    interpreter_class()  # Reading the file needs the same package.
    file = flatbuffer.TFLiteFile.read(path)
    try:
        mean, std = _read_normalization(file.model)
        return Metadata(mean, std, _read_labels(file.content))
    except Exception as error:  # Wrong offsets can raise anything.
        raise ValueError(
            "Argument `path` must be an undamaged .tflite file. Its metadata cannot be "
            f"read to their end ({error!r}). Received: path={os.fspath(path)}"
        ) from error


def annotate(
    model: "ModelT",
    name: str,
    normalization: tuple[float, float] = (0.0, 1.0),
    labels: Sequence[str] | None = None,
) -> bytes:
    """Adds metadata to a model of one input and one output.

    Args:
        model: The `ModelT` of a .tflite file, which is changed.
        name: Name of the model.
        normalization: Pair `(mean, std)`: the model's input is
            `(pixel - mean) / std` for pixel values in [0, 255]. Defaults to
            `(0.0, 1.0)`.
        labels: A list with the name of every class, or `None` for no labels. Defaults
            to `None`.

    Returns:
        The bytes of the .tflite file, with `labels` behind the model.
    """
    graph = model.subgraphs[0]
    given, returned = (
        graph.tensors[indices[0]] for indices in (graph.inputs, graph.outputs)
    )
    mean, std = normalization
    normalize = _Table(
        "ProcessUnit",
        options_type=_NORMALIZATION,
        options=_Table(
            "NormalizationOptions",
            mean=np.array([mean], "float32"),
            std=np.array([std], "float32"),
        ),
    )
    names = _Table(
        "AssociatedFile",
        name=flatbuffer.LABELS,
        description="Names of the classes, one on every line.",
        type=_TENSOR_AXIS_LABELS,
    )
    subgraph = _Table(
        "SubGraphMetadata",
        input_tensor_metadata=[
            _Table(
                "TensorMetadata",
                name=given.name.decode(),
                description="Pixel values p from 0 to 255, as "
                f"(p - {mean:g}) / {std:g}.",
                content=_content(given.shape),
                process_units=[normalize],
            )
        ],
        output_tensor_metadata=[
            _Table(
                "TensorMetadata",
                name=returned.name.decode(),
                description="A number for every class.",
                content=_content(()),
                associated_files=[names] if labels else None,
            )
        ],
    )
    metadata = _Table(
        "ModelMetadata",
        name=name,
        subgraph_metadata=[subgraph],
        min_parser_version="1.0.0",
    )
    _attach(model, metadata.packed())
    content = flatbuffer.pack(model)
    return _with_file(content, "\n".join(labels) + "\n") if labels else content


def _content(shape):
    """Returns what a tensor of this shape holds: an image, or plain numbers."""
    color_space = _COLOR_SPACES.get(int(shape[-1])) if len(shape) == 4 else None
    if color_space is None:
        kind, properties = _FEATURE, _Table("FeatureProperties")
    else:
        kind = _IMAGE
        properties = _Table("ImageProperties", color_space=color_space)
    return _Table(
        "Content",
        content_properties_type=kind,
        content_properties=properties,
    )


def _attach(model, metadata):
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata, "uint8")
    entry = schema.MetadataT()
    entry.name = flatbuffer.METADATA
    entry.buffer = len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]


def _with_file(content, text):
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        # The entry is not compressed, since MediaPipe reads it in place. It has the
        # constant date of a new `ZipInfo`, so that equal models are equal files.
        archive.writestr(zipfile.ZipInfo(flatbuffer.LABELS), text.encode())
    return file.getvalue()


class _Table:
    """A table of the schema, which is written without generated code."""

    def __init__(self, kind, **values):
        self.fields = _FIELDS[kind]
        self.values = {
            field: value for field, value in values.items() if value is not None
        }

    def write(self, builder):
        # The entries that a table refers to must be complete before it starts.
        offsets = {
            field: _write(builder, value)
            for field, value in self.values.items()
            if not isinstance(value, int)
        }
        builder.StartObject(len(self.fields))
        for field, value in self.values.items():
            slot = self.fields.index(field)
            if field in offsets:
                builder.PrependUOffsetTRelativeSlot(slot, offsets[field], 0)
            else:
                builder.PrependUint8Slot(slot, value, 0)
        return builder.EndObject()

    def packed(self):
        import flatbuffers

        builder = flatbuffers.Builder(1024)
        builder.Finish(self.write(builder), _IDENTIFIER)
        return bytes(builder.Output())


def _read_normalization(model):
    """Returns means and standard deviations: 0 and 1 for a model without metadata."""
    contents = [
        bytes(model.buffers[entry.buffer].data)
        for entry in model.metadata or ()
        if entry.name == flatbuffer.METADATA
    ]
    tables = [_table(content, _table(content, 0).Indirect(0)) for content in contents]
    for kind, field in _TO_PROCESS_UNITS.items():
        tables = [child for table in tables for child in _children(table, kind, field)]
    for unit in tables:
        kind = _offset(unit, "ProcessUnit", "options_type")
        if kind and unit.Bytes[unit.Pos + kind] == _NORMALIZATION:
            options = _offset(unit, "ProcessUnit", "options")
            values = _table(unit.Bytes, unit.Indirect(unit.Pos + options))
            return _floats(values, "mean"), _floats(values, "std")
    return (0.0,), (1.0,)


def _read_labels(content):
    file = io.BytesIO(content)
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        if flatbuffer.LABELS not in archive.namelist():
            return None
        return archive.read(flatbuffer.LABELS).decode().splitlines()


def _write(builder, value):
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, _Table):
        return value.write(builder)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    offsets = [_write(builder, entry) for entry in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _table(content, position):
    """Returns a table for reading, without generated code, too."""
    from flatbuffers.table import Table

    return Table(content, position)


def _offset(table, kind, field):
    """Returns where a field is behind the start of its table, or 0 if it is unset."""
    return table.Offset(4 + 2 * _FIELDS[kind].index(field))


def _children(table, kind, field):
    """Returns the tables in a list, or none if it is unset."""
    offset = _offset(table, kind, field)
    if not offset:
        return []
    start = table.Vector(offset)
    return [
        _table(table.Bytes, table.Indirect(start + 4 * index))
        for index in range(table.VectorLen(offset))
    ]


def _floats(table, field):
    offset = _offset(table, "NormalizationOptions", field)
    count, start = table.VectorLen(offset), table.Vector(offset)
    return tuple(np.frombuffer(table.Bytes, "<f4", count, start).tolist())
