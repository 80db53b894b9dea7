"""The functional core: tensors in, tensors out; no files, devices, clocks or global randomness."""
