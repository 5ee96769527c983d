"""How many images may be dropped at once, and of what size. A file of its own: the tab says it without loading what reads images."""

FILE_BYTES, FILES, DROP_BYTES = 64 * 10**6, 2000, 2 * 10**9
LIMITS = (
    "At most 2,000 files and 2 GB can be dropped, of 64 MB each. Put more into a folder on the machine that trains, and name that folder."
)
