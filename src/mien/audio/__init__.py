"""Sound in: log-mel steps that line up with video frames, and the encoders that hear them."""
