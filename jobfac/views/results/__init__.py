"""The views of what operations on many things did, or would do, and of what searches found."""
