"""The imperative shell: files, devices, processes and clocks around the functional core."""
