"""The page behind app.py.

build.py          the Gradio app
layout.py         components and where they stand
handlers.py       what happens on upload, choice, dub and cancel
engine.py         calls the dubbing engine
device_queue.py   one dub at a time
folder.py         uploads and results
option_fields.py  fields made from the options of inference.py
texts.py          English and Chinese texts
html.py           small pieces of HTML
pictures.py       thumbnails
browser.py        CSS and JavaScript
limits.py         length of uploads
settings.py       options
"""
