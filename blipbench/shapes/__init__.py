"""The shapes world: a miniature of the benchmarks' data, generated in their own on-disk formats.

scene.py says what a scene is and which combinations are held out; sampling.py makes one from a number, draw.py its
picture. captions.py, questions.py, statements.py, clips.py and web.py put scenes into words, each for one benchmark;
vocabulary.py lists the words. annotations.py and make.py write it all to disk.
"""

from blipbench.shapes.make import make_shapes, split_sizes
from blipbench.shapes.vocabulary import shapes_vocabulary

__all__ = ["make_shapes", "shapes_vocabulary", "split_sizes"]
