"""The way back from a tensor to the inputs that it is computed from."""

import keras

from keras_shift.graph_walk import source_inputs


def test_each_input_once():
    one, other = keras.Input((2,)), keras.Input((2,))
    assert source_inputs(one) == [one]
    both = keras.layers.Add()([one, keras.layers.ReLU()(other)])
    assert source_inputs(keras.ops.concatenate([both, one])) == [one, other]


def test_every_call_once():
    """There are 2 ** 60 ways back here."""
    images = x = keras.Input((2,))
    for _ in range(60):
        x = keras.layers.Add()([x, x])
    assert source_inputs(x) == [images]
