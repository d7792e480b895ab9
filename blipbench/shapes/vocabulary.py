"""The words of the shapes world as a WordPiece vocabulary for tiny models: a few hundred entries (BERT has 30,522).

Every word of the captions, prompts, questions, answers, sentences and web captions is one token. All other words are
split into letters and digits, alone and as continuations, so no lower-case text becomes [UNK].
"""

import string

from blipbench.shapes import captions, clips, questions, scene, statements, web
from blipbench.shapes.words import BACKWARD, FORWARD, NUMBERS, plural, words_in

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PROMPT = "a picture of "  # the reference's prompt, for captioners that are trained with it
ARTICLES = ("a", "an", "the", "is", "are")


def shapes_vocabulary() -> list[str]:
    """The lines of vocab.txt, always the same. The tokenizer adds [DEC] and [ENC], so they are not included."""
    words = words_in(
        [
            PROMPT,
            *ARTICLES,
            *NUMBERS,
            *(name for names in (scene.SHAPES, scene.COLOURS, scene.TEXTURES, scene.TONES) for name in names),
            *(plural(shape) for shape in scene.SHAPES),
            *(phrase for phrases in (FORWARD, BACKWARD) for options in phrases.values() for phrase in options),
            *captions.PATTERNS,
            *(pattern for patterns in captions.WHOLE.values() for pattern in patterns),
            *(captions.COUNTED, captions.BACKDROP, captions.PLAIN, *captions.PATTERNED, *captions.SIZES),
            *questions.TEMPLATES,
            *(word for pair in questions.SAME.items() for word in pair),
            *questions.ANSWER_LIST,
            *statements.TEMPLATES,
            *(clips.STILL, clips.TOGETHER, *clips.STEPS),
            *web.JUNK,
        ]
    )
    characters = [*string.ascii_lowercase, *string.digits]
    continued = [f"##{character}" for character in characters]
    return [*SPECIAL, *string.punctuation, *characters, *continued, *sorted(words - {*string.punctuation, *characters})]
