"""Errors for image files that cannot be read."""

import contextlib
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def naming_unreadable(paths: Sequence[str] | None) -> Iterator[None]:
    """Replaces TensorFlow's error for an unreadable image by one that names the file.

    This context manager costs nothing as long as nothing fails. When TensorFlow
    reports an error, all files are read once more to find the one that failed.

    Example:

    >>> with naming_unreadable(dataset.file_paths):
    ...     images = [image for image, label in dataset]

    Args:
        paths: List of the paths of all files that may be read; empty or `None` if
            they are not known, and then errors stay as they are.

    Raises:
        ValueError: If TensorFlow cannot read one of the files.
    """
    if not paths:
        yield
        return
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        path = _first_unreadable(paths)
        if path is None:
            raise
        raise ValueError(
            f"{path} is no image that can be read (JPEG, PNG, GIF or BMP), or damaged."
        ) from error


def _first_unreadable(paths):
    import tensorflow as tf

    def size(path):
        image = tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
        return tf.size(image)

    sizes = iter(tf.data.Dataset.from_tensor_slices(paths).map(size, tf.data.AUTOTUNE))
    for path in paths:
        try:
            next(sizes)
        except tf.errors.OpError:
            return path
    return None
