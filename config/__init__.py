"""Option parsers of the scripts; an option's default and help are defined in the settings.py of the code it controls.

parser.py           builds options from settings dataclasses, and fills these
data_folders.py     default folders of the training data
inference.py, training.py, data_processing.py, evaluate.py, benchmark.py, export_weights.py, app.py
                    which script has which settings
"""
