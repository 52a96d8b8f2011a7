"""Whether TensorFlow is tracing a function that XLA will compile.

A custom op has no XLA kernel, so a layer must know this while it is traced. TensorFlow
offers no public way to ask, so this module looks at private attributes. Where they are
missing, the answer is "no".
"""


def under_xla() -> bool:
    """Returns whether the current TensorFlow graph is one that XLA compiles."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        context = getattr(graph, "_get_control_flow_context", lambda: None)()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False
