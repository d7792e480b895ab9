"""The annotation files of the shapes world: turns scenes into the JSON files that the readers expect.

    shapes_karpathy_train.json                [{"image", "caption", "image_id"}], one row per caption
    shapes_twins_train.json                   the rows of images that have a twin with "left" or "above" reversed
    shapes_karpathy_{val,test}.json           [{"image", "caption": [5]}]
    shapes_karpathy_{val,test}_gt.json        COCO's own format; an image's id is the number in its name
    vqa_{train,val,test}.json                 [{"question_id", "question", "answer": [10], "image", "dataset": "vqa"}]
    v2_mscoco_{val2014,test2015}_annotations.json   the same answers with their types, in VQAv2's format
    answer_list.json                          all answers that are correct for some question
    nlvr_{train,dev,test}.json                [{"sentence", "label", "images": [2], "kind"}]
    nocaps_val.json                           [{"image", "img_id"}]
    nocaps_val_captions.json                  COCO's format with "domain", ten captions per image
    msrvtt_test.jsonl                         {"clip_name", "caption"}; clips are videos/<clip_name>.mp4
    shapes_video_train.json                   [{"image", "caption", "image_id"}]: single frames, captions about motion
    shapes_cards_train.json                   the same for cards, one caption each
    shapes_web_train.json                     [{"image", "caption"}]; a share NOISE of them is noise (web.py)
    shapes_web_truth.json                     [{"image", "truth": "clean" | "wrong" | "irrelevant"}], in the same order
    vocab.txt                                 for tiny models

Each function returns the files of one split by name. This module writes nothing to disk.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from blipbench.shapes.captions import CAPTIONS, NOCAPS_CAPTIONS, caption_scene
from blipbench.shapes.cards import sample_card
from blipbench.shapes.clips import sample_clip, sample_clips
from blipbench.shapes.questions import answers_of_people, ask
from blipbench.shapes.sampling import sample_scene, scene_rng
from blipbench.shapes.scene import Scene, domain_of
from blipbench.shapes.statements import make_claims
from blipbench.shapes.web import web_caption

Files = dict[str, Any]

QUESTIONS = {"train": 5, "val": 2, "test": 2}  # per image
SENTENCES = {"train": 5, "val": 1, "test": 1}  # per image
NLVR_NAMES = {"train": "train", "val": "dev", "test": "test"}
VQA_SUBSETS = {"val": "val2014", "test": "test2015"}  # training does not need answer types
CAPTION_RNG, QUESTION_RNG, STATEMENT_RNG = 1, 2, 3  # the `purpose` of `scene_rng`; 0 is the scene itself


def image_name(split: str, index: int) -> str:
    """The path of picture number `index` of a split, relative to the data folder."""
    return f"images/{split}/shapes_{split}_{index:06d}.jpg"


def clip_name(index: int) -> str:
    return f"shapes_clip_{index:06d}"


def split_files(split: str, size: int, seed: int) -> Files:
    """The annotation files of one split of `size` images or clips, by name."""
    return _OF_SPLIT[split](split, size, seed)


def _ordinary(split: str, size: int, seed: int) -> Files:
    scenes = [sample_scene(seed, split, index) for index in range(size)]
    return _retrieval(scenes, split, seed) | _vqa(scenes, split, seed) | _nlvr(scenes, split, seed)


def _retrieval(scenes: Sequence[Scene], split: str, seed: int) -> Files:
    captions = [
        caption_scene(scene, scene_rng(seed, split, index, CAPTION_RNG), CAPTIONS) for index, scene in enumerate(scenes)
    ]
    if split == "train":
        rows = [
            {"image": image_name(split, index), "caption": caption, "image_id": f"shapes_{index:06d}"}
            for index, texts in enumerate(captions)
            for caption in texts
        ]
        turned = {
            image_name(split, i) for i, s in enumerate(scenes) if s.has_twin and s.focus.kind in ("left", "above")
        }
        twins = [row for row in rows if row["image"] in turned]
        return {"shapes_karpathy_train.json": rows, "shapes_twins_train.json": twins}
    return {
        f"shapes_karpathy_{split}.json": [
            {"image": image_name(split, index), "caption": list(texts)} for index, texts in enumerate(captions)
        ],
        f"shapes_karpathy_{split}_gt.json": _coco([{"id": index} for index in range(len(scenes))], captions),
    }


def _coco(images: list[dict[str, Any]], captions: Sequence[Sequence[str]]) -> dict[str, Any]:
    """COCO's format. Image ids and caption ids start at 0."""
    pairs = [(index, caption) for index, texts in enumerate(captions) for caption in texts]
    annotations = [{"id": n, "image_id": index, "caption": caption} for n, (index, caption) in enumerate(pairs)]
    return {"images": images, "annotations": annotations}


