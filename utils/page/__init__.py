"""The page behind app.py.

build.py          the Gradio app
layout.py         components and their positions
handlers.py       what happens on upload, choice, dub and cancel
session.py        what is kept of one browser window
engine.py         calls the dubbing engine
device_queue.py   one dub at a time
folder.py         uploads and results
option_fields.py  fields made from the options of inference.py
texts.py          English and Chinese texts
errors_zh.py      errors of the engine in Chinese
html.py           small pieces of HTML
pictures.py       thumbnails
previews.py       the source as browsers can play it
browser.py        CSS and JavaScript
limits.py         length of uploads
settings.py       options
"""
