"""What a face has behind its lips: teeth, gums and tongue, after ICT-FaceKit."""
