"""Running a .tflite file as a phone would."""

import os
from collections import Counter

import numpy as np

# Below any scale of an activation. For one that is always zero the converter takes
# the range from -1e-6 to 1e-6, in 255 steps.
_NO_RANGE = 1e-8


class LiteRTModel:
    """A .tflite file with one input and one output, run by LiteRT.

    Example:

    >>> model = keras_shift.deploy.LiteRTModel("model.tflite")
    >>> probabilities = model.predict(images)

    Args:
        path: Path of the file.
        num_threads: Number of threads that the interpreter may use.
    """

    def __init__(self, path, num_threads=1):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                "Running .tflite files needs LiteRT's interpreter: "
                "`pip install ai-edge-litert`, which is also in the extras "
                '`"keras-shift[cpu]"` and `"keras-shift[tf]"`.'
            ) from error
        self.path = os.fspath(path)
        self._interpreter = Interpreter(self.path, num_threads=num_threads)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()

    @property
    def input_shape(self):
        """Shape of the input, the batch included."""
        return tuple(int(size) for size in self._input["shape"])

    def predict(self, images):
        """Returns the outputs for any number of images, as floats.

        Args:
            images: Array of shape `(count, height, width, channels)`. The last
                batch is filled up with its last image.

        Returns:
            A NumPy array whose first dimension is `count`.
        """
        images = np.asarray(images, "float32")
        if images.shape[1:] != self.input_shape[1:]:
            raise ValueError(
                f"Argument `images` must be images of shape {self.input_shape[1:]}, "
                f"as {self.path} expects. Received: images.shape={images.shape}"
            )
        batch_size = self.input_shape[0]
        outputs = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            missing = batch_size - len(batch)
            full = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            outputs.append(self._run(full)[: len(batch)])
        if not outputs:
            return np.zeros((0, *self._output["shape"][1:]), "float32")
        return np.concatenate(outputs)

    def invoke(self):
        """Runs once on whatever the input holds; for timing."""
        self._interpreter.invoke()

    def partitions(self):
        """Returns into how many parts XNNPACK, LiteRT's CPU backend, cut the graph.

        One is best: all operations run inside of it. `None` where this version
        of LiteRT does not tell.
        """
        details = getattr(self._interpreter, "_get_ops_details", None)
        if details is None:
            return None
        return sum(op["op_name"] == "DELEGATE" for op in details())

    def _run(self, batch):
        self._interpreter.set_tensor(
            self._input["index"], _quantized(batch, self._input)
        )
        self._interpreter.invoke()
        output = self._interpreter.get_tensor(self._output["index"])
        scale, zero_point = self._output["quantization"]
        if scale:
            return (output.astype("float32") - zero_point) * scale
        return output.astype("float32")


def _quantized(batch, details):
    scale, zero_point = details["quantization"]
    if not scale:
        return batch.astype(details["dtype"])
    limits = np.iinfo(details["dtype"])
    steps = np.rint(batch / scale + zero_point)
    return np.clip(steps, limits.min, limits.max).astype(details["dtype"])


def operations(content):
    """Counts the operations of a .tflite file.

    Args:
        content: The file's bytes.

    Returns:
        A pair of `collections.Counter`s by name: builtin operations, and those
        that are not builtin (custom and TensorFlow "flex" operations), which a
        plain runtime on a phone refuses.
    """
    schema, model = _parse(content)
    names = {
        code: name
        for name, code in vars(schema.BuiltinOperator).items()
        if isinstance(code, int)
    }
    builtin: Counter[str] = Counter()
    other: Counter[str] = Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            if code.customCode:
                other[code.customCode.decode()] += 1
            else:
                number = max(code.builtinCode, code.deprecatedBuiltinCode)
                builtin[names[number]] += 1
    return builtin, other


def always_zero(content):
    """Returns names of activations that quantization has never seen but zero.

    The scale that the converter makes up for them is so small that XNNPACK refuses
    the file, or crashes.

    Args:
        content: The bytes of an int8 .tflite file.
    """
    _, model = _parse(content)
    return [
        tensor.name.decode()
        for graph in model.subgraphs
        for tensor in graph.tensors
        if model.buffers[tensor.buffer].data is None
        and tensor.quantization is not None
        and tensor.quantization.scale is not None
        and tensor.quantization.scale.max() < _NO_RANGE
    ]


def _parse(content):
    from ai_edge_litert import schema_py_generated as schema

    return schema, schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
