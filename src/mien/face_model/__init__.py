"""The interior of the mouth: teeth, gums and tongue, after ICT-FaceKit."""
