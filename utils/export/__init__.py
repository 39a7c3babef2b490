"""ONNX graphs and measurements for export_weights.py.

onnx_graphs.py  the generator as two ONNX graphs
audio_norm.py   largest norm of the audio embeddings on the training's speech
"""
