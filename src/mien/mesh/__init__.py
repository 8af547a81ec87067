"""The face mesh: topology, motion, and retargeting of motion to another face."""
