"""A small frozen graph with the tensors of DeepSpeech 0.1."""

from pathlib import Path
from typing import Any

import numpy as np

from utils.speech.deepspeech import import_tensorflow


def write_frozen_graph(path: Path, seed: int = 0, channels: int = 29, names: str = "input_node") -> Path:
    """Write a graph like `output_graph.pb`: a dense layer clipped at 20, a bidirectional LSTM, a dense layer.

    Tensors: `input_node` [1, T, 494], `input_lengths` [1], `logits` [T, 1, 29]; the loops are those of TensorFlow 1.
    `channels` and `names` (of the input) make graphs that are not DeepSpeech's.
    """
    tf = import_tensorflow()
    v1 = tf.compat.v1
    random = np.random.default_rng(seed)

    def weight(*shape: int) -> Any:
        return tf.constant((random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32))

    def lstm(rows: Any, units: int = 16) -> Any:
        kernel = weight(rows.shape[-1] + units, 4 * units)

        def step(state: tuple[Any, Any], row: Any) -> tuple[Any, Any]:
            cell, output = state
            i, j, f, o = tf.split(tf.concat([row, output], 1) @ kernel, 4, axis=1)
            cell = tf.sigmoid(f + 1.0) * cell + tf.sigmoid(i) * tf.tanh(j)
            return cell, tf.sigmoid(o) * tf.tanh(cell)

        start = tf.zeros([1, units])
        return tf.scan(step, rows, initializer=(start, start))[1]

    new_loops = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph:
            inputs = v1.placeholder(tf.float32, [1, None, 494], names)
            lengths = v1.placeholder(tf.int32, [1], "input_lengths")
            hidden = tf.minimum(tf.nn.relu(tf.transpose(inputs, [1, 0, 2]) @ weight(494, 32)), 20.0)
            backward = tf.reverse_sequence(hidden, lengths, seq_axis=0, batch_axis=1)
            backward = tf.reverse_sequence(lstm(backward), lengths, seq_axis=0, batch_axis=1)
            both = tf.concat([lstm(hidden), backward], axis=2)
            tf.identity(both @ weight(32, channels) * 3.0, name="logits")
    finally:
        if new_loops:
            v1.enable_control_flow_v2()
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path
