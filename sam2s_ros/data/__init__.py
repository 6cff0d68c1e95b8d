"""Training clips: synthetic surgery, real sequences and stills set in motion.

Pure NumPy and OpenCV. `clips.make_mixture` builds the source that training samples from, `sequences` renders
long synthetic videos for validation and demonstrations, `readers` opens the public data sets.
"""
