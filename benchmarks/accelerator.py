"""Is FE-Net faster than MobileNetV2 on a GPU, and how does it move pixels best there?

    KERAS_BACKEND=jax python benchmarks/accelerator.py

Inference, and steps of training (forward, backward, update), of FE-Net 1.0 and
MobileNetV2 1.0 for 1000 classes and images of 224x224 pixels, as programs that XLA
compiles, on JAX's first device, in float32 and in mixed_bfloat16. FE-Net has 60% of its
wide channels unshifted and the others displaced by one pixel at most. It is compiled
once for each way in which `keras_shift.portable_shift` can move pixels on every
backend: by depthwise convolutions with one-hot kernels, by a gather, and by a choice
among slices. `none`, the network without shifts, is what no way can beat.

Which way the package takes on JAX, `keras_shift.portable_shift.way` says: let it name
the fastest one. FE-Net's answers in all ways are compared before anything is timed.
Ratios are to MobileNetV2's time for the same precision and batch: medians and quartiles
round by round, in turns in one process.

Needs JAX, Keras and NumPy, and no TensorFlow. Programs of one precision are compiled at
once, on as many processors as there are. Rows are written, with the device, after each
batch, so nothing that was measured is lost if memory or time come to an end: large
batches come last, and `--batch`, `--training-batch` and `--precision` ask for less. It
has not run on a GPU yet, and there are no results in the repository.
"""

import argparse
import concurrent.futures
import os
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import rich.table  # noqa: E402
from records import write  # noqa: E402
from states import displaced  # noqa: E402

from keras_shift import portable_shift, zoo  # noqa: E402
from keras_shift.deploy.agreement import compare  # noqa: E402
from keras_shift.deploy.timing import time_alternately  # noqa: E402
from keras_shift.environment import device, versions  # noqa: E402

PRECISIONS = ("float32", "mixed_bfloat16")
UNSHIFTED = 0.6
CLASSES = 1000
BASELINE = "MobileNetV2 1.0"
# These are the ways to move pixels in FE-Net, by the names of rows.
WAYS = {f"FE-Net 1.0, {way}": way for way in portable_shift.WAYS}
FLOOR = "FE-Net 1.0, none"
# FE-Net's answers may differ by this share of the largest one.
BOUNDS = {"float32": 1e-3, "mixed_bfloat16": 0.1}


def network(name, size):
    """Makes a network of a row's name for images of `size` pixels."""
    options = {"input_shape": (size, size, 3), "classes": CLASSES}
    # All ways are measured with the same weights.
    keras.utils.set_random_seed(0)
    if name == BASELINE:
        return zoo.MobileNetV2(**options)
    spatial = "none" if name == FLOOR else "sparse_shift"
    return displaced(zoo.FENet(spatial=spatial, **options), 1, UNSHIFTED)


def inference(model, images):
    """Returns the arguments of a function, and the function, that classifies images."""

    def classify(weights, others, images):
        return model.stateless_call(weights, others, images, training=False)[0]

    return classify, (*state_of(model), images)


def training(model, images, labels):
    """Returns a function that does one step of training, and its arguments."""
    import jax

    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)

    def loss(weights, others, images, labels):
        outputs, others = model.stateless_call(weights, others, images, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(labels, outputs)
        return keras.ops.mean(losses), others

    def step(weights, others, momenta, images, labels):
        slopes, others = jax.grad(loss, has_aux=True)(weights, others, images, labels)
        weights, momenta = optimizer.stateless_apply(momenta, slopes, weights)
        return weights, others, momenta

    momenta = [variable.value for variable in optimizer.variables]
    return step, (*state_of(model), momenta, images, labels)


def state_of(model):
    """Returns a model's variables, as `stateless_call` takes them."""
    return tuple(
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )


def lowered(name, model, mode, batch):
    """Returns a program that is not compiled yet, and its arguments."""
    import jax

    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (batch, *model.input_shape[1:]))
    arguments = [jax.device_put(images.astype("float32"))]
    if mode == "training":
        labels = random.integers(0, CLASSES, batch).astype("int32")
        arguments.append(jax.device_put(labels))
    made = {"inference": inference, "training": training}[mode]
    function, arguments = made(model, *arguments)
    way = WAYS.get(name)
    chosen = portable_shift.way if way is None else lambda max_displacement: way
    with mock.patch.object(portable_shift, "way", chosen):
        return jax.jit(function).lower(*arguments), arguments


