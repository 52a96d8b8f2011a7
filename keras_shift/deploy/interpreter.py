"""Runs a .tflite file as a phone would."""

import os
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from keras_shift.deploy.flatbuffer import TFLiteFile
from keras_shift.integers import whole_number
from keras_shift.quiet import quiet

# LiteRT starts as many threads as it is asked for. More threads than cores are of no
# use.
_MOST_THREADS = 256


class LiteRTModel:
    """A .tflite file with one input and one output, run by LiteRT.

    It takes the same images as the Keras model and returns outputs like its own,
    whatever the file's types are: inputs are quantized here, and outputs are scaled
    back.

    Example:

    >>> model = keras_shift.deploy.LiteRTModel("model.tflite")
    >>> probabilities = model.predict(images)

    Args:
        path: Path of the file.
        num_threads: Int, number of threads that the interpreter may use, 256 at most.
            Defaults to 1.

    Attributes:
        path: The path.
        bytes: Size of the file.
        operations: Numbers of its builtin operations by name.
        not_builtin: Numbers of its other operations by name, which a plain runtime on a
            phone refuses.

    Raises:
        ImportError: If LiteRT's interpreter is not installed.
        OSError: If there is no such file.
        ValueError: If it is not an undamaged .tflite file with one input and one
            output, or `num_threads` is out of range.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int = 1) -> None:
        interpreter_class()  # Reading the file needs the same package.
        self._load(TFLiteFile.read(path), path, num_threads)

    @classmethod
    def from_file(
        cls, file: TFLiteFile, path: str | os.PathLike[str], num_threads: int = 1
    ) -> Self:
        """Returns the model of a file that was read, or was not yet written.

        Args:
            file: What the file holds.
            path: Its path, which errors name.
            num_threads: As for the class. Defaults to 1.

        Returns:
            A `LiteRTModel`.

        Raises:
            ImportError: If LiteRT's interpreter is not installed.
            ValueError: As for the class.
        """
        model = cls.__new__(cls)
        model._load(file, path, num_threads)
        return model

    def _load(self, file, path, num_threads):
        num_threads = check_threads(num_threads)
        self.path = os.fspath(path)
        try:
            with quiet():  # LiteRT says that there is XNNPACK.
                self._interpreter = interpreter_class()(
                    model_content=file.content, num_threads=num_threads
                )
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"LiteRT cannot run {self.path}: {error}") from error
        self.operations, self.not_builtin = file.operations, file.not_builtin
        self.bytes = len(file.content)
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                "Argument `path` must be a file with one input and one output. "
                f"Received: {self.path}, which has {len(inputs)} and {len(outputs)}"
            )
        (self._input,), (self._output,) = inputs, outputs

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, with the batch size in front."""
        return tuple(int(size) for size in self._input["shape"])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, with the batch size in front."""
        return tuple(int(size) for size in self._output["shape"])

    @property
    def input_type(self) -> str:
        """Type of the input's numbers, such as `"float32"` or `"uint8"`."""
        return np.dtype(self._input["dtype"]).name

    @property
    def output_type(self) -> str:
        """Type of the output's numbers."""
        return np.dtype(self._output["dtype"]).name

    def predict(self, images: ArrayLike) -> np.ndarray:
        """Returns the outputs for any number of images, as floats.

        Args:
            images: Array of shape `(count, height, width, channels)`. Copies of its
                last image fill up the last batch.

        Returns:
            A float32 array whose first dimension is `count`.

        Raises:
            ValueError: If the images have another shape than the file's input.
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
            return np.zeros((0, *self.output_shape[1:]), "float32")
        return np.concatenate(outputs)

    def invoke(self) -> None:
        """Runs the file once on what its input already holds, which is for timing."""
        self._interpreter.invoke()

    def partitions(self) -> int | None:
        """Returns into how many parts XNNPACK, LiteRT's CPU backend, cut the graph.

        One part is best: then XNNPACK runs all operations.

        Returns:
            An int, or `None` if this version of LiteRT does not tell.
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


def interpreter_class() -> type:
    """Returns LiteRT's interpreter.

    Reading and writing .tflite files needs the same package.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "Reading, writing or running .tflite files needs LiteRT's interpreter: "
            "`pip install ai-edge-litert`, which is also in the extras "
            '`"keras-shift[cpu]"` and `"keras-shift[tf]"`.'
        ) from error
    return Interpreter


def check_threads(num_threads: int) -> int:
    """Refuses a number of threads that LiteRT should not start.

    Args:
        num_threads: The number.

    Returns:
        The number as an int.

    Raises:
        ValueError: If it is no integer from 1 to 256.
    """
    whole = whole_number(num_threads)
    if whole is None or not 1 <= whole <= _MOST_THREADS:
        raise ValueError(
            f"Argument `num_threads` must be a positive integer, {_MOST_THREADS} at "
            f"most. Received: num_threads={num_threads}"
        )
    return whole


def _quantized(batch, details):
    scale, zero_point = details["quantization"]
    if not scale:
        return batch.astype(details["dtype"])
    limits = np.iinfo(details["dtype"])
    steps = np.rint(batch / scale + zero_point)
    return np.clip(steps, limits.min, limits.max).astype(details["dtype"])
