"""Reads, checks and writes .tflite files."""

import dataclasses
import functools
import io
import math
import os
import zipfile
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

FILE_IDENTIFIER = b"TFL3"

# `keras_shift.deploy.metadata` adds a buffer of the model and a file behind the model,
# which have these names.
METADATA = b"TFLITE_METADATA"
LABELS = "labels.txt"

# Scales of activations that are not always zero are larger than this. For one that is
# always zero, the converter takes the range from -1e-6 to 1e-6, in 255 steps.
_NO_RANGE = 1e-8

# One element takes this number of bytes. Buffers of other types are not checked.
_BYTES = {"FLOAT32": 4, "FLOAT16": 2, "INT32": 4, "INT64": 8, "INT8": 1, "UINT8": 1}


@dataclasses.dataclass(frozen=True)
class TFLiteFile:
    """A .tflite file, parsed once, with one object for everything that it holds.

    Attributes:
        content: The file's bytes.
        model: The same as objects of LiteRT's schema, a `ModelT`.
    """

    content: bytes
    model: "ModelT"

    @classmethod
    def parse(cls, content: bytes) -> "TFLiteFile":
        """Returns the file of these bytes.

        Args:
            content: The file's bytes.

        Raises:
            ValueError: If these are not the bytes of a whole .tflite file.
        """
        schema = _schema()
        if content[4:8] != FILE_IDENTIFIER:
            raise ValueError(
                f"It lacks the mark {FILE_IDENTIFIER.decode()} that all of them have."
            )
        try:
            model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
            whole = _is_whole(model) and _has_its_files(model, content)
        except Exception as error:  # Wrong offsets can raise anything.
            raise ValueError(f"It cannot be read to its end ({error!r}).") from error
        if not whole:
            raise ValueError("Parts of it do not fit together.")
        return cls(content, model)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "TFLiteFile":
        """Reads a file, and refuses one that LiteRT might crash on.

        Args:
            path: Path of the file.

        Raises:
            OSError: If there is no such file.
            ValueError: If it is no .tflite file, or a damaged one.
        """
        with open(path, "rb") as file:
            content = file.read()
        try:
            return cls.parse(content)
        except ValueError as error:
            raise ValueError(
                f"Argument `path` must be an undamaged .tflite file. {error} "
                f"Received: path={os.fspath(path)}"
            ) from error

    @functools.cached_property
    def operations(self) -> dict[str, int]:
        """Numbers of the builtin operations by name, the most frequent first."""
        return self._operations(builtin=True)

    @functools.cached_property
    def not_builtin(self) -> dict[str, int]:
        """Numbers of the other operations by name.

        These are custom and TensorFlow "flex" operations, which a plain runtime on a
        phone refuses.
        """
        return self._operations(builtin=False)

    @property
    def output_step(self) -> float:
        """The distance of neighbouring values of an int8 file's output.

        For a file whose output is not quantized, this is 0.0.
        """
        (graph,) = self.model.subgraphs
        tensors = [graph.tensors[graph.outputs[0]]]
        # DEQUANTIZE makes a float32 output of an int8 tensor, and keeps its steps.
        for operator in graph.operators:
            if graph.outputs[0] in operator.outputs:
                tensors += [graph.tensors[index] for index in operator.inputs]
        quantized = [tensor.quantization for tensor in tensors]
        scales = [q.scale for q in quantized if q is not None and q.scale is not None]
        return float(scales[0].max()) if scales else 0.0

    @property
    def always_zero(self) -> list[str]:
        """Names of activations that were zero for all calibration images.

        The scale that the converter makes up for them is so small that XNNPACK refuses
        the file, or crashes. Files that are not int8 have none.
        """
        return [
            tensor.name.decode()
            for graph in self.model.subgraphs
            for tensor in graph.tensors
            if self.model.buffers[tensor.buffer].data is None
            and tensor.quantization is not None
            and tensor.quantization.scale is not None
            and tensor.quantization.scale.max() < _NO_RANGE
        ]

    def _operations(self, *, builtin):
        names = _names(_schema().BuiltinOperator)
        counter: Counter[str] = Counter()
        for graph in self.model.subgraphs:
            for operator in graph.operators:
                code = self.model.operatorCodes[operator.opcodeIndex]
                if builtin == bool(code.customCode):
                    continue
                if builtin:
                    number = max(code.builtinCode, code.deprecatedBuiltinCode)
                    counter[names.get(number, f"BUILTIN_{number}")] += 1
                else:
                    counter[code.customCode.decode()] += 1
        return dict(counter.most_common())


def pack(model: "ModelT") -> bytes:
    """Returns the bytes of a .tflite file.

    Args:
        model: A `ModelT`.
    """
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def sign(model: "ModelT", names: tuple[str, str]) -> None:
    """Gives the only graph a signature, so that it can be called with names.

    Args:
        model: A `ModelT`, which is changed.
        names: Names of the input and of the output.
    """
    schema = _schema()
    (graph,) = model.subgraphs
    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    signature.inputs, signature.outputs = [], []
    for side, name, index in zip(
        (signature.inputs, signature.outputs),
        names,
        (graph.inputs[0], graph.outputs[0]),
    ):
        tensor = schema.TensorMapT()
        tensor.name, tensor.tensorIndex = name, index
        side.append(tensor)
    model.signatureDefs = [signature]


def type_number(name: str) -> int:
    """Returns the number of a type of tensors.

    Args:
        name: Name of the type in LiteRT's schema, such as `"UINT8"`.
    """
    return getattr(_schema().TensorType, name)


def _is_whole(model):
    sizes = {
        number: _BYTES.get(name)
        for number, name in _names(_schema().TensorType).items()
    }
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            shape = () if tensor.shape is None else tensor.shape
            size = sizes[tensor.type]
            if data is None or size is None or tensor.sparsity is not None:
                continue
            if len(data) != size * math.prod(int(length) for length in shape):
                return False
        used = [graph.inputs, graph.outputs]
        for operator in graph.operators:
            used += [operator.inputs, operator.outputs]
            if not 0 <= operator.opcodeIndex < len(model.operatorCodes):
                return False
        indices = np.concatenate([part for part in used if part is not None])
        # -1 stands for an optional input that is not given.
        if not ((-1 <= indices) & (indices < len(graph.tensors))).all():
            return False
    return True


def _has_its_files(model, content):
    """Returns whether the labels that the metadata name lie behind the model."""
    for entry in model.metadata or ():
        data = model.buffers[entry.buffer].data
        if entry.name == METADATA and LABELS.encode() in bytes(data):
            with zipfile.ZipFile(io.BytesIO(content)) as files:
                return files.testzip() is None
    return True


def _names(enumeration):
    return {
        code: name for name, code in vars(enumeration).items() if isinstance(code, int)
    }


def _schema():
    from ai_edge_litert import schema_py_generated

    return schema_py_generated
