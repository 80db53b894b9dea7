"""The functional core: tensors in, tensors out; no files, devices, clocks or global randomness."""

if __name__ == "core":  # the checkout's short name for trigbench.core
    from trigbench._short import stand_for

    stand_for("core")
