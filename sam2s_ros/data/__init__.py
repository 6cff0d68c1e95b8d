"""Training clips: synthetic surgery, real sequences and stills set in motion; and long synthetic surgeries.

NumPy and OpenCV, no torch. `clips.make_mixture` builds the source that training samples from, `sequences` renders
synthetic videos for validation and demonstrations, `long_videos` surgeries of minutes that `write_videos` writes to
folders, `readers` opens the public data sets.
"""
