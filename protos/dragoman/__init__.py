"""The public API of Dragoman, generated from the protos beside this file."""