def programs(precision, cases, size):
    """Compiles all networks for all cases.

    Args:
        precision: A dtype policy of Keras.
        cases: List of pairs of a mode and a batch size.
        size: Width and height of images.

    Returns:
        A dictionary of functions without arguments by name, by case. They return what
        the program does, once it has arrived.
    """
    import jax

    keras.config.set_dtype_policy(precision)
    try:
        models = {name: network(name, size) for name in (BASELINE, FLOOR, *WAYS)}
    finally:
        keras.config.set_dtype_policy("float32")
    found = {case: {} for case in cases}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        tasks = {}
        for case in cases:
            for name, model in models.items():
                program, arguments = lowered(name, model, *case)
                tasks[case, name] = pool.submit(program.compile), arguments
        for (case, name), (task, arguments) in tasks.items():
            found[case][name] = lambda program=task.result(), arguments=arguments: (
                jax.block_until_ready(program(*arguments))
            )
    return found


def check(calls, precision):
    """Refuses networks that answer differently because pixels move in another way.

    Raises:
        ValueError: If they differ by more than `BOUNDS`.
    """
    answers = {name: np.asarray(calls[name](), "float32") for name in WAYS}
    first, *others = answers
    for name in others:
        found = compare(answers[name], answers[first]).relative_difference
        if not found <= BOUNDS[precision]:
            raise ValueError(
                f"{name} must answer as {first} does in {precision}, but for "
                f"{BOUNDS[precision]:g} of the largest output. Received: a difference "
                f"of {found:.2g} of it"
            )


def measure(precision, cases, size, rounds):
    """Yields the rows of every case of one precision."""
    common = {"device": device(), "versions": texts(versions())}
    compiled = programs(precision, cases, size)
    for (mode, batch), calls in compiled.items():
        if mode == "inference":
            check(calls, precision)
        timings = time_alternately(calls, rounds)
        yield [
            {
                "mode": mode,
                "precision": precision,
                "batch": batch,
                "network": name,
                "ratio": timing.ratio,
                "ratio_low": timing.ratio_low,
                "ratio_high": timing.ratio_high,
                "ms": timing.median * 1e3,
                "images_per_second": batch / timing.median,
                **common,
            }
            for name, timing in timings.items()
        ]


def texts(numbers):
    """Returns one line of versions."""
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def table_of(rows):
    """Returns the table that is printed."""
    table = rich.table.Table(
        title=rows[0]["device"],
        caption=f"Time / {BASELINE}'s: median (quartiles) of ratios round by round.",
    )
    columns = ("mode", "precision", "batch", "network")
    for column in columns:
        table.add_column(column)
    for column in ("images/s", "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            *(str(row[column]) for column in columns),
            f"{row['images_per_second']:.0f}",
            f"{row['ratio']:.3f} ({row['ratio_low']:.3f}-{row['ratio_high']:.3f})",
        )
    return table


def main(arguments):
    """Measures, prints and writes everything."""
    if keras.backend.backend() != "jax":
        raise SystemExit(
            "This times JAX: set the environment variable KERAS_BACKEND=jax. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    cases = [("inference", batch) for batch in arguments.batch]
    cases += [("training", batch) for batch in arguments.training_batch]
    cases.sort(key=lambda case: case[1])
    rows = []
    try:
        for precision in arguments.precision:
            for some in measure(precision, cases, arguments.size, arguments.rounds):
                rows += some
                write(rows, arguments.output)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    console = rich.console.Console(width=110)
    console.print(table_of(rows))
    console.print(f"Written to {arguments.output}", soft_wrap=True)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, nargs="*", default=(1, 16, 256))
    parser.add_argument("--training-batch", type=int, nargs="*", default=(32, 256))
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS
    )
    parser.add_argument("--size", type=int, default=224, help="pixels of a side")
    parser.add_argument("--output", type=Path, default=Path("accelerator.csv"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
