"""Samples as the kernels read them: arrays, streams, files of the IDX format."""
