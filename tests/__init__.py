"""The tests of core/ and of workflow/."""

import sys

COMPILED_IS_LOST = sys.dont_write_bytecode
"""Whether the environment says so."""
sys.dont_write_bytecode = False  # until all is collected: compiling, hypothesis too, would be half of the collection