def _vqa(scenes: Sequence[Scene], split: str, seed: int) -> Files:
    rows: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    for index, scene in enumerate(scenes):
        rng = scene_rng(seed, split, index, QUESTION_RNG)
        for number, question in enumerate(ask(scene, rng, QUESTIONS[split])):
            people = answers_of_people(question, rng)
            question_id = index * 10 + number
            rows.append(
                {
                    "question_id": question_id,
                    "question": question.text,
                    "answer": people,
                    "image": image_name(split, index),
                    "dataset": "vqa",
                }
            )
            truth.append(
                {
                    "question_id": question_id,
                    "image_id": index,
                    "answer_type": question.answer_type,
                    "multiple_choice_answer": question.answer,
                    "answers": [{"answer": answer, "answer_id": place + 1} for place, answer in enumerate(people)],
                }
            )
    files: Files = {f"vqa_{split}.json": rows}
    if split in VQA_SUBSETS:
        files[f"v2_mscoco_{VQA_SUBSETS[split]}_annotations.json"] = {"annotations": truth}
    return files


def _nlvr(scenes: Sequence[Scene], split: str, seed: int) -> Files:
    claims = make_claims(scenes, scene_rng(seed, split, 0, STATEMENT_RNG), SENTENCES[split])
    return {
        f"nlvr_{NLVR_NAMES[split]}.json": [
            {
                "sentence": claim.sentence,
                "label": str(claim.is_true),
                "images": [image_name(split, claim.left), image_name(split, claim.right)],
                "kind": claim.kind,
            }
            for claim in claims
        ]
    }


def _nocaps(split: str, size: int, seed: int) -> Files:
    scenes = [sample_scene(seed, split, index) for index in range(size)]
    captions = [
        caption_scene(scene, scene_rng(seed, split, index, CAPTION_RNG), NOCAPS_CAPTIONS)
        for index, scene in enumerate(scenes)
    ]
    images = [{"id": index, "domain": domain_of(scene)} for index, scene in enumerate(scenes)]
    return {
        "nocaps_val.json": [{"image": image_name(split, index), "img_id": index} for index in range(size)],
        "nocaps_val_captions.json": _coco(images, captions),
    }


def _web(split: str, size: int, seed: int) -> Files:
    found = [web_caption(sample_scene(seed, split, index), seed, index) for index in range(size)]
    names = [image_name(split, index) for index in range(size)]
    return {
        "shapes_web_train.json": [{"image": n, "caption": c.caption} for n, c in zip(names, found, strict=True)],
        "shapes_web_truth.json": [{"image": n, "truth": c.truth} for n, c in zip(names, found, strict=True)],
    }


def _video(split: str, size: int, seed: int) -> Files:
    clips = sample_clips(seed, split, size)
    return {"msrvtt_test.jsonl": [{"clip_name": clip_name(i), "caption": clip.caption} for i, clip in enumerate(clips)]}


def _motion(split: str, size: int, seed: int) -> Files:
    captions = [sample_clip(seed, split, index).caption for index in range(size)]
    return {"shapes_video_train.json": _one_caption_each(split, captions)}


def _cards(split: str, size: int, seed: int) -> Files:
    captions = [sample_card(seed, split, index).caption for index in range(size)]
    return {"shapes_cards_train.json": _one_caption_each(split, captions)}


def _one_caption_each(split: str, captions: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"image": image_name(split, index), "caption": caption, "image_id": f"{split}_{index:06d}"}
        for index, caption in enumerate(captions)
    ]


_OF_SPLIT: Mapping[str, Callable[[str, int, int], Files]] = {
    "train": _ordinary,
    "val": _ordinary,
    "test": _ordinary,
    "web": _web,
    "nocaps": _nocaps,
    "video": _video,
    "motion": _motion,
    "cards": _cards,
}
