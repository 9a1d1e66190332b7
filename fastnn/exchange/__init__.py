"""What leaves and enters: trained networks as ONNX, C, JavaScript and Python. A format is one file here."""
