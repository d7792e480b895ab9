"""The shapes world: a miniature data set for each benchmark, generated in the benchmark's own file format.

scene.py defines scenes and the combinations that are held out. sampling.py samples a scene from its number, and draw.py
draws it. captions.py, questions.py, statements.py, clips.py and web.py make the texts, each for one benchmark.
vocabulary.py lists the words. annotations.py, pictures.py and make.py write the data set to disk.
"""

from blipbench.shapes.make import make_shapes, split_sizes
from blipbench.shapes.vocabulary import shapes_vocabulary

__all__ = ["make_shapes", "shapes_vocabulary", "split_sizes"]
