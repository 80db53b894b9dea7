"""What `trigbench new` writes, as files that run as they stand: `mine` becomes the name that is asked for."""
