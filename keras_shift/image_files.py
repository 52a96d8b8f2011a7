"""Files of images that cannot be read."""

import contextlib


@contextlib.contextmanager
def naming_unreadable(paths):
    """Names the file, where images of tf.data cannot be read.

    TensorFlow's errors do not. All files are looked at again, but only then: as long
    as nothing fails, this costs nothing.

    Example:

    >>> with naming_unreadable(dataset.file_paths):
    ...     images = [image for image, label in dataset]

    Args:
        paths: List of paths, all that may be read; none, if that is not known.

    Raises:
        ValueError: If TensorFlow cannot read one of them.
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
