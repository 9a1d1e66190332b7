"""Kinds of layers, a file each: what tensors and buffers a layer has, and its forward, delta, gradient and cost.

A new kind is a file here, its twin in `reference`, and a class of settings in `fastnn.settings.layers`. The passes walk
a list of layers, and each layer says which others it reads.
"""
