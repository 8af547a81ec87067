"""The mesh of a face: how it is laid out, what moves in it, and whom that motion is given to."""
