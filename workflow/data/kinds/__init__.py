"""The kinds of data (workflow.study.kinds), each at home here: a folder, whose kind.py takes no torch, or one file."""
