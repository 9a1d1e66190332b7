"""What leaves: a trained network as an ONNX file, a C header, JavaScript or Python. A format is one file here."""
