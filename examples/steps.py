"""Steps that several of the examples take: it is imported, not run."""

import contextlib

from keras_shift.deploy import LiteRTModel, to_tflite

KINDS = {"float32": None, "int8": "int8"}
CALIBRATION_IMAGES = 100

# Examples that train nothing compare these published weights. Ratios of times are to
# the last ones'.
NETWORKS = ("fenet_0.75.tiny_imagenet.emptied", "mobilenet_v2_1.0.tiny_imagenet")


def export(model, images, output, output_name):
    """Writes float32 and int8 files into a folder, and returns them by kind."""
    files = {}
    for kind, quantize in KINDS.items():
        report = to_tflite(
            model,
            output / f"{model.name}_{kind}.tflite",
            quantize=quantize,
            representative_data=images[:CALIBRATION_IMAGES],
            output_name=output_name,
        )
        print(report)
        files[kind] = LiteRTModel(report.path)
    return files


@contextlib.contextmanager
def errors_in_one_line(script):
    """Ends the script with one line where its user can mend what is wrong."""
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        # LiteRT's messages have several.
        message = " ".join(str(error).split())
        raise SystemExit(f"{script}: {message}") from error
    except KeyboardInterrupt as error:
        raise SystemExit(
            "\nInterrupted. The files written so far are complete."
        ) from error
