"""Finished benchmarks that travel: one small file each, packed, read as foreign bytes, compared with one's own, shown.

``packing.py`` makes an archive of a folder of results, ``format.py`` writes and reads the file, ``evidence.py`` is what
it keeps of single images, so that they can be sampled again and compared; ``elsewhere.py`` decides which of its cells
can stand beside one's own, and ``site.py`` renders many into a site. docs/sharing.md says how they are used.
"""
