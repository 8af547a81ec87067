"""Audio features aligned with video frames, audio encoders, and voice activity detection."""
