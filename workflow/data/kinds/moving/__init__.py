"""Moving shapes: small videos whose motion is known exactly."""
