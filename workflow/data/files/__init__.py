"""Images and shards of them, as files."""
