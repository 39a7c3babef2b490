"""Speech features of audio, indexed by time.

features.py    kinds of features; windows of them at any time
extractor.py   an audio file as features of one kind
mel.py         log-mel spectrogram
mel_stream.py  the same for audio that is still coming (live dubbing)
deepspeech.py  DeepSpeech 0.1, for the published weights
whisper.py     features of Whisper's encoder
"""
